//! Every setting. All belong to the server as a whole: they are set in
//! `postgresql.conf` or with `ALTER SYSTEM` and take effect on a reload, never
//! within an object that is on its way, but for the [`rate_limits`]. None of them is a secret.

mod schedule;

use std::ffi::{CStr, CString, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use wal_e_core::base_backup::PushOptions;
use wal_e_core::codec::{Compression, Encoding};
use wal_e_core::config::{
    CompressionVariables, Context, Encryption, EncryptionPolicy, Endpoint, EnvDir, Exclusions,
    FileConfig, Misfit, Place, Prefix, S3Config, S3Given, Setting, StoreConfig, StorePlace, Unit,
    Variables,
};
use wal_e_core::{Error, ErrorKind, Result};

pub use schedule::{
    backup_max_replication_lag, backup_wait_for_checkpoint, check_retain_calendar,
    check_retain_window, check_schedule, events_database, retention_policy, role, schedule,
};
pub use wal_e_core::config::check_proxy;

use crate::pg::guc_hooks;
use crate::pg::report::c_text;
use crate::rate_limits::{self, Limited};

type Text = GucSetting<Option<CString>>;

// The names, ranges, defaults and descriptions are in the core's table of settings.
static PREFIX: Text = Text::new(Some(c""));
static ENV_DIR: Text = Text::new(Some(c""));
static S3_ENDPOINT: Text = Text::new(Some(c""));
static S3_REGION: Text = Text::new(Some(c""));
static S3_FORCE_PATH_STYLE: GucSetting<PathStyle> = GucSetting::<PathStyle>::new(PathStyle::Auto);
static S3_CA_FILE: Text = Text::new(Some(c""));
static S3_PROXY: Text = Text::new(Some(c""));
static S3_STORAGE_CLASS: Text = Text::new(Some(c""));
static S3_SSE: Text = Text::new(Some(c""));
static S3_SSE_KMS_KEY_ID: Text = Text::new(Some(c""));
static COMPRESSION: GucSetting<Method> = GucSetting::<Method>::new(Method::Lz4);
static COMPRESSION_LEVEL: GucSetting<i32> = number(Setting::CompressionLevel);
static ENCRYPTION: GucSetting<Encrypts> = GucSetting::<Encrypts>::new(Encrypts::Auto);
static WAL_UPLOAD_CONCURRENCY: GucSetting<i32> = number(Setting::WalUploadConcurrency);
static LOG_ARCHIVED_FILES: GucSetting<bool> = GucSetting::<bool>::new(true);
static S3_TIMEOUT: GucSetting<i32> = number(Setting::S3Timeout);
static BACKUP_CONCURRENCY: GucSetting<i32> = number(Setting::BackupConcurrency);
static BACKUP_READ_RATE_LIMIT: GucSetting<i32> = number(Setting::BackupReadRateLimit);
static UPLOAD_RATE_LIMIT: GucSetting<i32> = number(Setting::UploadRateLimit);
static TAR_SIZE_THRESHOLD: GucSetting<i32> = number(Setting::TarSizeThreshold);
static BACKUP_EXCLUDE: Text = Text::new(Some(c""));
static BACKUP_MAX_DELTAS: GucSetting<i32> = number(Setting::BackupMaxDeltas);
static BACKUP_SCHEDULE: Text = Text::new(Some(c""));
static VERIFY_SCHEDULE: Text = Text::new(Some(c""));
static BACKUP_ROLE: GucSetting<WorkRole> = GucSetting::<WorkRole>::new(WorkRole::Primary);
static BACKUP_MAX_REPLICATION_LAG: GucSetting<i32> = number(Setting::BackupMaxReplicationLag);
static BACKUP_WAIT_FOR_CHECKPOINT: GucSetting<bool> = GucSetting::<bool>::new(false);
static EVENTS_DATABASE: Text = Text::new(Some(c""));
static RETAIN_FULL_BACKUPS: GucSetting<i32> = number(Setting::RetainFullBackups);
static RETAIN_WINDOW: Text = Text::new(Some(c""));
static RETAIN_CALENDAR: Text = Text::new(Some(c""));

/// A number with the default that the table has.
const fn number(setting: Setting) -> GucSetting<i32> {
    GucSetting::<i32>::new(default(setting))
}

const fn default(setting: Setting) -> i32 {
    match setting.number().default {
        Some(default) => as_int(default),
        None => panic!("a setting of the server has a default"),
    }
}

/// PostgreSQL's settings have 32 bits.
const fn as_int(number: i64) -> i32 {
    assert!(i32::MIN as i64 <= number && number <= i32::MAX as i64);
    number as i32
}

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

/// Whether objects are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum Encrypts {
    #[name = c"auto"]
    Auto,
    #[name = c"required"]
    Required,
    #[name = c"off"]
    Off,
}

/// Which server works by schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum WorkRole {
    #[name = c"primary"]
    Primary,
    #[name = c"standby"]
    Standby,
    #[name = c"any"]
    Any,
}

/// Defines the settings of the table that the server has. Once in each process that
/// loads the library.
pub fn register() {
    for &setting in Setting::ALL {
        if let Some(name) = setting.guc_name() {
            define(setting, name);
        }
    }
    guc_hooks::reserve_prefix(c"wal_e");
}

fn define(setting: Setting, name: String) {
    let (name, flags) = (forever(name), GucFlags::SUPERUSER_ONLY);
    let short = forever(format!("{}.", setting.describe().purpose));
    let long = forever(setting.long_description());
    let context = || match setting.describe().guc.map(|guc| guc.context) {
        Some(Context::Sighup) | None => GucContext::Sighup,
    };
    let text = |variable| {
        GucRegistry::define_string_guc(name, short, long, variable, context(), flags);
    };
    let checked = |variable, check| {
        guc_hooks::define_checked_text(name, variable, short, long, context(), check);
    };
    let number = |variable| {
        let number = setting.number();
        let (low, high) = (as_int(number.low), as_int(number.high));
        let flags = flags | unit(number.unit);
        GucRegistry::define_int_guc(name, short, long, variable, low, high, context(), flags);
    };
    let rate_limit = |variable, limited| {
        let number = setting.number();
        let (texts, range) = ([short, long], [as_int(number.low), as_int(number.high)]);
        let flags = flags | unit(number.unit);
        guc_hooks::define_rate_limit(name, variable, texts, range, context(), flags, limited);
    };
    match setting {
        Setting::Prefix => checked(&PREFIX, guc_hooks::Check::Prefix),
        Setting::EnvDir => text(&ENV_DIR),
        Setting::S3Endpoint => checked(&S3_ENDPOINT, guc_hooks::Check::Endpoint),
        Setting::S3Region => text(&S3_REGION),
        Setting::S3ForcePathStyle => {
            let variable = &S3_FORCE_PATH_STYLE;
            GucRegistry::define_enum_guc(name, short, long, variable, context(), flags);
        }
        Setting::S3CaFile => text(&S3_CA_FILE),
        Setting::S3Proxy => checked(&S3_PROXY, guc_hooks::Check::Proxy),
        Setting::S3StorageClass => text(&S3_STORAGE_CLASS),
        Setting::S3Sse => text(&S3_SSE),
        Setting::S3SseKmsKeyId => text(&S3_SSE_KMS_KEY_ID),
        Setting::S3Timeout => number(&S3_TIMEOUT),
        Setting::Compression => {
            GucRegistry::define_enum_guc(name, short, long, &COMPRESSION, context(), flags);
        }
        Setting::CompressionLevel => number(&COMPRESSION_LEVEL),
        Setting::Encryption => {
            GucRegistry::define_enum_guc(name, short, long, &ENCRYPTION, context(), flags);
        }
        Setting::WalUploadConcurrency => number(&WAL_UPLOAD_CONCURRENCY),
        Setting::LogArchivedFiles => {
            GucRegistry::define_bool_guc(name, short, long, &LOG_ARCHIVED_FILES, context(), flags);
        }
        Setting::BackupConcurrency => number(&BACKUP_CONCURRENCY),
        Setting::BackupReadRateLimit => rate_limit(&BACKUP_READ_RATE_LIMIT, Limited::BackupRead),
        Setting::UploadRateLimit => rate_limit(&UPLOAD_RATE_LIMIT, Limited::Upload),
        Setting::TarSizeThreshold => number(&TAR_SIZE_THRESHOLD),
        Setting::BackupExclude => checked(&BACKUP_EXCLUDE, guc_hooks::Check::BackupExclude),
        Setting::BackupMaxDeltas => number(&BACKUP_MAX_DELTAS),
        Setting::BackupSchedule => checked(&BACKUP_SCHEDULE, guc_hooks::Check::Schedule),
        Setting::VerifySchedule => checked(&VERIFY_SCHEDULE, guc_hooks::Check::Schedule),
        Setting::BackupRole => {
            GucRegistry::define_enum_guc(name, short, long, &BACKUP_ROLE, context(), flags);
        }
        Setting::BackupMaxReplicationLag => number(&BACKUP_MAX_REPLICATION_LAG),
        Setting::BackupWaitForCheckpoint => {
            let variable = &BACKUP_WAIT_FOR_CHECKPOINT;
            GucRegistry::define_bool_guc(name, short, long, variable, context(), flags);
        }
        Setting::EventsDatabase => text(&EVENTS_DATABASE),
        Setting::RetainFullBackups => number(&RETAIN_FULL_BACKUPS),
        Setting::RetainWindow => checked(&RETAIN_WINDOW, guc_hooks::Check::RetainWindow),
        Setting::RetainCalendar => checked(&RETAIN_CALENDAR, guc_hooks::Check::RetainCalendar),
        // The program's alone.
        Setting::S3Prefix | Setting::FilePrefix | Setting::AwsAccessKeyId => {}
    }
}

/// PostgreSQL keeps the pointers for as long as the process lives.
fn forever(text: String) -> &'static CStr {
    Box::leak(c_text(&text).into_boxed_c_str())
}

fn unit(unit: Unit) -> GucFlags {
    match unit {
        Unit::One => GucFlags::empty(),
        Unit::Seconds => GucFlags::UNIT_S,
        Unit::Bytes => GucFlags::UNIT_BYTE,
        Unit::Kilobytes => GucFlags::UNIT_KB,
        Unit::Megabytes => GucFlags::UNIT_MB,
    }
}

/// Whether a value of `wal_e.prefix` can be parsed, or is empty.
pub fn check_prefix(value: &str) -> Result<()> {
    if value.is_empty() { Ok(()) } else { value.parse::<Prefix>().map(|_| ()) }
}

/// Whether a value of `wal_e.s3_endpoint` names a server, or is empty.
pub fn check_endpoint(value: &str) -> Result<()> {
    if value.is_empty() { Ok(()) } else { value.parse::<Endpoint>().map(|_| ()) }
}

fn get(setting: &Text) -> Option<String> {
    let value = setting.get()?;
    let value = value.to_string_lossy();
    (!value.is_empty()).then(|| value.into_owned())
}

/// The prefix that is configured now.
///
/// # Errors
/// [`ErrorKind::Config`] when it is not set, or cannot be parsed.
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
/// [`ErrorKind::Config`]: no prefix, a malformed one, an unreadable `env_dir` or key.
pub fn store_config() -> Result<StoreConfig> {
    let prefix = prefix()?;
    let variables = variables()?;
    let place = match prefix {
        Prefix::S3 { bucket, path } => {
            StorePlace::S3(S3Config::resolve(bucket, path, s3_given()?, &variables)?)
        }
        Prefix::File { directory } => StorePlace::File(FileConfig { directory }),
    };
    Ok(StoreConfig { place, encryption: Encryption::resolve(encryption_policy(), &variables)? })
}

/// What the setting says; the default counts as not given.
fn encryption_policy() -> Option<EncryptionPolicy> {
    match ENCRYPTION.get() {
        Encrypts::Auto => None,
        Encrypts::Required => Some(EncryptionPolicy::Required),
        Encrypts::Off => Some(EncryptionPolicy::Off),
    }
}

/// The variables of `wal_e.env_dir`, and those that the server was started with.
fn variables() -> Result<Variables> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let environment = Place::Environment(std::env::vars_os().filter_map(text).collect());
    let places = env_dir()?.map(Place::EnvDir).into_iter().chain([environment]);
    Ok(Variables { places: places.collect() })
}

/// Variables that are set and mean something else to a program than to this server, or nothing
/// to both. What keeps them from being read is not for this to say.
pub fn misfits() -> Vec<Misfit> {
    let prefix = prefix().ok();
    variables().map(|found| found.misfits_of_server(prefix.as_ref())).unwrap_or_default()
}

/// What the settings say of S3; variables say the rest. A number that is the default
/// counts as not given: PostgreSQL does not say who set it.
fn s3_given() -> Result<S3Given> {
    let timeout = Some(S3_TIMEOUT.get()).filter(|n| *n != default(Setting::S3Timeout));
    Ok(S3Given {
        endpoint: get(&S3_ENDPOINT).map(|url| url.parse::<Endpoint>()).transpose()?,
        region: get(&S3_REGION),
        force_path_style: match S3_FORCE_PATH_STYLE.get() {
            PathStyle::Auto => None,
            PathStyle::On | PathStyle::True => Some(true),
            PathStyle::Off | PathStyle::False => Some(false),
        },
        ca_file: get(&S3_CA_FILE).map(PathBuf::from),
        proxy: get(&S3_PROXY),
        storage_class: get(&S3_STORAGE_CLASS),
        sse: get(&S3_SSE),
        sse_kms_key_id: get(&S3_SSE_KMS_KEY_ID),
        credentials: None,
        timeout: timeout.and_then(|n| u64::try_from(n).ok()).map(Duration::from_secs),
    })
}

/// How new objects are compressed, as configured now. As for other settings a default counts as
/// not set, and variables are asked then; what they say that cannot be done is passed over, and
/// reported by [`misfits`].
///
/// # Errors
/// [`ErrorKind::Config`] for a level that the method does not have, and as [`env_dir`].
pub fn compression() -> Result<Compression> {
    let variables = CompressionVariables::find(&variables()?);
    let encoding = match COMPRESSION.get() {
        Method::Lz4 => variables.encoding().ok().flatten().unwrap_or(Encoding::Lz4),
        Method::Zstd => Encoding::Zstd,
        Method::None => Encoding::None,
    };
    let level = match encoding {
        // A level that is left from another method means nothing.
        Encoding::None => 0,
        _ => COMPRESSION_LEVEL.get(),
    };
    if level == default(Setting::CompressionLevel)
        && let Ok(Some(compression)) = variables.compression(encoding)
    {
        return Ok(compression);
    }
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

/// What base backups leave out.
///
/// # Errors
/// [`ErrorKind::Config`] for what cannot be left out; a check when it is set prevents it.
pub fn backup_exclude() -> Result<Exclusions> {
    get(&BACKUP_EXCLUDE).unwrap_or_default().parse()
}

/// Whether a value of `wal_e.backup_exclude` names what can be left out.
pub fn check_backup_exclude(value: &str) -> Result<()> {
    value.parse::<Exclusions>().map(|_| ())
}

/// How a base backup is taken, as configured now.
///
/// # Errors
/// Those of [`compression`].
pub fn backup_options() -> Result<PushOptions> {
    Ok(PushOptions {
        concurrency: backup_concurrency(),
        tar_size_threshold_bytes: u64::try_from(TAR_SIZE_THRESHOLD.get()).unwrap_or(1024) << 20,
        compression: compression()?,
        read_rate_limit: Some(rate_limits::backup_read()),
        exclude: backup_exclude()?,
        incremental: None,
    })
}

/// How many incremental base backups by schedule may follow a full one.
pub fn backup_max_deltas() -> u32 {
    BACKUP_MAX_DELTAS.get().unsigned_abs()
}
