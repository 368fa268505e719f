//! Restoring a backup into a new cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::archive::Archive;
use crate::cluster::{Cluster, StopMode};
use crate::fingerprint::Fingerprint;
use crate::installation::{PgVersion, wal_e_program};
use crate::process::{Finished, ServerUser, run};
use crate::scratch::Scratch;
use crate::wait::wait_for;
use crate::wal_e::wal_e;

/// A `backup-fetch` to be run.
#[derive(Debug)]
pub struct Restore {
    version: PgVersion,
    backup: String,
    options: Vec<String>,
    decides_archiving: bool,
    scratch: Scratch,
}

impl Restore {
    /// Fetches the newest backup.
    pub fn latest(version: PgVersion) -> Restore {
        Restore::of(version, "LATEST")
    }

    /// Fetches the newest backup from which the target can be reached, and sets recovery up.
    pub fn auto(version: PgVersion) -> Restore {
        Restore::of(version, "AUTO")
    }

    /// Fetches the backup `name`.
    pub fn of(version: PgVersion, name: &str) -> Restore {
        let scratch = Scratch::new();
        let (backup, options) = (name.to_owned(), Vec::new());
        Restore { version, backup, options, decides_archiving: false, scratch }
    }

    /// An option with its value.
    pub fn option(mut self, name: &str, value: impl Into<String>) -> Restore {
        self.options.push(name.to_owned());
        self.options.push(value.into());
        self
    }

    /// Leaves it to the program whether the restored cluster archives.
    pub fn deciding_archiving(mut self) -> Restore {
        self.decides_archiving = true;
        self
    }

    /// An option without a value.
    pub fn flag(mut self, name: &str) -> Restore {
        self.options.push(name.to_owned());
        self
    }

    /// Puts the tablespace that was at `location` into a directory of the restored cluster's
    /// scratch named `name`.
    pub fn tablespace(self, location: &Path, name: &str) -> Restore {
        let new = self.scratch.path().join(name);
        self.option("--tablespace-mapping", format!("{}={}", location.display(), new.display()))
    }

    /// Where the data directory will be.
    pub fn target(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// Directories of the restored cluster.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The program, not yet run.
    pub fn command(&self, archive: &Archive) -> Command {
        let mut command = wal_e(archive);
        command.arg("backup-fetch").arg(self.target()).arg(&self.backup).args(&self.options);
        // The clusters of most tests archive to the prefix of the original on purpose.
        if !self.options.iter().any(|option| option == "--archive-mode") && !self.decides_archiving
        {
            command.args(["--archive-mode", "preserve"]);
        }
        command
    }

    /// Runs the program; it may fail.
    pub fn run(&self, archive: &Archive) -> Finished {
        run(&mut self.command(archive))
    }

    /// Fetches the backup, and hands out the cluster, which is not yet started.
    ///
    /// When no recovery option was given, recovery goes on to the end of the
    /// archived WAL, set up here as a user does it by hand.
    #[track_caller]
    pub fn fetch(self, archive: &Archive) -> Cluster {
        self.fetch_with(archive, |_| ())
    }

    /// As [`fetch`](Self::fetch), where `prepare` puts into the fetched data directory what
    /// the backup lacks and a server needs.
    #[track_caller]
    pub fn fetch_with(self, archive: &Archive, prepare: impl FnOnce(&Path)) -> Cluster {
        self.run(archive).success();
        let data = self.target();
        prepare(&data);
        let sets_up =
            |option: &String| option.starts_with("--recovery-target") || option == "--standby";
        if self.backup != "AUTO" && !self.options.iter().any(sets_up) {
            let signal = data.join("recovery.signal");
            fs::write(&signal, "").expect("a file of the data directory can be written");
            ServerUser::get().own(&signal);
        }
        let cluster = Cluster::adopt(self.version, self.scratch, data);
        cluster.configure(&format!("restore_command = '{}'", restore_command(archive)));
        cluster
    }

    /// The cluster that was fetched, with nothing set up.
    pub fn adopt(self) -> Cluster {
        let data = self.target();
        Cluster::adopt(self.version, self.scratch, data)
    }

    /// Fetches the backup, starts the cluster and waits until recovery is over.
    #[track_caller]
    pub fn recover(self, archive: &Archive) -> Cluster {
        let mut cluster = self.fetch(archive);
        cluster.start();
        cluster.wait_for_end_of_recovery();
        cluster
    }

    /// As [`recover`](Self::recover), of a cluster that does not archive: the archive stays
    /// as it is, and no other restore follows the timeline that begins here.
    #[track_caller]
    pub fn recover_beside(self, archive: &Archive) -> Cluster {
        self.recover_beside_with(archive, |_| ())
    }

    /// As [`recover_beside`](Self::recover_beside), where `prepare` does what it does for
    /// [`fetch_with`](Self::fetch_with).
    #[track_caller]
    pub fn recover_beside_with(self, archive: &Archive, prepare: impl FnOnce(&Path)) -> Cluster {
        let mut cluster = self.fetch_with(archive, prepare);
        cluster.configure("archive_mode = off");
        cluster.start();
        cluster.wait_for_end_of_recovery();
        cluster
    }
}

/// A `restore_command` that fetches from `archive`, without quotes around it.
pub fn restore_command(archive: &Archive) -> String {
    let options = archive.program_options().join(" ");
    format!("{} {options} wal-fetch \"%f\" \"%p\"", wal_e_program().display())
}

impl Cluster {
    /// Asserts that a restored cluster has the data of `expected`, takes writes, and that
    /// its heaps, indexes, page checksums and permissions are sound. Stops it.
    #[track_caller]
    pub fn assert_restored(&mut self, expected: &Fingerprint) {
        assert_eq!(&self.fingerprint(), expected);
        self.amcheck();
        self.execute("CREATE TABLE after_restore AS SELECT 1 AS one");
        assert!(self.has_sound_permissions());
        self.stop(StopMode::Fast);
        self.check_page_checksums().success();
    }

    /// Waits until the server has ended recovery and takes writes.
    #[track_caller]
    pub fn wait_for_end_of_recovery(&self) {
        wait_for("the end of recovery", || {
            let answer = self.try_query("postgres", "SELECT pg_is_in_recovery()");
            answer.is_ok_and(|rows| rows[0][0].as_deref() == Some("f"))
        });
    }

    /// Waits until recovery has reached its target and pauses there.
    #[track_caller]
    pub fn wait_for_recovery_pause(&self) {
        wait_for("the pause of recovery at its target", || {
            let answer = self.try_query("postgres", "SELECT pg_get_wal_replay_pause_state()");
            answer.is_ok_and(|rows| rows[0][0].as_deref() == Some("paused"))
        });
    }
}
