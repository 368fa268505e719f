//! wal_e measured against its peers, in one run.
//!
//! Tasks that an administrator waits for: a backlog of WAL segments is archived
//! (against `cp`, pgBackRest, wal-rus, and the CPU time of bare `lz4`), a single segment
//! is acknowledged (against a bare PUT), a base backup is taken and restored (against
//! pgBackRest, and what the disk and `lz4` can do), and so is one of what has changed
//! (against a full one, and pgBackRest), archived WAL is replayed (against `cp`), a large
//! archive is looked at and cleared. And what full-page images and encryption cost.
//! Prints tables of medians, writes all of it as JSON, and judges nothing: two cores of
//! one machine prove nothing by themselves. `wal-e-bench --help` lists the options.
#![allow(clippy::print_stdout, reason = "the tables are what this program is for")]

mod acknowledge;
mod backlog;
mod bare;
mod catalogue;
mod contender;
mod disk;
mod encryption;
mod images;
mod incremental;
mod load;
mod machine;
mod meter;
mod on_one_cluster;
mod options;
mod pgbackrest;
mod recovery;
mod replay;
mod report;
mod statistics;
mod status_marks;
mod table;
mod wal_e;
mod wal_rus;

use clap::Parser;

use options::{Options, Task};
use report::Report;

/// Tar partitions, or processes of a base backup or a restore, at a time.
pub const PROCESSES: u32 = 4;

/// WAL segments at a time, for those who archive several.
pub const WAL_PROCESSES: u32 = 8;

/// As a production server would have it where it matters for archiving.
pub const SERVER: [&str; 11] = [
    "fsync = on",
    "shared_buffers = '256MB'",
    "max_wal_size = '16GB'",
    "checkpoint_timeout = '1d'",
    // The backlog is archived again by each contender.
    "wal_keep_size = '16GB'",
    "autovacuum = off",
    "synchronous_commit = off",
    "archive_mode = on",
    // Archives nothing, and says that it is done, while the data is loaded.
    "archive_command = 'true'",
    "archive_library = ''",
    "max_worker_processes = 8",
];

const NOTES: &str = "
Each figure is the median of the rounds; \"x\" is that median divided by the one of the row that is named.
CPU: user and system time of the tool's processes, and of the server's on its behalf; GB: 10^9 bytes of WAL.
memory: the most at one time, summed over the tool's processes; for processes of the server, what they hold
above an idle one. largest: the most that one of them held at any time; of wal_e in the server, the archiver
while it archives, and the worker of the base backup.
The S3 server and the proxy before it are in this process: what they use of the cores is not counted, but
it is not there for the tool either.";

fn main() {
    let options = Options::parse();
    meter::adopt_orphans();
    let mut report = Report::new(&options);
    println!("{report}");
    if options.wants(Task::Catalogue) {
        report.add(&catalogue::measure(&options));
    }
    if options.wants(Task::Replay) {
        report.add(&replay::measure(&options));
    }
    if options.wants(Task::Acknowledge) {
        report.add(&acknowledge::measure(&options));
    }
    if options.wants(Task::Images) {
        report.add(&images::measure(&options));
    }
    if options.wants(Task::Backlog) || options.wants(Task::BaseBackup) {
        for table in on_one_cluster::measure(&options) {
            report.add(&table);
        }
    }
    if options.wants(Task::Incremental) {
        for table in incremental::measure(&options) {
            report.add(&table);
        }
    }
    if options.wants(Task::Encryption) {
        report.add(&encryption::measure(&options));
    }
    println!("{NOTES}");
}
