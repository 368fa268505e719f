//! A server whose archive another program keeps, and what became of it.

use std::fs;
use std::path::PathBuf;

use crate::archive::Archive;
use crate::cluster::{Cluster, StopMode};
use crate::fingerprint::Fingerprint;
use crate::installation::PgVersion;
use crate::process::ServerUser;
use crate::scratch::Scratch;
use crate::wal_e::run_wal_e;

use super::{Coding, Snapshot};

/// A running server that archives its WAL by `cp`.
pub struct Source {
    /// The server.
    pub cluster: Cluster,
    wal: PathBuf,
    // Removed last.
    _scratch: Scratch,
}

impl Source {
    /// Starts a server with some tables.
    #[track_caller]
    pub fn start(version: PgVersion) -> Source {
        let scratch = Scratch::new();
        let wal = scratch.create("wal");
        let cluster = Cluster::build(version)
            .configuration("archive_mode = on")
            .configuration(format!("archive_command = 'cp \"%p\" \"{}/%f\"'", wal.display()))
            .start();
        cluster.execute(
            "CREATE TABLE steady AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i; \
             CREATE TABLE changing AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i; \
             CREATE INDEX ON changing (i)",
        );
        Source { cluster, wal, _scratch: scratch }
    }

    /// Copies the files of the server in backup mode.
    #[track_caller]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.cluster)
    }

    /// Puts all WAL until now into `archive`.
    #[track_caller]
    pub fn archive_wal<'a>(&self, archive: &Archive, coding: impl Into<Coding<'a>>) {
        self.cluster.archive_current_wal();
        self.put_wal(archive, coding.into());
    }

    /// Stops the server, and starts it with wal_e as what archives to `archive`, which has
    /// all WAL before that.
    #[track_caller]
    pub fn hand_over<'a>(&mut self, archive: &Archive, coding: impl Into<Coding<'a>>) {
        // Which archives what it has written last.
        self.cluster.stop(StopMode::Fast);
        self.put_wal(archive, coding.into());
        self.cluster.configure("shared_preload_libraries = 'wal_e'");
        self.cluster.configure("archive_command = ''");
        self.cluster.configure("archive_library = 'wal_e'");
        archive.settings().iter().for_each(|line| self.cluster.configure(line));
        self.cluster.start();
        self.cluster.execute("CREATE EXTENSION wal_e");
    }

    #[track_caller]
    fn put_wal(&self, archive: &Archive, coding: Coding<'_>) {
        for entry in fs::read_dir(&self.wal).expect("the WAL can be listed").flatten() {
            let name = entry.file_name().into_string().expect("a name in UTF-8");
            let object = format!("wal_005/{name}{}", coding.suffix());
            if archive.object(&object).is_none() {
                let content = fs::read(entry.path()).expect("a WAL file can be read");
                archive.replace_object(&object, coding.encode(&content));
            }
        }
    }

    /// Writes a file that is not PostgreSQL's into the data directory.
    pub fn write_extra_file(&self, path: &str, content: &str) {
        let path = self.cluster.data_directory().join(path);
        let parent = path.parent().expect("a file has a parent");
        fs::create_dir_all(parent).expect("a directory can be made");
        fs::write(&path, content).expect("a file can be written");
        let mut own = path.as_path();
        while own != self.cluster.data_directory() {
            ServerUser::get().own(own);
            own = own.parent().expect("it lies below the data directory");
        }
    }

    /// What the tables hold.
    #[track_caller]
    pub fn fingerprint(&self) -> Fingerprint {
        self.cluster.fingerprint()
    }
}

/// Asserts that `wal-e backup-verify` finds nothing wrong with a backup.
#[track_caller]
pub fn passes_verification(archive: &Archive, backup: &str) {
    let finished = run_wal_e(archive, ["backup-verify", backup]);
    assert!(finished.status.success(), "{finished}");
    assert!(finished.stdout.contains(" is sound; "), "{finished}");
}
