//! The command line: what may be said, and nothing about how it is done.
//!
//! The options of WAL-E 1.1 keep their names and meaning. A secret has no
//! option: it would be visible to every user of the machine.

use std::path::PathBuf;

use clap::builder::RangedI64ValueParser;
use clap::{Args, Parser, Subcommand};
use wal_e_core::config::{Number, Setting};
use wal_e_core::restore::ArchiveMode;

use crate::exit_code;

mod conninfo;
mod environment;
mod recovery_options;
mod tablespace_options;

pub use recovery_options::{RecoveryOptions, TargetOptions};
pub use tablespace_options::{InUse, TablespaceOptions};

/// Continuous archiving, base backups and point-in-time recovery for PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "wal-e", version, after_help = exit_code::TABLE, after_long_help = long_help_end())]
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
    format!("{}\n{}", environment::help(), exit_code::TABLE)
}

/// Where backups and WAL are kept, and how to get there.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where backups and WAL are kept")]
pub struct StoreOptions {
    #[arg(
        long = Setting::S3Prefix.option(), help = Setting::S3Prefix.help(),
        value_name = placeholder(Setting::S3Prefix), global = true, conflicts_with = "file_prefix"
    )]
    pub s3_prefix: Option<String>,

    #[arg(
        long = Setting::FilePrefix.option(), help = Setting::FilePrefix.help(),
        value_name = placeholder(Setting::FilePrefix), global = true
    )]
    pub file_prefix: Option<String>,

    #[arg(
        long = Setting::AwsAccessKeyId.option(), help = Setting::AwsAccessKeyId.help(),
        value_name = placeholder(Setting::AwsAccessKeyId), global = true, short = 'k'
    )]
    pub aws_access_key_id: Option<String>,

    #[arg(
        long = Setting::EnvDir.option(), help = Setting::EnvDir.help(),
        value_name = placeholder(Setting::EnvDir), global = true
    )]
    pub env_dir: Option<PathBuf>,

    #[arg(
        long = Setting::S3Endpoint.option(), help = Setting::S3Endpoint.help(),
        value_name = placeholder(Setting::S3Endpoint), global = true
    )]
    pub s3_endpoint: Option<String>,

    #[arg(
        long = Setting::S3Region.option(), help = Setting::S3Region.help(),
        value_name = placeholder(Setting::S3Region), global = true
    )]
    pub s3_region: Option<String>,

    #[arg(
        long = Setting::S3ForcePathStyle.option(), help = Setting::S3ForcePathStyle.help(),
        value_name = placeholder(Setting::S3ForcePathStyle), global = true,
        num_args = 0..=1, require_equals = true, default_missing_value = "true"
    )]
    pub s3_force_path_style: Option<bool>,

    #[arg(
        long = Setting::S3CaFile.option(), help = Setting::S3CaFile.help(),
        value_name = placeholder(Setting::S3CaFile), global = true
    )]
    pub s3_ca_file: Option<PathBuf>,

    #[arg(
        long = Setting::S3Proxy.option(), help = Setting::S3Proxy.help(),
        value_name = placeholder(Setting::S3Proxy), global = true
    )]
    pub s3_proxy: Option<String>,

    #[arg(
        long = Setting::S3StorageClass.option(), help = Setting::S3StorageClass.help(),
        value_name = placeholder(Setting::S3StorageClass), global = true
    )]
    pub s3_storage_class: Option<String>,

    #[arg(
        long = Setting::S3Sse.option(), help = Setting::S3Sse.help(),
        value_name = placeholder(Setting::S3Sse), global = true
    )]
    pub s3_sse: Option<String>,

    #[arg(
        long = Setting::S3SseKmsKeyId.option(), help = Setting::S3SseKmsKeyId.help(),
        value_name = placeholder(Setting::S3SseKmsKeyId), global = true
    )]
    pub s3_sse_kms_key_id: Option<String>,

    #[arg(
        long = Setting::S3Timeout.option(), help = Setting::S3Timeout.help(),
        value_name = placeholder(Setting::S3Timeout), global = true,
        value_parser = within::<u64>(Setting::S3Timeout)
    )]
    pub s3_timeout: Option<u64>,
}

/// How what is stored is compressed. Objects that are read say it by their names.
#[derive(Debug, Clone, Default, Args)]
pub struct CompressionOptions {
    #[arg(
        long = Setting::Compression.option(), help = Setting::Compression.help(),
        value_name = placeholder(Setting::Compression)
    )]
    pub compression: Option<String>,

    #[arg(
        long = Setting::CompressionLevel.option(), help = Setting::CompressionLevel.help(),
        value_name = placeholder(Setting::CompressionLevel), allow_negative_numbers = true
    )]
    pub compression_level: Option<i32>,
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
    /// Say what a restore would need and reach, or why it is impossible
    RestorePlan(RestorePlan),
    /// Archive one WAL file: archive_command = 'wal-e ... wal-push %p'
    WalPush(WalPush),
    /// Get one WAL file: restore_command = 'wal-e ... wal-fetch "%f" "%p"'
    WalFetch(WalFetch),
    /// Fetch the WAL after SEGMENT ahead of a server that recovers; started by wal-fetch
    #[command(hide = true)]
    WalPrefetch(WalPrefetch),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
pub struct BackupPush {
    /// Data directory of the server
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    #[arg(
        short = 'p', long = Setting::BackupConcurrency.option(), help = Setting::BackupConcurrency.help(),
        value_name = placeholder(Setting::BackupConcurrency),
        default_value_t = at_first(Setting::BackupConcurrency),
        value_parser = within::<u16>(Setting::BackupConcurrency)
    )]
    pub pool_size: u16,

    #[arg(
        long = Setting::BackupReadRateLimit.option(), help = Setting::BackupReadRateLimit.help(),
        value_name = placeholder(Setting::BackupReadRateLimit),
        value_parser = within::<u64>(Setting::BackupReadRateLimit)
    )]
    pub cluster_read_rate_limit: Option<u64>,

    /// Label of the backup, as it stands in backup_label
    #[arg(long, value_name = "TEXT", default_value = "wal_e", value_parser = one_line)]
    pub label: String,

    /// Keep this backup when old ones are deleted
    #[arg(long)]
    pub permanent: bool,

    /// Begin with a spread checkpoint: gentler, but it may take minutes to begin
    #[arg(long)]
    pub spread_checkpoint: bool,

    #[command(flatten)]
    pub compression: CompressionOptions,
}

#[derive(Debug, Args)]
pub struct BackupFetch {
    /// Directory to restore into; made when it is not there
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// Name of the backup; LATEST; or AUTO for the newest from which the target can be reached
    #[arg(value_name = "NAME|LATEST|AUTO")]
    pub name: String,

    /// Tar partitions that are read at the same time
    #[arg(
        short = 'p', long, value_name = "N",
        default_value_t = at_first(Setting::BackupConcurrency),
        value_parser = within::<u16>(Setting::BackupConcurrency)
    )]
    pub pool_size: u16,

    #[command(flatten)]
    pub tablespaces: TablespaceOptions,

    /// Restore the tablespaces where FILE says, a JSON object like the "Spec" of a
    /// sentinel: {"tablespaces": ["16384"], "16384": {"loc": "/new/place"}}; those
    /// that it does not name go where they were. With SOURCE, all of them do
    #[arg(
        long, value_name = "FILE|SOURCE",
        conflicts_with_all = ["tablespace_mapping", "tablespace_mapping_all", "blind_restore"]
    )]
    pub restore_spec: Option<String>,

    /// Have pg_wal lead to DIRECTORY: empty, or made when it is not there
    #[arg(long, value_name = "DIRECTORY", value_parser = tablespace_options::absolute)]
    pub waldir: Option<PathBuf>,

    /// Go on with a restore that was interrupted, given the same options: only what
    /// is missing or damaged is fetched, and what is not of the backup is removed.
    /// LATEST and AUTO mean the backup that was begun
    #[arg(long)]
    pub resume: bool,

    /// Print an event a line, as JSON objects: "progress" each second, and at the
    /// end "done" or "error"
    #[arg(long)]
    pub json: bool,

    /// Whether the restored cluster archives once it is opened: off, or preserve what its
    /// configuration says. If not given, off when WAL was archived in the last six hours
    #[arg(long, value_name = "off|preserve", value_parser = archive_mode)]
    pub archive_mode: Option<ArchiveMode>,

    /// Begin although there seems to be too little free space, as where the file system
    /// compresses
    #[arg(long)]
    pub ignore_free_space: bool,

    /// Directory of the PostgreSQL programs that will run the restored cluster, to compare
    /// their version with the backup's. If not given, that of wal-e, or else PATH
    #[arg(long, value_name = "BINDIR")]
    pub pg_bindir: Option<PathBuf>,

    #[command(flatten)]
    pub recovery: RecoveryOptions,
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
        default_value_t = at_first(Setting::BackupConcurrency),
        value_parser = within::<u16>(Setting::BackupConcurrency)
    )]
    pub pool_size: u16,

    /// Print a JSON object with every check
    #[arg(long)]
    pub json: bool,
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

#[derive(Debug, Args)]
pub struct WalPush {
    /// The WAL file (%p)
    #[arg(value_name = "PATH")]
    pub path: PathBuf,

    #[arg(
        short = 'p', long = Setting::WalUploadConcurrency.option(), help = Setting::WalUploadConcurrency.help(),
        value_name = placeholder(Setting::WalUploadConcurrency),
        default_value_t = at_first(Setting::WalUploadConcurrency),
        value_parser = within::<u16>(Setting::WalUploadConcurrency)
    )]
    pub pool_size: u16,

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

    /// WAL segments to fetch ahead, into pg_wal/.wal-e/prefetch, when a server
    /// that recovers runs this. With 0, none
    #[arg(short = 'p', long, value_name = "N", default_value_t = 8, value_parser = depth())]
    pub prefetch: u16,

    /// Take a segment that is missing for the end of the WAL also where the
    /// log went on behind it. Recovery ends there, without what came after
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

    /// The last WAL segment that the server has got
    #[arg(value_name = "SEGMENT")]
    pub segment: String,

    /// WAL segments to fetch ahead
    #[arg(short = 'p', long, value_name = "N", default_value_t = 8, value_parser = depth())]
    pub pool_size: u16,

    /// End with this process
    #[arg(long, value_name = "PID")]
    pub server: Option<u32>,
}

fn archive_mode(text: &str) -> Result<ArchiveMode, String> {
    match text {
        "off" => Ok(ArchiveMode::Off),
        "preserve" => Ok(ArchiveMode::Preserve),
        _ => Err("it must be off or preserve".to_owned()),
    }
}

fn depth() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(0..=256)
}

/// What stands for the value of a setting's option in the help.
fn placeholder(setting: Setting) -> &'static str {
    setting.describe().option.map_or("", |flag| flag.placeholder)
}

/// The range of a number, as the table of settings has it.
fn within<T>(setting: Setting) -> RangedI64ValueParser<T>
where
    T: TryFrom<i64, Error: std::error::Error + Send + Sync> + Clone + Send + Sync + 'static,
{
    let Number { low, high, .. } = setting.number_of_option();
    RangedI64ValueParser::new().range(low..=high)
}

/// The number that counts when none is given.
fn at_first(setting: Setting) -> u16 {
    let default = setting.number_of_option().default;
    default.and_then(|number| u16::try_from(number).ok()).unwrap_or(1)
}

/// What comes after a line break would be another line of `backup_label`.
fn one_line(text: &str) -> Result<String, String> {
    match text.contains(['\n', '\r']) {
        true => Err("a label must not contain a line break".to_owned()),
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use wal_e_core::config::Value;
    use wal_e_core::postgres::{Lsn, TimelineId};
    use wal_e_core::recovery::{RecoveryTarget, TargetTimeline};

    use super::*;

    fn parse(arguments: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["wal-e"].into_iter().chain(arguments.split_whitespace()))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_is_the_table_of_settings() {
        let mut whole = Cli::command();
        whole.build();
        for &setting in Setting::ALL {
            let Some(flag) = setting.describe().option else { continue };
            let commands: Vec<_> = match flag.commands {
                [] => vec![&whole],
                names => names.iter().map(|name| whole.find_subcommand(name).unwrap()).collect(),
            };
            for command in commands {
                let help = command.clone().term_width(0).render_long_help().to_string();
                let argument = command.get_arguments().find(|a| a.get_long() == Some(flag.name));
                let argument = argument.unwrap_or_else(|| panic!("--{} is not there", flag.name));
                assert_eq!(argument.is_global_set(), flag.commands.is_empty(), "{}", flag.name);
                let value = match argument.is_require_equals_set() {
                    true => format!("--{}[=<{}>]", flag.name, flag.placeholder),
                    false => format!("--{} <{}>", flag.name, flag.placeholder),
                };
                let (_, after) =
                    help.split_once(&value).unwrap_or_else(|| panic!("{value}: {help}"));
                let block = after.split("\n\n  ").next().unwrap_or_default();
                assert!(block.contains(&setting.help()), "{value}: {block}");
                if let Value::Number(Number { default: Some(default), .. }) =
                    setting.value_of_option()
                {
                    assert!(block.contains(&format!("[default: {default}]")), "{block}");
                }
            }
        }
    }

    #[test]
    fn each_option_of_the_store_is_in_the_table_of_settings() {
        let store = StoreOptions::augment_args(clap::Command::new("store"));
        let known = |name: &str| {
            let flags = Setting::ALL.iter().filter_map(|setting| setting.describe().option);
            flags.filter(|flag| flag.commands.is_empty()).any(|flag| flag.name == name)
        };
        for argument in store.get_arguments() {
            assert!(argument.get_long().is_some_and(known), "{argument:?}");
        }
    }

    #[test]
    fn numbers_have_the_range_of_the_table() {
        for (setting, command) in [
            (Setting::S3Timeout, "backup-list"),
            (Setting::BackupConcurrency, "backup-verify LATEST"),
            (Setting::BackupConcurrency, "backup-push /data"),
            (Setting::BackupConcurrency, "backup-fetch /data LATEST"),
            (Setting::WalUploadConcurrency, "wal-push file"),
            (Setting::BackupReadRateLimit, "backup-push /data"),
        ] {
            let Number { low, high, .. } = setting.number_of_option();
            let with = |number: i64| parse(&format!("{command} --{}={number}", setting.option()));
            assert!(with(low).is_ok() && with(high).is_ok(), "{command} {setting:?}");
            assert!(with(low - 1).is_err(), "{command} {setting:?}");
            assert!(high == i64::MAX || with(high + 1).is_err(), "{command} {setting:?}");
        }
    }

    #[test]
    fn no_option_takes_a_secret() {
        let mut command = Cli::command();
        command.build();
        let commands = std::iter::once(&command).chain(command.get_subcommands());
        for argument in commands.flat_map(|command| command.get_arguments()) {
            for name in argument.get_long_and_visible_aliases().into_iter().flatten() {
                let secret = ["secret", "token", "password"].iter().any(|word| name.contains(word));
                assert!(!secret, "--{name}");
            }
        }
        assert!(parse("--aws-secret-access-key x backup-list").is_err());
    }

    #[test]
    fn old_command_lines_of_wal_e_are_understood() {
        for line in [
            "--s3-prefix s3://b/p -k AKID --terse wal-push pg_wal/0000000100000016000000B3",
            "--s3-prefix=s3://b/p wal-push -p 4 pg_wal/0000000100000016000000B3",
            "wal-push --pool-size=32 pg_wal/0000000100000016000000B3",
            "--file-prefix file://localhost/b wal-fetch -p 0 0000000100000016000000B3 dest",
            "wal-fetch --prefetch=8 0000000100000016000000B3 dest",
            "wal-prefetch pg_wal 0000000100000016000000B3",
            "backup-push /data -p 8 --cluster-read-rate-limit 1000000",
            "backup-push --pool-size 8 /data",
            "backup-fetch /data LATEST -p 16",
            "backup-fetch /data LATEST --blind-restore",
            "backup-fetch --restore-spec SOURCE /data LATEST",
            "backup-fetch /data LATEST --restore-spec=/spec.json --resume --json",
            "backup-list --detail",
            "backup-list base_0000",
            "version",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn store_options_may_also_follow_the_command() {
        let cli = parse("backup-list --s3-prefix s3://b --s3-force-path-style").unwrap();
        assert_eq!(cli.store.s3_prefix.as_deref(), Some("s3://b"));
        assert_eq!(cli.store.s3_force_path_style, Some(true));
        let cli = parse("--s3-force-path-style=false backup-list").unwrap();
        assert_eq!(cli.store.s3_force_path_style, Some(false));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "",
            "--s3-prefix s3://b --file-prefix /b backup-list",
            "backup-push /data -p 0",
            "backup-push /data --cluster-read-rate-limit 0",
            "backup-fetch /data",
            "backup-verify",
            "backup-verify LATEST -p 0",
            "backup-fetch /data LATEST --recovery-target-lsn 1 ",
            "backup-fetch /data LATEST --recovery-target-lsn 0/1 --recovery-target-name x",
            "backup-fetch /data LATEST --recovery-target-timeline newest",
            "backup-fetch /data LATEST --recovery-target-timeline 0",
            "backup-fetch /data LATEST --recovery-target-xid 2",
            "backup-fetch /data LATEST --recovery-target-xid x",
            "backup-fetch /data LATEST --recovery-target-time 2026-11-23T12:00:00",
            "backup-fetch /data LATEST --recovery-target-time now",
            "backup-fetch /data LATEST --standby --recovery-target-lsn 0/1",
            "backup-fetch /data LATEST --standby --recovery-target-action promote",
            "backup-fetch /data LATEST --standby --recovery-target immediate",
            "backup-fetch /data LATEST --recovery-target later",
            "backup-fetch /data LATEST --recovery-target-inclusive=false",
            "backup-fetch /data LATEST --recovery-target-lsn 0/1 --recovery-target-inclusive=maybe",
            "restore-plan --recovery-target-name x --recovery-target-inclusive=false",
            "restore-plan --recovery-target immediate --recovery-target-inclusive=false",
            "backup-fetch /data LATEST --primary-conninfo host=h",
            "backup-fetch /data LATEST --standby --primary-conninfo password=x",
            "backup-fetch /data LATEST --archive-mode on",
            "restore-plan --recovery-target-lsn 0/1 --recovery-target-xid 5",
            "restore-plan --recovery-target-action promote",
            "backup-fetch /data LATEST --recovery-target-action promote",
            "backup-fetch /data LATEST --recovery-target-lsn 0/1 --recovery-target-action stop",
            "backup-fetch /data LATEST --blind-restore --restore-spec SOURCE",
            "backup-fetch /data LATEST --blind-restore -T /a=/b",
            "backup-fetch /data LATEST --restore-spec SOURCE -T /a=/b",
            "backup-fetch /data LATEST --blind-restore --tablespace-mapping-all /a",
            "backup-fetch /data LATEST --restore-spec SOURCE --tablespace-mapping-all /a",
            "backup-fetch /data LATEST --tablespace-mapping-all a",
            "backup-fetch /data LATEST --tablespaces-in-use never",
            "backup-fetch /data LATEST --tablespace-mapping /a",
            "backup-fetch /data LATEST --tablespace-mapping /a=b",
            "backup-fetch /data LATEST --tablespace-mapping /a=/b=/c",
            "wal-fetch 0000000100000016000000B3",
            "wal-fetch -p 257 0000000100000016000000B3 dest",
            "--s3-timeout 0 backup-list",
            "--s3-timeout 3601 backup-list",
            "--s3-timeout 1min backup-list",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_label_is_one_line() {
        let with =
            |label: &str| Cli::try_parse_from(["wal-e", "backup-push", "/d", "--label", label]);
        assert!(with("Größe, 2").is_ok());
        for label in ["a\nSTART TIMELINE: 9", "a\rb"] {
            assert!(with(label).is_err());
        }
    }

    #[test]
    fn recovery_options_are_read() {
        let line = "backup-fetch /data LATEST --recovery-target-lsn 16/B374D848 \
                    --recovery-target-action promote --recovery-target-timeline 0x1F -T /a\\=b=/c -T /d=/e";
        let Command::BackupFetch(fetch) = parse(line).unwrap().command else { panic!("{line}") };
        let expected = RecoveryTarget::Lsn(Lsn(0x16_B374_D848));
        assert_eq!(fetch.recovery.target.target(), Some(expected));
        assert_eq!(fetch.recovery.recovery_target_action.as_deref(), Some("promote"));
        let timeline = TargetTimeline::Number(TimelineId(31));
        assert_eq!(fetch.recovery.target.recovery_target_timeline, Some(timeline));
        let mapping = [("/a=b", "/c"), ("/d", "/e")].map(|(a, b)| (a.into(), b.into()));
        assert_eq!(fetch.tablespaces.tablespace_mapping, mapping);
        let line = "backup-fetch /data AUTO --standby --recovery-target-timeline current";
        let Command::BackupFetch(fetch) = parse(line).unwrap().command else { panic!("{line}") };
        assert!(fetch.recovery.standby && fetch.recovery.target.target().is_none());
    }

    #[test]
    fn a_target_may_be_left_out_itself_or_be_the_end_of_the_backup() {
        let target =
            |options: &str| match parse(&format!("restore-plan {options}")).unwrap().command {
                Command::RestorePlan(plan) => plan.target.target().unwrap(),
                _ => panic!("{options}"),
            };
        assert_eq!(target("--recovery-target immediate"), RecoveryTarget::Immediate);
        let xid = "--recovery-target-xid 731 --recovery-target-inclusive";
        assert_eq!(target(&format!("{xid}=false")), RecoveryTarget::BeforeXid(731));
        assert_eq!(target(&format!("{xid} off")), RecoveryTarget::BeforeXid(731));
        assert_eq!(target(&format!("{xid}=on")), RecoveryTarget::Xid(731));
    }

    #[test]
    fn a_plan_takes_the_targets_of_a_restore() {
        let target = |line: &str| match parse(line).unwrap().command {
            Command::RestorePlan(plan) => (plan.name, plan.target.target()),
            _ => panic!("{line}"),
        };
        assert_eq!(target("restore-plan"), ("AUTO".to_owned(), None));
        let (name, time) = target("restore-plan LATEST --recovery-target-time 2026-11-23T13:00+01");
        assert_eq!(name, "LATEST");
        assert_eq!(time.unwrap().to_string(), "time \"2026-11-23 12:00:00+00\"");
        // With an epoch before it, as pg_current_xact_id() prints it.
        let (_, xid) = target("restore-plan --recovery-target-xid 4294968027");
        assert_eq!(xid, Some(RecoveryTarget::Xid(731)));
    }
}
