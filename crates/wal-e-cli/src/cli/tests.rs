use clap::{Args, CommandFactory};
use wal_e_core::config::{Number, Setting, Value};
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
            let (_, after) = help.split_once(&value).unwrap_or_else(|| panic!("{value}: {help}"));
            let block = after.split("\n\n  ").next().unwrap_or_default();
            assert!(block.contains(&setting.help()), "{value}: {block}");
            if let Value::Number(Number { default: Some(default), .. }) = setting.value_of_option()
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
        (Setting::UploadRateLimit, "backup-push /data"),
        (Setting::UploadRateLimit, "wal-push file"),
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
        "backup-push /data --upload-rate-limit 0",
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
fn what_must_not_be_excluded_is_said() {
    let error = parse("backup-push /d --exclude dumps,base").unwrap_err().to_string();
    let expected = "error: invalid value 'dumps,base' for '--exclude <NAMES>': \
                    \"base\" belongs to PostgreSQL\n";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn a_label_is_one_line() {
    let with = |label: &str| Cli::try_parse_from(["wal-e", "backup-push", "/d", "--label", label]);
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
    let target = |options: &str| match parse(&format!("restore-plan {options}")).unwrap().command {
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
