//! Arguments of the commands for base backups.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use wal_e_core::config::{Exclusions, Setting};
use wal_e_core::restore::ArchiveMode;

use super::recovery_options::{RecoveryOptions, TargetOptions};
use super::store_options::CompressionOptions;
use super::tablespace_options::{self, TablespaceOptions};
use super::values::{archive_mode, default_number, exclusions, one_line, placeholder, within};

/// WAL-G's words for it, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeltaOrigin {
    Latest,
    LatestFull,
}

#[derive(Debug, Args)]
pub struct BackupPush {
    /// Data directory of the server
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    #[arg(
        short = 'p', long = Setting::BackupConcurrency.option(), help = Setting::BackupConcurrency.help(),
        value_name = placeholder(Setting::BackupConcurrency),
        default_value_t = default_number(Setting::BackupConcurrency),
        value_parser = within::<u16>(Setting::BackupConcurrency)
    )]
    pub pool_size: u16,

    #[arg(
        long = Setting::BackupReadRateLimit.option(), help = Setting::BackupReadRateLimit.help(),
        value_name = placeholder(Setting::BackupReadRateLimit),
        value_parser = within::<u64>(Setting::BackupReadRateLimit)
    )]
    pub cluster_read_rate_limit: Option<u64>,

    #[arg(
        long = Setting::UploadRateLimit.option(), help = Setting::UploadRateLimit.help(),
        value_name = placeholder(Setting::UploadRateLimit),
        value_parser = within::<u64>(Setting::UploadRateLimit)
    )]
    pub upload_rate_limit: Option<u64>,

    #[arg(
        long = Setting::BackupExclude.option(), help = Setting::BackupExclude.help(),
        value_name = placeholder(Setting::BackupExclude), default_value = "", value_parser = exclusions
    )]
    pub exclude: Exclusions,

    /// Label of the backup, as in backup_label
    #[arg(long, value_name = "TEXT", default_value = "wal_e", value_parser = one_line)]
    pub label: String,

    /// Keep this backup when old ones are deleted
    #[arg(long)]
    pub permanent: bool,

    /// Store only what has changed since the latest backup, where that is certain
    #[arg(long)]
    pub delta: bool,

    #[arg(
        long = Setting::BackupMaxDeltas.option(), help = Setting::BackupMaxDeltas.help(),
        value_name = placeholder(Setting::BackupMaxDeltas),
        value_parser = within::<u32>(Setting::BackupMaxDeltas)
    )]
    pub delta_max_steps: Option<u32>,

    /// What an incremental backup builds on: the latest backup, or the full one that it builds on
    #[arg(long, value_name = "LATEST|LATEST_FULL", default_value = "LATEST", ignore_case = true)]
    pub delta_origin: DeltaOrigin,

    /// Begin with a spread checkpoint: gentler, but it may take minutes to begin
    #[arg(long)]
    pub spread_checkpoint: bool,

    #[command(flatten)]
    pub compression: CompressionOptions,
}

#[derive(Debug, Args)]
pub struct BackupFetch {
    /// Directory to restore into; created if it does not exist
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// Name of the backup; LATEST; or AUTO for the newest from which the target can be reached
    #[arg(value_name = "NAME|LATEST|AUTO")]
    pub name: String,

    /// Tar partitions that are read at the same time
    #[arg(
        short = 'p', long, value_name = "N",
        default_value_t = default_number(Setting::BackupConcurrency),
        value_parser = within::<u16>(Setting::BackupConcurrency)
    )]
    pub pool_size: u16,

    #[command(flatten)]
    pub tablespaces: TablespaceOptions,

    /// Restore the tablespaces where FILE says, a JSON object like the "Spec" of a
    /// sentinel: {"tablespaces": ["16384"], "16384": {"loc": "/new/place"}}; those
    /// that it does not name go where they were. With SOURCE, all do
    #[arg(
        long, value_name = "FILE|SOURCE",
        conflicts_with_all = ["tablespace_mapping", "tablespace_mapping_all", "blind_restore"]
    )]
    pub restore_spec: Option<String>,

    /// Make pg_wal a link to DIRECTORY, which is empty or does not exist yet
    #[arg(long, value_name = "DIRECTORY", value_parser = tablespace_options::absolute)]
    pub waldir: Option<PathBuf>,

    /// Go on with a restore that was interrupted, given the same options: only what
    /// is missing or damaged is fetched, and what does not belong to the backup is
    /// removed. LATEST and AUTO mean the backup whose restore was begun
    #[arg(long)]
    pub resume: bool,

    /// Print events as JSON objects, one on each line: "progress" every second, and
    /// "done" or "error" at the end
    #[arg(long)]
    pub json: bool,

    /// Whether the restored cluster archives once it is opened: off, or preserve what its
    /// configuration says. Default: off if WAL was archived in the last six hours
    #[arg(long, value_name = "off|preserve", value_parser = archive_mode)]
    pub archive_mode: Option<ArchiveMode>,

    /// Begin even if there seems to be too little free space, for a file system that
    /// compresses
    #[arg(long)]
    pub ignore_free_space: bool,

    /// Directory of the PostgreSQL programs that will run the restored cluster, to compare
    /// their version with the backup's. Default: the directory of wal-e, then PATH
    #[arg(long, value_name = "BINDIR")]
    pub pg_bindir: Option<PathBuf>,

    #[command(flatten)]
    pub recovery: RecoveryOptions,
}

#[derive(Debug, Args)]
pub struct JobHistory {
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct BackupList {
    /// LATEST, or the beginning of the names to list
    #[arg(value_name = "QUERY")]
    pub query: Option<String>,

    /// Show every column
    #[arg(long)]
    pub detail: bool,

    /// Print a JSON array with every column
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct BackupVerify {
    /// Name of the backup, or LATEST
    #[arg(value_name = "NAME|LATEST")]
    pub name: String,

    #[arg(
        short = 'p', long = Setting::BackupConcurrency.option(), help = Setting::BackupConcurrency.help(),
        value_name = placeholder(Setting::BackupConcurrency),
        default_value_t = default_number(Setting::BackupConcurrency),
        value_parser = within::<u16>(Setting::BackupConcurrency)
    )]
    pub pool_size: u16,

    /// Print a JSON object with every check
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct BackupMerge {
    /// Name of the latest backup, an incremental one; or LATEST
    #[arg(value_name = "NAME|LATEST", default_value = "LATEST")]
    pub name: String,

    /// Tar partitions that are read at the same time
    #[arg(
        short = 'p', long, value_name = "N",
        default_value_t = default_number(Setting::BackupConcurrency),
        value_parser = within::<u16>(Setting::BackupConcurrency)
    )]
    pub pool_size: u16,

    #[arg(
        long = Setting::UploadRateLimit.option(), help = Setting::UploadRateLimit.help(),
        value_name = placeholder(Setting::UploadRateLimit),
        value_parser = within::<u64>(Setting::UploadRateLimit)
    )]
    pub upload_rate_limit: Option<u64>,

    /// Where changed pages wait, uncompressed and not encrypted, for the rest of their files.
    /// Default: $TMPDIR, or /tmp
    #[arg(long, value_name = "DIRECTORY")]
    pub temporary_directory: Option<PathBuf>,

    #[command(flatten)]
    pub compression: CompressionOptions,
}

#[derive(Debug, Args)]
pub struct RestorePlan {
    /// Name of the backup; LATEST; or AUTO for the newest from which the target can be reached
    #[arg(value_name = "NAME|LATEST|AUTO", default_value = "AUTO")]
    pub name: String,

    #[command(flatten)]
    pub target: TargetOptions,

    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}
