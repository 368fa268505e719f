use super::*;
use crate::notice;
use crate::postgres::{Lsn, TimelineId};

pub(super) fn config(target: Option<RecoveryTarget>) -> RecoveryConfig {
    RecoveryConfig {
        restore_command: "x".to_owned(),
        target,
        target_action: None,
        target_timeline: None,
        standby: false,
        primary_conninfo: None,
        must_not_read_ahead: false,
        required_settings: RequiredSettings::default(),
    }
}

/// Sets up a data directory with these files, and hands out `postgresql.auto.conf`.
fn set_up_with(
    data: &Path,
    recovery: Option<&RecoveryConfig>,
    archive_mode: ArchiveMode,
) -> (String, Vec<notice::Notice>) {
    let (notices, queue) = notice::channel();
    set_up(data, recovery, archive_mode, None, &notices).unwrap();
    let text = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap_or_default();
    (text, queue.drain())
}

#[test]
fn settings_are_appended_and_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("postgresql.auto.conf");
    fs::write(&path, "port = '5433'\n").unwrap();
    let config = RecoveryConfig {
        restore_command: r#"wal-e --file-prefix='/it''s\here' wal-fetch "%f" "%p""#.to_owned(),
        target_action: Some("promote".to_owned()),
        target_timeline: Some(TargetTimeline::Number(TimelineId(2))),
        ..config(Some(RecoveryTarget::Lsn(Lsn(0x300_0000))))
    };
    fs::write(dir.path().join("standby.signal"), "").unwrap();
    let (text, _) = set_up_with(dir.path(), Some(&config), ArchiveMode::Preserve);
    assert!(text.starts_with("port = '5433'\n"));
    assert!(text.contains("'/it''''s\\\\here'"), "{text}");
    assert!(text.contains("\nrecovery_target_lsn = '0/3000000'\n"));
    assert!(text.contains("\nrecovery_target_timeline = '2'\n"));
    assert!(!text.contains("archive_mode") && !text.contains("promote_trigger_file ="));
    assert!(dir.path().join("recovery.signal").exists());
    assert!(!dir.path().join("standby.signal").exists());
}

#[test]
fn every_target_has_its_setting_after_all_are_emptied() {
    use RecoveryTarget::*;
    let time = "2026-11-23 13:00:00.5+01".parse().unwrap();
    for (target, setting, inclusive) in [
        (Time(time), "recovery_target_time = '2026-11-23 12:00:00.5+00'", "on"),
        (BeforeTime(time), "recovery_target_time = '2026-11-23 12:00:00.5+00'", "off"),
        (Lsn(crate::postgres::Lsn(0x16_0000_0028)), "recovery_target_lsn = '16/28'", "on"),
        (BeforeLsn(crate::postgres::Lsn(0x28)), "recovery_target_lsn = '0/28'", "off"),
        (Name("it's".to_owned()), "recovery_target_name = 'it''s'", "on"),
        (Xid(731), "recovery_target_xid = '731'", "on"),
        (BeforeXid(731), "recovery_target_xid = '731'", "off"),
        (Immediate, "recovery_target = 'immediate'", "on"),
    ] {
        let settings = config(Some(target)).settings(&Configuration::default(), Some(15));
        let at = settings.find(&format!("\n{setting}\n")).expect(setting);
        for empty in TARGETS {
            let emptied = settings.find(&format!("\n{empty} = ''\n")).expect(empty);
            assert!(emptied < at, "{settings}");
        }
        let inclusive = format!("\nrecovery_target_inclusive = '{inclusive}'\n");
        assert!(settings.contains(&inclusive), "{settings}");
        assert!(settings.contains("\nrecovery_target_timeline = 'latest'\n"), "{settings}");
        assert!(settings.contains("\npromote_trigger_file = ''\n"), "{settings}");
    }
}

#[test]
fn reading_ahead_is_turned_off_where_it_must_be() {
    let config =
        RecoveryConfig { must_not_read_ahead: true, ..config(Some(RecoveryTarget::Immediate)) };
    for (major, expected) in [(14, false), (15, true), (18, true)] {
        let settings = config.settings(&Configuration::default(), Some(major));
        assert_eq!(settings.contains("\nrecovery_prefetch = 'off'\n"), expected, "{major}");
    }
}

#[test]
fn a_target_that_is_spelled_in_capitals_is_emptied_first() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("postgresql.conf"), "RECOVERY_TARGET_XID = 5\n").unwrap();
    let configuration = Configuration::read(dir.path()).unwrap();
    assert_eq!(targets_to_empty(&configuration)[0], "recovery_target_xid");
    assert_eq!(targets_to_empty(&configuration).len(), TARGETS.len());
}

#[test]
fn a_standby_has_a_signal_of_its_own_and_no_target() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("recovery.signal"), "").unwrap();
    let conninfo = Some("host=a user='b'".to_owned());
    let config = RecoveryConfig { standby: true, primary_conninfo: conninfo, ..config(None) };
    let (text, _) = set_up_with(dir.path(), Some(&config), ArchiveMode::Off);
    assert!(dir.path().join("standby.signal").exists());
    assert!(!dir.path().join("recovery.signal").exists());
    for line in [
        "restore_command = 'x'",
        "recovery_target_time = ''",
        "primary_conninfo = 'host=a user=''b'''",
        "archive_mode = 'off'",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{text}");
    }
}

#[test]
fn what_is_lower_than_the_wal_needs_is_raised() {
    let dir = tempfile::tempdir().unwrap();
    let conf = "max_connections = 300\nmax_worker_processes = 8\nmax_wal_senders = 'x'\n";
    fs::write(dir.path().join("postgresql.conf"), conf).unwrap();
    let required = RequiredSettings {
        max_connections: 200,
        max_worker_processes: 9,
        max_wal_senders: 10,
        max_prepared_transactions: 0,
        max_locks_per_transaction: 65,
    };
    let config = RecoveryConfig { required_settings: required, ..config(None) };
    let (text, notices) = set_up_with(dir.path(), Some(&config), ArchiveMode::Preserve);
    let written: Vec<&str> = text.lines().filter(|line| line.starts_with("max_")).collect();
    assert_eq!(
        written,
        ["max_worker_processes = 9", "max_wal_senders = 10", "max_locks_per_transaction = 65"]
    );
    let told = notices.iter().any(|notice| notice.message.contains("= 9 instead of 8"));
    assert!(told, "{notices:?}");
    // What is not set is PostgreSQL's default, if all of the configuration is known.
    let default = RecoveryConfig { required_settings: RequiredSettings::DEFAULT, ..config };
    fs::write(dir.path().join("postgresql.conf"), "port = 1\n").unwrap();
    let raised = |data: &Path| {
        let (notices, _queue) = notice::channel();
        let configuration = Configuration::read(data).unwrap();
        raised(&configuration, default.required_settings, &notices).lines().count()
    };
    fs::remove_file(dir.path().join("postgresql.auto.conf")).unwrap();
    assert_eq!(raised(dir.path()), 0);
    fs::remove_file(dir.path().join("postgresql.conf")).unwrap();
    assert_eq!(raised(dir.path()), 6);
}

#[test]
fn a_second_restore_leaves_one_block() {
    let dir = tempfile::tempdir().unwrap();
    let first = config(Some(RecoveryTarget::Xid(731)));
    set_up_with(dir.path(), Some(&first), ArchiveMode::Off);
    let (text, notices) = set_up_with(dir.path(), Some(&config(None)), ArchiveMode::Off);
    assert_eq!(text.matches(BEGIN).count(), 1, "{text}");
    assert!(!text.contains("731"), "{text}");
    assert!(notices.is_empty(), "{notices:?}");
    let (text, _) = set_up_with(dir.path(), None, ArchiveMode::Preserve);
    assert!(!text.contains("recovery_target"), "{text}");
}
