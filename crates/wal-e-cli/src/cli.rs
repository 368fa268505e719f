//! The command line: which commands and options there are, and nothing about what they do.
//!
//! The options of WAL-E 1.1 keep their names and meaning. A secret has no
//! option: it would be visible to every user of the machine.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod backup_commands;
mod conninfo;
mod delete_commands;
mod environment;
mod recovery_options;
mod store_options;
mod tablespace_options;
mod values;
mod wal_commands;

pub use backup_commands::{
    BackupFetch, BackupList, BackupMerge, BackupPush, BackupVerify, DeltaOrigin, JobHistory,
    RestorePlan,
};
pub use delete_commands::{BackupMark, Delete, MakeReport};
pub use recovery_options::RecoveryOptions;
pub use store_options::{CompressionOptions, StoreOptions};
pub use tablespace_options::InUse;
pub use wal_commands::{
    RecoveryWindow, WalFetch, WalPrefetch, WalPush, WalRepair, WalShow, WalVerify,
};

/// The table of exit codes, as `--help` shows it.
pub const EXIT_CODES: &str = include_str!("cli/exit_codes.txt");

/// Continuous archiving, base backups and point-in-time recovery for PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "wal-e", version, after_help = EXIT_CODES, after_long_help = long_help_end())]
pub struct Cli {
    #[command(flatten)]
    pub store: StoreOptions,

    /// Print warnings and errors only
    #[arg(long, global = true)]
    pub terse: bool,

    #[command(subcommand)]
    pub command: Command,
}

/// Shown at the end of `--help`.
fn long_help_end() -> String {
    format!("{}\n{}", environment(), EXIT_CODES)
}

/// The environment variables, as `--help` shows them.
pub fn environment() -> String {
    environment::help()
}

#[derive(Debug, Subcommand)]
// A program has one of it.
#[allow(clippy::large_enum_variant)]
pub enum Command {
    /// Take a base backup of the running server that owns DIR
    BackupPush(BackupPush),
    /// Restore a base backup into DIR: empty, absent, or interrupted (--resume)
    BackupFetch(BackupFetch),
    /// List the base backups that can be restored, oldest first
    BackupList(BackupList),
    /// Read a base backup and its WAL back, to find out whether it could be restored
    BackupVerify(BackupVerify),
    /// Make a full base backup of an incremental one, in the store: no database is read
    BackupMerge(BackupMerge),
    /// Make a base backup permanent, so that no deletion removes it
    BackupMark(BackupMark),
    /// Say what a restore would need and reach, or why it is impossible
    RestorePlan(RestorePlan),
    /// Show to which moments a restore is possible
    RecoveryWindow(RecoveryWindow),
    /// Show the timelines of the archive, and what it lacks of them
    WalShow(WalShow),
    /// Find out whether the archive has all WAL from the oldest usable base backup on
    WalVerify(WalVerify),
    /// Archive again what the archive lacks and the server of DIR still has
    WalRepair(WalRepair),
    /// Show what servers did by schedule, newest first
    JobHistory(JobHistory),
    /// Make one page of HTML about the archive: backups, WAL, recovery window, retention, runs
    Report(MakeReport),
    /// Show which base backups and which WAL are not needed any more; with --confirm, delete them
    Delete(Delete),
    /// Archive one WAL file: archive_command = 'wal-e ... wal-push %p'
    WalPush(WalPush),
    /// Fetch one WAL file: restore_command = 'wal-e ... wal-fetch "%f" "%p"'
    WalFetch(WalFetch),
    /// Fetch the WAL after SEGMENT ahead of a server in recovery; started by wal-fetch
    #[command(hide = true)]
    WalPrefetch(WalPrefetch),
    /// Print the version
    Version,
    /// Write the manual pages and the completions of shells into DIR; for packages
    #[command(hide = true)]
    Generate(Generate),
}

#[derive(Debug, Args)]
pub struct Generate {
    /// Made if it is absent
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

#[cfg(test)]
mod tests;
