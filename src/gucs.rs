//! Every setting. All belong to the server as a whole: they are set in
//! `postgresql.conf` or with `ALTER SYSTEM` and take effect on a reload, never
//! within an object that is on its way. None of them is a secret.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use wal_e_core::base_backup::PushOptions;
use wal_e_core::codec::{Compression, Encoding};
use wal_e_core::config::{EnvDir, Prefix, S3Config, StoreConfig};
use wal_e_core::{Error, ErrorKind, Result};

use crate::pg::guc_hooks;

type Text = GucSetting<Option<CString>>;

/// Where this cluster archives; empty means "not configured".
static PREFIX: Text = Text::new(Some(c""));
/// Directory with one file for each variable; empty means the AWS default chain.
static ENV_DIR: Text = Text::new(Some(c""));
static S3_ENDPOINT: Text = Text::new(Some(c""));
static S3_REGION: Text = Text::new(Some(c""));
static S3_FORCE_PATH_STYLE: GucSetting<PathStyle> = GucSetting::<PathStyle>::new(PathStyle::Auto);
static S3_CA_FILE: Text = Text::new(Some(c""));
static S3_STORAGE_CLASS: Text = Text::new(Some(c""));
static S3_SSE: Text = Text::new(Some(c""));
static S3_SSE_KMS_KEY_ID: Text = Text::new(Some(c""));
static COMPRESSION: GucSetting<Method> = GucSetting::<Method>::new(Method::Lz4);
/// 0 is the method's own default. Which levels there are depends on the method, and
/// a check of one setting cannot know what the other is about to become.
static COMPRESSION_LEVEL: GucSetting<i32> = GucSetting::<i32>::new(0);
/// WAL files that are sent at the same time. Enough for 80 segments a second at
/// 100 ms from the store.
static WAL_UPLOAD_CONCURRENCY: GucSetting<i32> = GucSetting::<i32>::new(8);
/// A line for each file, as WAL-E had it: the first thing to look for when something is missing.
static LOG_ARCHIVED_FILES: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Seconds. Long enough for a slow line, short enough that a request which
/// stands still is tried again before anybody worries.
static S3_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30);
/// Tar partitions in flight. Each holds a few parts in memory: 4 keeps a
/// network busy and stays under 100 MB.
static BACKUP_CONCURRENCY: GucSetting<i32> = GucSetting::<i32>::new(4);
/// kB/s for the whole backup, however many partitions share it; 0 is no limit.
static BACKUP_READ_RATE_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(0);
/// MB. As WAL-G and WAL-E have it: large enough that a TB is a thousand objects.
static TAR_SIZE_THRESHOLD: GucSetting<i32> = GucSetting::<i32>::new(1024);

/// Whether the bucket is in the path instead of the host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum PathStyle {
    /// In the path when an endpoint is given.
    #[name = c"auto"]
    Auto,
    #[name = c"on"]
    On,
    #[name = c"off"]
    Off,
    #[name = c"true"]
    #[hidden = true]
    True,
    #[name = c"false"]
    #[hidden = true]
    False,
}

/// How objects are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum Method {
    #[name = c"lz4"]
    Lz4,
    #[name = c"zstd"]
    Zstd,
    #[name = c"none"]
    None,
}

/// Defines the settings. Once in each process that loads the library.
pub fn register() {
    let only_superusers = GucFlags::SUPERUSER_ONLY;
    let text = |name, setting, short, long| {
        let context = GucContext::Sighup;
        GucRegistry::define_string_guc(name, short, long, setting, context, only_superusers);
    };
    let number = |name, setting, low, high, unit, short, long| {
        let (context, flags) = (GucContext::Sighup, only_superusers | unit);
        GucRegistry::define_int_guc(name, short, long, setting, low, high, context, flags);
    };
    guc_hooks::define_checked_text(
        c"wal_e.prefix",
        &PREFIX,
        c"Where this cluster keeps its WAL and base backups.",
        c"\"s3://bucket/path\" or \"file:///absolute/path\". Empty means that archiving waits.",
        guc_hooks::Check::Prefix,
    );
    text(
        c"wal_e.env_dir",
        &ENV_DIR,
        c"Directory with one file for each variable, such as AWS_ACCESS_KEY_ID.",
        c"As daemontools' envdir reads it. Empty means the AWS default credential chain.",
    );
    guc_hooks::define_checked_text(
        c"wal_e.s3_endpoint",
        &S3_ENDPOINT,
        c"URL of an S3 server that is not AWS.",
        c"\"https://host:port\". Empty means AWS.",
        guc_hooks::Check::Endpoint,
    );
    text(
        c"wal_e.s3_region",
        &S3_REGION,
        c"Region of the bucket.",
        c"Empty means the region of the environment, or us-east-1 with an endpoint.",
    );
    GucRegistry::define_enum_guc(
        c"wal_e.s3_force_path_style",
        c"Whether the bucket is in the path of a request instead of the host name.",
        c"\"auto\" means: yes when wal_e.s3_endpoint is set.",
        &S3_FORCE_PATH_STYLE,
        GucContext::Sighup,
        only_superusers,
    );
    text(
        c"wal_e.s3_ca_file",
        &S3_CA_FILE,
        c"PEM file of the authorities that may sign the S3 server's certificate.",
        c"Empty means those that the system trusts.",
    );
    text(
        c"wal_e.s3_storage_class",
        &S3_STORAGE_CLASS,
        c"S3 storage class of new objects.",
        c"Empty means the bucket's default.",
    );
    text(
        c"wal_e.s3_sse",
        &S3_SSE,
        c"Server-side encryption of new objects.",
        c"\"AES256\", \"aws:kms\" or \"aws:kms:dsse\". Empty means the bucket's default.",
    );
    text(
        c"wal_e.s3_sse_kms_key_id",
        &S3_SSE_KMS_KEY_ID,
        c"Key for server-side encryption with \"aws:kms\".",
        c"Empty means the account's default key.",
    );
    GucRegistry::define_enum_guc(
        c"wal_e.compression",
        c"How new objects are compressed.",
        c"Those that are stored already stay as they are, and are read as they are.",
        &COMPRESSION,
        GucContext::Sighup,
        only_superusers,
    );
    number(
        c"wal_e.compression_level",
        &COMPRESSION_LEVEL,
        -5,
        22,
        GucFlags::empty(),
        c"Level of wal_e.compression.",
        c"-5 to 12 for lz4, 1 to 22 for zstd. Zero means the method's own default.",
    );
    number(
        c"wal_e.wal_upload_concurrency",
        &WAL_UPLOAD_CONCURRENCY,
        1,
        64,
        GucFlags::empty(),
        c"WAL files that the archiver uploads at the same time.",
        c"With 1, no file is sent before the server asks for it.",
    );
    GucRegistry::define_bool_guc(
        c"wal_e.log_archived_files",
        c"Whether the server log has a line for each WAL file that was archived.",
        c"With its size, its size in the archive, and how long it took.",
        &LOG_ARCHIVED_FILES,
        GucContext::Sighup,
        only_superusers,
    );
    number(
        c"wal_e.s3_timeout",
        &S3_TIMEOUT,
        1,
        3600,
        GucFlags::UNIT_S,
        c"How long an S3 request may stand still before it counts as failed.",
        c"An answer may take twice as long, and the end of an upload in parts ten times.",
    );
    number(
        c"wal_e.backup_concurrency",
        &BACKUP_CONCURRENCY,
        1,
        64,
        GucFlags::empty(),
        c"Tar partitions that a base backup uploads, or a verification reads, at the same time.",
        c"",
    );
    number(
        c"wal_e.backup_read_rate_limit",
        &BACKUP_READ_RATE_LIMIT,
        0,
        i32::MAX,
        GucFlags::UNIT_KB,
        c"How fast a base backup reads data files, for each second.",
        c"For all tar partitions together. Zero means no limit.",
    );
    number(
        c"wal_e.tar_size_threshold",
        &TAR_SIZE_THRESHOLD,
        1,
        1024 * 1024,
        GucFlags::UNIT_MB,
        c"Size past which a tar partition of a base backup closes.",
        c"",
    );
    guc_hooks::reserve_prefix(c"wal_e");
}

/// Whether a value of `wal_e.prefix` can be parsed; empty can.
pub fn check_prefix(value: &str) -> Result<()> {
    if value.is_empty() { Ok(()) } else { value.parse::<Prefix>().map(|_| ()) }
}

/// Whether a value of `wal_e.s3_endpoint` is a URL; empty will do.
pub fn check_endpoint(value: &str) -> Result<()> {
    let host = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    if value.is_empty() || host.is_some_and(|host| !host.is_empty() && !host.starts_with('/')) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Config, format!("invalid endpoint \"{value}\""))
        .with_detail("An endpoint begins with \"https://\" or \"http://\" and a host name."))
}

fn get(setting: &Text) -> Option<String> {
    let value = setting.get()?;
    let value = value.to_string_lossy();
    (!value.is_empty()).then(|| value.into_owned())
}

/// The prefix that is configured now.
///
/// # Errors
/// [`ErrorKind::Config`] when there is none, or it cannot be parsed.
pub fn prefix() -> Result<Prefix> {
    match get(&PREFIX) {
        Some(value) => value.parse(),
        None => Err(Error::new(ErrorKind::Config, "\"wal_e.prefix\" is not set").with_hint(
            "Set it to \"s3://bucket/path\" or \"file:///absolute/path\" and reload the configuration.",
        )),
    }
}

/// The variables of `wal_e.env_dir`, when it is set.
///
/// # Errors
/// [`ErrorKind::Config`] when it cannot be read.
pub fn env_dir() -> Result<Option<EnvDir>> {
    get(&ENV_DIR).map(|directory| EnvDir::read(Path::new(&directory))).transpose()
}

/// Where objects live and how to reach them, as configured now, with what
/// `wal_e.env_dir` holds now.
///
/// # Errors
/// [`ErrorKind::Config`]: no prefix, a malformed one, an unreadable `env_dir`.
pub fn store_config() -> Result<StoreConfig> {
    let prefix = prefix()?;
    let mut s3 = S3Config {
        endpoint: get(&S3_ENDPOINT),
        region: get(&S3_REGION),
        force_path_style: match S3_FORCE_PATH_STYLE.get() {
            PathStyle::Auto => None,
            PathStyle::On | PathStyle::True => Some(true),
            PathStyle::Off | PathStyle::False => Some(false),
        },
        ca_file: get(&S3_CA_FILE).map(PathBuf::from),
        storage_class: get(&S3_STORAGE_CLASS),
        sse: get(&S3_SSE),
        sse_kms_key_id: get(&S3_SSE_KMS_KEY_ID),
        credentials: None,
        timeout: u64::try_from(S3_TIMEOUT.get()).ok().map(Duration::from_secs),
    };
    if let Some(env_dir) = env_dir()? {
        s3.fill_from_env_dir(&env_dir);
    }
    Ok(StoreConfig { prefix, s3 })
}

/// How new objects are compressed, as configured now.
///
/// # Errors
/// [`ErrorKind::Config`] for a level that the method does not have.
pub fn compression() -> Result<Compression> {
    let encoding = match COMPRESSION.get() {
        Method::Lz4 => Encoding::Lz4,
        Method::Zstd => Encoding::Zstd,
        Method::None => Encoding::None,
    };
    let level = match encoding {
        // A level that is left from another method means nothing.
        Encoding::None => 0,
        _ => COMPRESSION_LEVEL.get(),
    };
    Compression::new(encoding, Some(level)).map_err(|error| {
        error.with_detail(format!(
            "\"wal_e.compression\" is \"{encoding}\", and \"wal_e.compression_level\" is {level}."
        ))
    })
}

/// How many WAL files are sent at the same time.
pub fn wal_upload_concurrency() -> usize {
    usize::try_from(WAL_UPLOAD_CONCURRENCY.get()).unwrap_or(1)
}

/// Whether each archived WAL file is logged.
pub fn log_archived_files() -> bool {
    LOG_ARCHIVED_FILES.get()
}

/// Tar partitions of a base backup in flight.
pub fn backup_concurrency() -> usize {
    usize::try_from(BACKUP_CONCURRENCY.get()).unwrap_or(1)
}

/// How a base backup is taken, as configured now.
///
/// # Errors
/// Those of [`compression`].
pub fn backup_options() -> Result<PushOptions> {
    let rate_limit = u64::try_from(BACKUP_READ_RATE_LIMIT.get()).unwrap_or(0) * 1024;
    Ok(PushOptions {
        concurrency: backup_concurrency(),
        tar_size_threshold_bytes: u64::try_from(TAR_SIZE_THRESHOLD.get()).unwrap_or(1024) << 20,
        compression: compression()?,
        read_rate_limit_bytes_per_second: (rate_limit > 0).then_some(rate_limit),
    })
}
