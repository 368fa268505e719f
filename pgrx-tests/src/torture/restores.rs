//! Restores as wal_e sets them up, and by hand.

use std::fs;
use std::path::{Path, PathBuf};

use super::model::Backup;
use super::operations::NO_TARGET;
use super::recovered::{Ended, wait_for_end};
use super::targets::Request;
use super::truth::Truth;
use super::world::World;
use crate::cluster::{Cluster, StopMode};
use crate::fingerprint::Fingerprint;
use crate::installation::PgVersion;
use crate::process::ServerUser;
use crate::restore::{Restore, restore_command};

impl World {
    /// A restore whose tablespaces get places of their own.
    pub fn with_places(&self, mut restore: Restore, backup: Option<&Backup>) -> Restore {
        let locations = backup.map(|backup| backup.tablespaces.clone()).unwrap_or_default();
        for (number, location) in locations.iter().enumerate() {
            restore = restore.tablespace(Path::new(location), &format!("ts{number}"));
        }
        restore
    }

    /// Restores as wal_e says, and sees where the server ends. It archives nothing.
    pub fn restore(&self, request: &Request, backup: &Backup) -> Ended {
        let mut restore = Restore::of(PgVersion::oldest(), &request.backup);
        for (option, value) in request.options() {
            restore = restore.option(option, value);
        }
        if request.has_target() {
            restore = restore.option("--recovery-target-action", "promote");
        }
        if self.knows("backup-fetch", "--archive-mode") {
            restore = restore.option("--archive-mode", "off");
        }
        // Those that are newer than the base backup, too.
        let below = restore.scratch().path().join("newer");
        let restore = self.with_places(restore, Some(backup));
        let restore = restore.option("--tablespace-mapping-all", below.display().to_string());
        let finished = restore.run(&self.archive);
        if !finished.status.success() {
            return Ended::Otherwise(format!("backup-fetch fails: {finished}"));
        }
        let mut cluster = restore.adopt();
        cluster.configure("archive_mode = off");
        if !request.sets_up() {
            let fetch = format!("wal-fetch --tablespace-mapping-all {}", below.display());
            let command = restore_command(&self.archive).replace("wal-fetch", &fetch);
            cluster.configure(&format!("restore_command = '{command}'"));
            self.ask_for_recovery(&cluster);
        }
        cluster.spawn();
        wait_for_end(&mut cluster)
    }

    /// Restores the files of a base backup, sets everything else up by hand, with a
    /// `restore_command` that knows nothing, and sees where the server ends.
    pub fn restore_by_hand(&self, request: &Request, backup: &Backup, truth: &Truth) -> Ended {
        let restore =
            self.with_places(Restore::of(PgVersion::oldest(), &backup.name), Some(backup));
        let finished = restore.run(&self.archive);
        if !finished.status.success() {
            return Ended::Otherwise(format!("backup-fetch fails: {finished}"));
        }
        let mut cluster = restore.adopt();
        cluster.configure("archive_mode = off");
        cluster.configure(&format!("restore_command = '{}'", truth.plain_restore_command()));
        self.ask_for_recovery(&cluster);
        for line in request.settings() {
            cluster.configure(&line);
        }
        cluster.spawn();
        let ended = wait_for_end(&mut cluster);
        drop(cluster);
        self.tablespaces_set_aside().iter().for_each(|place| empty(place));
        ended
    }

    /// What a user sets who asks for recovery by hand.
    fn ask_for_recovery(&self, cluster: &Cluster) {
        for line in NO_TARGET {
            cluster.configure(line);
        }
        cluster.configure("recovery_target_action = 'pause'");
        cluster.configure("max_connections = 200");
        let signal = cluster.data_directory().join("recovery.signal");
        fs::write(&signal, "").expect("a file of the data directory can be written");
        ServerUser::get().own(&signal);
    }

    /// What the running servers have.
    pub fn live_fingerprints(&self) -> Vec<(usize, Fingerprint)> {
        let running = self.running().into_iter();
        running.map(|index| (index, self.nodes[index].cluster.fingerprint())).collect()
    }

    /// The running servers must have on disk what they had.
    pub fn check_live_clusters(&mut self, before: &[(usize, Fingerprint)]) {
        for (index, expected) in before {
            let (index, name) = (*index, self.nodes[*index].name);
            // Started anew, a server reads what is on disk.
            self.nodes[index].cluster.restart();
            let fingerprint =
                std::panic::AssertUnwindSafe(|| self.nodes[index].cluster.fingerprint());
            match std::panic::catch_unwind(fingerprint) {
                Ok(found) if found == *expected => {}
                Ok(found) => self.breach(format!(
                    "restores have changed the live cluster {name}\n  before: {expected:?}\n  after: {found:?}"
                )),
                Err(_) => self.breach(format!("restores have damaged the live cluster {name}")),
            }
        }
    }

    /// Stops all servers, and puts empty directories in the place of their tablespaces: a
    /// server that is recovered by hand creates them anew there.
    pub fn set_tablespaces_aside(&mut self) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].cluster.is_running() {
                self.stop(index, StopMode::Immediate);
            }
        }
        for place in self.tablespaces_set_aside() {
            empty(&place);
        }
    }

    /// Where the history has created tablespaces.
    fn tablespaces_set_aside(&self) -> Vec<PathBuf> {
        let scratches = self.nodes.iter().map(|node| node.cluster.scratch().path());
        let entries = scratches.filter_map(|path| fs::read_dir(path).ok()).flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("ts_"))
            .map(|entry| entry.path())
            .collect()
    }
}

fn empty(directory: &Path) {
    fs::remove_dir_all(directory).expect("a directory of a scratch can be removed");
    ServerUser::get().create_directory(directory, 0o700);
}
