//! Arguments of the commands for WAL files.

use std::path::PathBuf;

use clap::Args;
use wal_e_core::config::Setting;

use super::store_options::CompressionOptions;
use super::tablespace_options::TablespaceOptions;
use super::values::{default_number, depth, placeholder, within};

#[derive(Debug, Args)]
pub struct WalPush {
    /// The WAL file (%p)
    #[arg(value_name = "PATH")]
    pub path: PathBuf,

    #[arg(
        short = 'p', long = Setting::WalUploadConcurrency.option(), help = Setting::WalUploadConcurrency.help(),
        value_name = placeholder(Setting::WalUploadConcurrency),
        default_value_t = default_number(Setting::WalUploadConcurrency),
        value_parser = within::<u16>(Setting::WalUploadConcurrency)
    )]
    pub pool_size: u16,

    #[arg(
        long = Setting::UploadRateLimit.option(), help = Setting::UploadRateLimit.help(),
        value_name = placeholder(Setting::UploadRateLimit),
        value_parser = within::<u64>(Setting::UploadRateLimit)
    )]
    pub upload_rate_limit: Option<u64>,

    #[command(flatten)]
    pub compression: CompressionOptions,
}

#[derive(Debug, Args)]
pub struct RecoveryWindow {
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct WalShow {
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct WalVerify {
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct WalRepair {
    /// Data directory of the server
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// Print a JSON array
    #[arg(long)]
    pub json: bool,

    #[arg(
        long = Setting::UploadRateLimit.option(), help = Setting::UploadRateLimit.help(),
        value_name = placeholder(Setting::UploadRateLimit),
        value_parser = within::<u64>(Setting::UploadRateLimit)
    )]
    pub upload_rate_limit: Option<u64>,

    #[command(flatten)]
    pub compression: CompressionOptions,
}

#[derive(Debug, Args)]
pub struct WalFetch {
    /// Name of the WAL file (%f)
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Where to put it (%p)
    #[arg(value_name = "DEST")]
    pub destination: PathBuf,

    /// WAL segments to fetch ahead, into pg_wal/.wal-e/prefetch, when a server in
    /// recovery runs this. 0 turns it off
    #[arg(short = 'p', long, value_name = "N", default_value_t = 8, value_parser = depth())]
    pub prefetch: u16,

    /// Take a missing segment for the end of the WAL, even if there is WAL after it.
    /// Recovery then ends there, without what came after
    #[arg(long)]
    pub end_at_gap: bool,

    #[command(flatten)]
    pub tablespaces: TablespaceOptions,
}

#[derive(Debug, Args)]
pub struct WalPrefetch {
    /// Directory of the server's WAL (pg_wal)
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// The last WAL segment that the server has
    #[arg(value_name = "SEGMENT")]
    pub segment: String,

    /// WAL segments to fetch ahead
    #[arg(short = 'p', long, value_name = "N", default_value_t = 8, value_parser = depth())]
    pub pool_size: u16,

    /// End with this process
    #[arg(long, value_name = "PID")]
    pub server: Option<u32>,
}
