use serde_json::{Value, json};
use time::macros::datetime;
use wal_e_core::catalogue::BackupInfo;
use wal_e_core::postgres::{Lsn, TimelineId, TimelineRange};
use wal_e_core::recovery::{NewTablespace, RecoveryTarget, TargetTimeline};
use wal_e_core::restore::ArchiveMode;
use wal_e_core::{Error, ErrorKind};

use super::before_fetch::{doubt, timeline_to_follow};
use super::text::summary;
use super::*;
use crate::commands::archiving::Archiving;

fn example() -> RestorePlan {
    let name = "base_000000010000000000000002";
    RestorePlan {
        backup: BackupInfo {
            name: name.to_owned(),
            stored_at: datetime!(2026-01-02 03:10:00 UTC),
            delta_from: None,
            start_time: None,
            finish_time: None,
            timeline: TimelineId(1),
            start_lsn: None,
            stop_lsn: None,
            pg_version: Some(150_014),
            system_identifier: None,
            uncompressed_bytes: None,
            compressed_bytes: None,
            cluster_bytes: None,
            permanent: false,
            hostname: None,
            data_directory: None,
            encryption: None,
            encryption_key: None,
            unreadable: None,
            metadata_unreadable: None,
        },
        backup_chain: vec![name.to_owned()],
        backup_bytes: Some(20 << 20),
        target: Some(RecoveryTarget::Xid(731)),
        timeline: TimelineId(2),
        timeline_must_be_told: false,
        timelines: vec![
            TimelineRange {
                timeline: TimelineId(1),
                begin: Lsn(0x200_0028),
                end: Some(Lsn(0x400_0000)),
            },
            TimelineRange { timeline: TimelineId(2), begin: Lsn(0x400_0000), end: None },
        ],
        first_segment: "000000010000000000000002".to_owned(),
        last_segment: "000000020000000000000004".to_owned(),
        wal_segments: 3,
        wal_bytes: 1 << 20,
        consistent_lsn: Lsn(0x200_0100),
        reached_lsn: Some(Lsn(0x400_0120)),
        reached_time: Some(datetime!(2026-01-02 04:00:00.5 UTC)),
        newest_wal: Some(datetime!(2026-01-02 04:30:00 UTC)),
        wal_segments_read: 2,
        raised_settings: None,
        new_tablespaces: vec![NewTablespace {
            oid: 16_385,
            location: "/mnt/fast".into(),
            created: Lsn(0x300_0028),
            dropped: None,
        }],
        must_not_read_ahead: false,
        notes: vec!["A note.".to_owned()],
    }
}

fn archiving() -> Archiving {
    archiving::decide(Some(ArchiveMode::Off), None, OffsetDateTime::UNIX_EPOCH)
}

#[test]
fn a_plan_is_a_table_of_facts() {
    assert_eq!(
        align(&rows(&example(), &archiving())),
        "recovery to       transaction 731\n\
         base backup       base_000000010000000000000002 (20 MB)\n\
         PostgreSQL        15\n\
         timelines         1 from LSN 0/2000028 to 0/4000000, 2 from LSN 0/4000000\n\
         WAL               000000010000000000000002 to 000000020000000000000004 (3 segments, 1024 kB)\n\
         WAL read          the first 2 segments\n\
         consistent at     LSN 0/2000100\n\
         replays up to     LSN 0/4000120\n\
         last transaction  2026-01-02 04:00:00.5+00\n\
         archiving         off in the restored cluster, because of --archive-mode\n\
         note              A note.\n"
    );
    assert_eq!(
        summary(&example()),
        "recovery to transaction 731 is possible: base backup base_000000010000000000000002 and 3 WAL segments, 000000010000000000000002 to 000000020000000000000004"
    );
}

#[test]
fn a_target_is_looked_for_on_the_timeline_that_was_planned() {
    use TargetTimeline::{Current, Latest, Number};
    let (across, mut own) = (example(), example());
    own.timeline = own.backup.timeline;
    let follow = |plan: &RestorePlan, timeline, target: bool, standby| {
        let request = PlanRequest {
            backup: BackupChoice::Auto,
            target: target.then_some(RecoveryTarget::Xid(731)),
            timeline,
            standby,
            read_end: true,
            read_wal: ReadWal::DEFAULT,
        };
        timeline_to_follow(plan, &request)
    };
    let second = Some(Number(TimelineId(2)));
    for asked in [None, Some(Latest)] {
        assert_eq!(follow(&across, asked, true, false), second);
        assert_eq!(follow(&own, asked, true, false), Some(Current));
        for (target, standby) in [(false, false), (true, true), (false, true)] {
            assert_eq!(follow(&across, asked, target, standby), asked);
            assert_eq!(follow(&own, asked, target, standby), asked);
        }
    }
    let told = RestorePlan { timeline_must_be_told: true, ..own.clone() };
    assert_eq!(follow(&told, None, false, false), Some(Current));
    for asked in [Some(Current), second] {
        assert_eq!(follow(&own, asked, true, false), asked);
        assert_eq!(follow(&across, asked, false, false), asked);
    }
}

#[test]
fn files_alone_are_restored_whatever_is_wrong_with_the_wal() {
    let failed = |kind| doubt(Err(Error::new(kind, "no").with_detail("It is so.")));
    for kind in [
        ErrorKind::Corrupt,
        ErrorKind::Config,
        ErrorKind::Conflict,
        ErrorKind::Denied,
        ErrorKind::Unavailable,
        ErrorKind::Io,
    ] {
        assert_eq!(
            failed(kind).unwrap().unwrap(),
            "could not find out whether its WAL is there: no: It is so"
        );
    }
    assert_eq!(failed(ErrorKind::NotFound).unwrap(), None);
    assert_eq!(failed(ErrorKind::Cancelled).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(doubt(Ok(Outcome::Reachable(Box::new(example())))).unwrap(), None);
}

#[test]
fn json_has_the_same_facts() {
    let plan = plan_as_json(&example(), &archiving());
    assert_eq!(plan["reachable"], true);
    assert_eq!(plan["timelines"][0]["end_lsn"], "0/4000000");
    assert_eq!(plan["timelines"][1]["end_lsn"], Value::Null);
    assert_eq!((&plan["wal_segments"], &plan["wal_segments_read"]), (&json!(3), &json!(2)));
    assert_eq!(plan["raised_settings"], Value::Null);
    assert_eq!(plan["new_tablespaces"][0]["location"], "/mnt/fast");
    assert_eq!(plan["reached_time"], "2026-01-02T04:00:00.5Z");
    assert_eq!(plan["notes"], json!(["A note."]));
    assert_eq!(plan["archive_mode"], "off");
}
