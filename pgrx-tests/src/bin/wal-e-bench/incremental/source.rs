//! How wal_e knows what has changed.

use std::time::Duration;

use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::wait::wait_until;

/// The longest that the server may take to summarize what it has written.
const PATIENCE: Duration = Duration::from_secs(600);

/// A source of changed blocks. A server has the settings of one, so that it is the best that
/// there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// All pages are read.
    PageLsn,
    /// The archiver notes it of each WAL segment.
    ArchiverMaps,
    /// The server keeps a record while it writes WAL.
    WalSummaries,
}

impl Source {
    /// All of them.
    pub const ALL: [Source; 3] = [Source::PageLsn, Source::ArchiverMaps, Source::WalSummaries];

    /// As the table names it.
    pub fn name(self) -> &'static str {
        match self {
            Source::PageLsn => "LSN of each page",
            Source::ArchiverMaps => "archiver's maps",
            Source::WalSummaries => "WAL summaries",
        }
    }

    /// As wal_e names it in the server's log.
    fn in_log(self) -> &'static str {
        match self {
            Source::PageLsn => "the LSN of each page",
            Source::ArchiverMaps => "the archiver's maps of changed blocks",
            Source::WalSummaries => "the server's WAL summaries",
        }
    }

    /// Whether a server of this version has it.
    pub fn is_in(self, version: PgVersion) -> bool {
        match self {
            Source::PageLsn | Source::ArchiverMaps => true,
            Source::WalSummaries => version.has_wal_summaries(),
        }
    }

    /// The lines of `postgresql.conf` with which a server has it.
    pub fn settings(self) -> &'static [&'static str] {
        match self {
            Source::PageLsn => &[],
            Source::ArchiverMaps => &["wal_e.backup_max_deltas = 100"],
            Source::WalSummaries => &["summarize_wal = on"],
        }
    }

    /// Waits until it is as far as the last checkpoint, as it is on a server where the last
    /// change was not just now, and the WAL of the change is gone from the server.
    pub fn wait_until_settled(self, cluster: &Cluster) {
        match self {
            Source::PageLsn | Source::ArchiverMaps => cluster.forget_wal(),
            Source::WalSummaries => {
                let is_there = "SELECT (pg_get_wal_summarizer_state()).summarized_lsn >= redo_lsn \
                                FROM pg_control_checkpoint()";
                wait_until("WAL summaries", PATIENCE, || {
                    (cluster.query_one(is_there) == "t").then_some(())
                });
            }
        }
    }

    /// Asserts that the incremental backup that was taken since the server's log had so many
    /// bytes knew from here what has changed.
    pub fn assert_used(self, cluster: &Cluster, log_offset: usize) {
        // "known from X", or "known from X (why not another)".
        let expected = format!("is known from {}", self.in_log());
        let log = cluster.log().split_off(log_offset);
        assert!(log.contains(&expected), "nothing {expected}:\n{log}");
    }
}
