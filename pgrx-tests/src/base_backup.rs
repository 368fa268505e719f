//! Servers that archive, and base backups of them.

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};

use postgres::CancelToken;

use crate::archive::Archive;
use crate::cluster::{Cluster, ClusterBuilder, SqlFailure, rows};
use crate::wait::wait_for;

/// The backend type of the worker that takes a base backup, as a LIKE pattern
/// for pg_stat_activity.
pub const BACKUP_WORKER: &str = "wal_e%backup%";

/// The backend type of the worker that verifies one.
pub const VERIFY_WORKER: &str = "wal_e verification";

impl ClusterBuilder {
    /// The configuration of a cluster that archives to `archive` with wal_e.
    pub fn archiving_to(self, archive: &Archive) -> Self {
        self.archiving().configuration_lines(archive.settings())
    }

    /// Makes a cluster that archives to `archive`, starts it, and creates the extension.
    #[track_caller]
    pub fn start_archiving_to(self, archive: &Archive) -> Cluster {
        let cluster = self.archiving_to(archive).start();
        cluster.execute("CREATE EXTENSION wal_e");
        cluster
    }
}

impl Cluster {
    /// Takes a base backup and names it.
    #[track_caller]
    pub fn backup_push(&self) -> String {
        self.query_one("SELECT wale_backup_push()")
    }

    /// Takes a base backup in a session of its own.
    pub fn backup_push_in_background(&self) -> BackgroundBackup {
        self.in_background("SELECT wale_backup_push()")
    }

    /// Verifies the latest base backup in a session of its own; the result is how
    /// many checks failed.
    pub fn backup_verify_in_background(&self) -> BackgroundBackup {
        self.in_background("SELECT count(*) FROM wale_backup_verify() WHERE NOT ok")
    }

    fn in_background(&self, sql: &'static str) -> BackgroundBackup {
        let mut client = self.client();
        let cancel = client.cancel_token();
        let session = thread::spawn(move || {
            let answer = rows(&mut client, sql);
            answer.map(|rows| rows[0][0].clone().unwrap_or_default())
        });
        BackgroundBackup { cancel, session }
    }

    /// The columns of `wale_backup_progress()` by name; empty when no backup was taken.
    #[track_caller]
    pub fn backup_progress(&self) -> BTreeMap<String, String> {
        let row = "SELECT key, value FROM wale_backup_progress() p, jsonb_each_text(to_jsonb(p))";
        self.query(row).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
    }

    /// Fills a table with `megabytes` of data that no compression makes smaller.
    #[track_caller]
    pub fn create_incompressible_table(&self, name: &str, megabytes: u32) {
        let rows = megabytes * 1024;
        self.execute(&format!(
            "CREATE TABLE {name} (id int, noise bytea); \
             ALTER TABLE {name} ALTER noise SET STORAGE PLAIN; \
             INSERT INTO {name} SELECT i, \
             (SELECT string_agg(sha512((i * 64 + j)::text::bytea), '') FROM generate_series(1, 15) j) \
             FROM generate_series(1, {rows}) i"
        ));
    }

    /// Waits until a backup worker runs and an upload of a data file is under
    /// way, and hands out the worker's process id.
    #[track_caller]
    pub fn wait_for_running_upload(&self, archive: &Archive) -> i32 {
        let pid = self.pid_of(BACKUP_WORKER);
        self.wait_for_open_upload(archive);
        pid
    }

    /// Waits until a multipart upload is open on the S3 server.
    #[track_caller]
    pub fn wait_for_open_upload(&self, archive: &Archive) {
        wait_for("an open multipart upload", || !archive.unfinished_uploads().is_empty());
    }
}

/// A `wale_backup_push()` or `wale_backup_verify()` under way.
pub struct BackgroundBackup {
    cancel: CancelToken,
    session: JoinHandle<Result<String, postgres::Error>>,
}

impl BackgroundBackup {
    /// Cancels the query.
    pub fn cancel(&self) {
        self.cancel.cancel_query(postgres::NoTls).expect("a cancel request can be sent");
    }

    /// Whether it has ended, well or not.
    pub fn is_finished(&self) -> bool {
        self.session.is_finished()
    }

    /// Waits for the end and hands out what the query returned, or the error.
    #[track_caller]
    pub fn result(self) -> Result<String, postgres::Error> {
        self.session.join().expect("the session's thread does not panic")
    }

    /// Waits for the end, which has to be an error that the server reports.
    #[track_caller]
    pub fn failure(self) -> SqlFailure {
        match self.result() {
            Ok(result) => panic!("the query returned {result} although it must not"),
            Err(error) => SqlFailure::of(&error),
        }
    }
}
