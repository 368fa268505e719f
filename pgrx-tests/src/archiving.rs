//! What `pg_wal` and the statistics say about archiving.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::cluster::{Cluster, rows};
use crate::wait::{PATIENCE, wait_for, wait_until};

/// How long the tests wait for the archiver: longer than the minute after which
/// it looks for work by itself.
const ARCHIVING_PATIENCE: Duration = Duration::from_secs(90);

impl Cluster {
    /// Ends the current WAL segment and names it. There is something in it: a
    /// switch right after a switch would do nothing.
    #[track_caller]
    pub fn switch_wal(&self) -> String {
        self.write_wal_segments(1)
    }

    /// The name of the WAL segment that is being written.
    #[track_caller]
    pub fn current_segment(&self) -> String {
        self.query_one("SELECT pg_walfile_name(pg_current_wal_lsn())")
    }

    /// Writes `kilobytes` of WAL that no compression makes smaller, and no table.
    #[track_caller]
    pub fn write_incompressible_wal(&self, kilobytes: u32) {
        // "i > 0" makes the inner query run anew for each row.
        self.execute(&format!(
            "SELECT count(pg_logical_emit_message(false, 'noise', (SELECT \
             string_agg(sha512(random()::text::bytea), '') FROM generate_series(1, 1600) WHERE i > 0))) \
             FROM generate_series(1, greatest(1, {kilobytes} / 100)) i"
        ));
    }

    /// Ends `count` WAL segments that have little in them, and names the last.
    #[track_caller]
    pub fn write_wal_segments(&self, count: u32) -> String {
        let mut session = self.client();
        // One statement for both functions, so that they see the same LSN. At a
        // segment's end pg_walfile_name names the segment before.
        let statement = "SELECT pg_logical_emit_message(false, 'noise', repeat(random()::text, 200)); \
                         SELECT pg_walfile_name(pg_switch_wal())";
        let mut last = String::new();
        for _ in 0..count {
            let answer = rows(&mut session, statement).expect("a segment can be ended");
            last = answer[1][0].clone().expect("a segment has a name");
        }
        last
    }

    /// Waits for an archiver after the server restarted its processes. The
    /// postmaster starts a new one no sooner than 10 seconds after the last one,
    /// and only when something wakes it: the connections that this makes do.
    #[track_caller]
    pub fn wait_for_archiver(&self) {
        self.pid_of("archiver");
    }

    /// Names of WAL files that wait to be archived, in their order.
    pub fn ready_files(&self) -> BTreeSet<String> {
        self.archive_status(".ready")
    }

    /// Names of WAL files that the archiver has done and the server still knows.
    pub fn done_files(&self) -> BTreeSet<String> {
        self.archive_status(".done")
    }

    /// Ends the current WAL segment, waits until it and all before it are
    /// archived, and names it.
    #[track_caller]
    pub fn archive_current_wal(&self) -> String {
        let segment = self.switch_wal();
        self.wait_until_archived(&segment);
        segment
    }

    /// Archives all WAL, and removes what a crash of the server would not need, as checkpoints do
    /// it sooner or later.
    #[track_caller]
    pub fn forget_wal(&self) {
        self.archive_current_wal();
        self.execute("CHECKPOINT");
        let redo = self.query_one("SELECT redo_lsn FROM pg_control_checkpoint()");
        let needed = self.query_one(&format!("SELECT pg_walfile_name('{redo}')"));
        // A server that summarizes its WAL keeps what it has not read.
        let summarizes =
            "SELECT 1 FROM pg_settings WHERE name = 'summarize_wal' AND setting = 'on'";
        if !self.query(summarizes).is_empty() {
            let is_read =
                format!("SELECT (pg_get_wal_summarizer_state()).summarized_lsn >= '{redo}'");
            wait_for("all WAL to be summarized", || self.query_one(&is_read) == "t");
        }
        let directory = self.data_directory().join("pg_wal");
        // Where others write meanwhile, the last ones may still wait to be archived.
        let waits = |name: &str| directory.join(format!("archive_status/{name}.ready")).exists();
        for entry in fs::read_dir(&directory).expect("it is there") {
            let path = entry.expect("it can be read").path();
            let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
            if name.len() == 24 && name < needed && !waits(&name) {
                fs::remove_file(path).expect("it can be removed");
            }
        }
    }

    /// Waits until no WAL file up to `name` waits to be archived.
    #[track_caller]
    pub fn wait_until_archived(&self, name: &str) {
        wait_until(&format!("archiving of {name}"), ARCHIVING_PATIENCE, || {
            self.ready_files().iter().all(|ready| ready.as_str() > name).then_some(())
        });
    }

    /// A count of pg_stat_archiver: `archived_count` or `failed_count`.
    #[track_caller]
    pub fn archiver_count(&self, column: &str) -> i64 {
        self.query_one(&format!("SELECT {column} FROM pg_stat_archiver"))
            .parse()
            .expect("a count is a number")
    }

    /// The WAL file that pg_stat_archiver names as the last that failed.
    #[track_caller]
    pub fn last_failed_wal(&self) -> String {
        self.query_one("SELECT last_failed_wal FROM pg_stat_archiver")
    }

    /// Waits until pg_stat_archiver counts more than `count` in `column`.
    #[track_caller]
    pub fn wait_for_archiver_count(&self, column: &str, count: i64) -> i64 {
        wait_until(&format!("{column} above {count} in pg_stat_archiver"), PATIENCE, || {
            Some(self.archiver_count(column)).filter(|now| *now > count)
        })
    }

    /// Waits until the archiver is busy with the WAL file `name`, by its process title.
    #[track_caller]
    pub fn wait_until_archiver_works_on(&self, name: &str) {
        wait_until(&format!("the archiver to begin with {name}"), PATIENCE, || {
            let pid = self.find_pid("archiver")?;
            let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            title.contains(&format!("archiving {name}")).then_some(())
        });
    }

    /// The bytes of a WAL file in `pg_wal`, if it is still there.
    pub fn wal_file(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.data_directory().join("pg_wal").join(name)).ok()
    }

    fn archive_status(&self, suffix: &str) -> BTreeSet<String> {
        let path = self.data_directory().join("pg_wal/archive_status");
        fs::read_dir(&path)
            .unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()))
            .filter_map(|entry| entry.expect("an entry can be read").file_name().into_string().ok())
            .filter_map(|name| Some(name.strip_suffix(suffix)?.to_owned()))
            .collect()
    }
}
