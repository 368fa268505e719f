//! Second servers of one history: a copied data directory, a restored copy.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::judge::Answer;
use super::recovered::{Ended, wait_for_end};
use super::targets::Request;
use super::world::{Role, World, now};
use crate::cluster::Cluster;
use crate::installation::PgVersion;
use crate::process::run;
use crate::restore::Restore;
use crate::scratch::Scratch;
use crate::wait::wait_for;

impl World {
    /// Copies a stopped data directory with its tablespaces and starts the copy, as when a
    /// virtual machine is rolled back.
    pub fn copy_stopped(&mut self, index: usize) {
        let original = &self.nodes[index].cluster;
        // A prefetch that a recovery has begun ends by itself, soon after the server.
        let prefetched = original.data_directory().join("pg_wal/.wal-e");
        wait_for("the end of prefetching", || !prefetched.exists());
        let scratch = Scratch::new();
        let data = scratch.path().join("data");
        copy(original.data_directory(), &data);
        for entry in fs::read_dir(data.join("pg_tblspc")).expect("it can be read").flatten() {
            let link = entry.path();
            let place = fs::read_link(&link).expect("a tablespace is a link");
            let copied = scratch.path().join(place.file_name().expect("a place has a name"));
            copy(&place, &copied);
            fs::remove_file(&link).expect("a link of a scratch directory can be removed");
            symlink(&copied, &link).expect("a link can be made in a scratch directory");
        }
        let mut cluster = Cluster::adopt(original.version(), scratch, data);
        let before = now();
        cluster.start();
        let (branch, of) = (self.nodes[index].branch, self.nodes[index].name);
        let tablespaces = self.nodes[index].tablespaces.clone();
        let added = self.add_node(cluster, Role::Running, branch);
        self.nodes[added].tablespaces = tablespaces;
        self.note(format!("{}: is started, a copy of the stopped {of}", self.nodes[added].name));
        self.begin_branch(added, before);
    }

    /// Restores a copy and lets it archive to the same prefix, if wal_e says that the target
    /// can be reached.
    pub fn restore_copy(&mut self, request: &Request) {
        let Answer::Possible { backup, .. } = self.plan(request) else {
            self.note(format!("(no copy is restored with {request}, which is refused)"));
            return;
        };
        let mut restore = Restore::of(PgVersion::oldest(), &request.backup);
        for (option, value) in request.options() {
            restore = restore.option(option, value);
        }
        if request.has_target() {
            restore = restore.option("--recovery-target-action", "promote");
        }
        if self.knows("backup-fetch", "--archive-mode") {
            restore = restore.option("--archive-mode", "preserve");
        }
        let restore = self.with_places(restore, self.model.backup(&backup));
        let finished = restore.run(&self.archive);
        if !finished.status.success() {
            let why = finished.stderr.replace('\n', " ");
            self.note(format!("(no copy is restored with {request}: {why})"));
            return;
        }
        let mut cluster = restore.adopt();
        // A base backup by schedule has the schedule in it.
        cluster.configure("wal_e.backup_schedule = ''");
        let before = now();
        cluster.spawn();
        match wait_for_end(&mut cluster) {
            Ended::Open(_) => {
                let added = self.add_node(cluster, Role::Running, 0);
                self.note(format!(
                    "{}: is started, restored with {request}",
                    self.nodes[added].name
                ));
                self.begin_branch(added, before);
                self.forget_recovery(added);
                self.wait_for_archiver_of(added);
                self.describe_branch(added);
            }
            Ended::Otherwise(why) => {
                self.note(format!("a copy restored with {request} does not open"));
                self.breach(format!("restored with {request}, a server does not open: {why}"));
            }
        }
    }

    /// Takes the settings of a recovery out again: a standby of this server would obey them.
    fn forget_recovery(&self, index: usize) {
        let cluster = &self.nodes[index].cluster;
        let settings = cluster.query(
            "SELECT DISTINCT name FROM pg_file_settings \
             WHERE name LIKE 'recovery_%' AND sourcefile LIKE '%postgresql.auto.conf'",
        );
        for setting in settings.concat() {
            cluster.execute(&format!("ALTER SYSTEM RESET {setting}"));
        }
    }
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to)).success();
}
