//! `wal-e restore-plan [NAME|LATEST|AUTO]`: what a restore would need and reach, or
//! why it is impossible; and the same question before `backup-fetch` writes anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use wal_e_core::postgres::{RequiredSettings, TimelineRange};
use wal_e_core::recovery::{
    self, BackupChoice, Nearest, NewTablespace, Outcome, PlanRequest, ReadWal, Refusal,
    RestorePlan, TargetTimeline, TimelineFacts, format_time,
};
use wal_e_core::restore::{ArchiveMode, CreatedTablespace};
use wal_e_core::{ErrorKind, Result};

use super::archiving::{self, Archiving};
use super::{Opened, open, run_large};
use crate::cli;
use crate::interrupt::{Failure, Interrupt};
use crate::report::{Report, print_result};
use crate::server_programs;
use crate::settings::Settings;
use crate::table::{align, size};

pub fn run(
    arguments: &cli::RestorePlan,
    settings: &Settings,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let request = PlanRequest {
        backup: BackupChoice::from(arguments.name.as_str()),
        target: arguments.target.target(),
        timeline: arguments.target.recovery_target_timeline,
        standby: false,
        read_end: true,
        read_wal: arguments.target.read_wal.unwrap_or(ReadWal::DEFAULT),
    };
    let outcome = run_large(async {
        let interrupt = Interrupt::listen(report)?;
        let planned = interrupt.or_cancelled(async {
            let opened = open(settings, report).await?;
            plan(&opened, &request, report).await
        });
        planned.await.map_err(|error| interrupt.failure(error))
    })??;
    let now = OffsetDateTime::now_utc();
    let archiving = |plan: &RestorePlan| archiving::decide(None, plan.newest_wal, now);
    if arguments.json {
        let mut text = match &outcome {
            Outcome::Reachable(plan) => plan_as_json(plan, &archiving(plan)),
            Outcome::Refused(refusal) => refusal_as_json(refusal),
        }
        .to_string();
        text.push('\n');
        print_result(&text)?;
    }
    let plan = outcome.into_plan()?;
    if !arguments.json {
        print_result(&align(&rows(&plan, &archiving(&plan))))?;
    }
    Ok(())
}

/// What a restore goes by.
pub struct Planned {
    /// The name of the base backup.
    pub backup: String,
    /// The timeline to recover along; `None` is PostgreSQL's default.
    pub timeline: Option<TargetTimeline>,
    /// The tablespaces that recovery creates.
    pub tablespaces: Vec<CreatedTablespace>,
    /// What speaks against a restore that is not refused.
    pub doubt: Option<String>,
    /// Whether the restored cluster archives.
    pub archiving: Archiving,
    /// What the WAL needs the server to be set to.
    pub required_settings: RequiredSettings,
    /// Whether the server must not read WAL ahead of its replay.
    pub must_not_read_ahead: bool,
    /// `server_version_num` of the base backup, if it tells.
    pub pg_version: Option<u32>,
}

/// What is to be fetched where `name` is asked for, once it is known that the target can
/// be reached from it. Without recovery options, `set_up` is false and nothing is refused.
pub async fn before_fetch(
    opened: &Opened,
    name: &str,
    options: &cli::RecoveryOptions,
    archive_mode: Option<ArchiveMode>,
    set_up: bool,
    report: &Report,
) -> Result<Planned> {
    let request = PlanRequest {
        backup: BackupChoice::from(name),
        target: options.target.target(),
        timeline: options.target.recovery_target_timeline,
        standby: options.standby,
        read_end: set_up,
        // Whether files alone can be restored does not depend on it.
        read_wal: options.target.read_wal.unwrap_or(match set_up {
            true => ReadWal::DEFAULT,
            false => ReadWal::AtMost(0),
        }),
    };
    let outcome = plan(opened, &request, report).await;
    let archiving =
        |newest_wal| archiving::decide(archive_mode, newest_wal, OffsetDateTime::now_utc());
    if set_up {
        let plan = outcome?.into_plan()?;
        report.log(&summary(&plan));
        for note in &plan.notes {
            report.warning(note.trim_end_matches('.'));
        }
        return Ok(Planned {
            timeline: timeline_to_follow(&plan, &request),
            tablespaces: created(&plan),
            doubt: None,
            archiving: archiving(plan.newest_wal),
            required_settings: plan.raised_settings.unwrap_or_default(),
            must_not_read_ahead: plan.must_not_read_ahead,
            pg_version: plan.backup.pg_version,
            backup: plan.backup.name,
        });
    }
    let plan = match &outcome {
        Ok(Outcome::Reachable(plan)) => Some(plan),
        _ => None,
    };
    Ok(Planned {
        backup: name.to_owned(),
        timeline: request.timeline,
        tablespaces: plan.map(|plan| created(plan)).unwrap_or_default(),
        archiving: archiving(plan.and_then(|plan| plan.newest_wal)),
        required_settings: RequiredSettings::default(),
        must_not_read_ahead: false,
        pg_version: plan.and_then(|plan| plan.backup.pg_version),
        doubt: doubt(outcome)?,
    })
}

/// The tablespaces that replay will create.
fn created(plan: &RestorePlan) -> Vec<CreatedTablespace> {
    let created = |tablespace: &NewTablespace| CreatedTablespace {
        oid: tablespace.oid,
        location: tablespace.location.clone(),
    };
    plan.new_tablespaces.iter().map(created).collect()
}

/// The timeline that the server is told to follow. With a target it is the one that was
/// planned: until the server starts, somebody may promote another copy, and the target
/// need not lie on that newer timeline. Without one the end of the archive is the end of
/// the newest timeline of that time, and a standby follows whoever is promoted; unless the
/// newest timeline is another cluster's.
///
/// The base backup's own timeline is `current`: of every number but 1, PostgreSQL wants to
/// see the history file, which is needed for nothing else then.
fn timeline_to_follow(plan: &RestorePlan, request: &PlanRequest) -> Option<TargetTimeline> {
    let is_open = matches!(request.timeline, None | Some(TargetTimeline::Latest));
    let chooses_itself = request.target.is_none() || request.standby;
    if !is_open || (chooses_itself && !plan.timeline_must_be_told) {
        return request.timeline;
    }
    Some(match plan.timeline == plan.backup.timeline {
        true => TargetTimeline::Current,
        false => TargetTimeline::Number(plan.timeline),
    })
}

/// What speaks against a restore of files alone: they can be had without any WAL, and
/// whether they are there the restore itself finds out.
fn doubt(outcome: Result<Outcome>) -> Result<Option<String>> {
    let doubt = match outcome {
        Ok(Outcome::Reachable(_)) => return Ok(None),
        Ok(Outcome::Refused(refusal)) => refusal.explanation(),
        Err(error) => match error.kind() {
            ErrorKind::Cancelled => return Err(error),
            ErrorKind::NotFound => return Ok(None),
            _ => format!(
                "whether its WAL is there could not be found out: {}",
                error.message_and_detail()
            ),
        },
    };
    Ok(Some(doubt.trim_end_matches('.').to_owned()))
}

async fn plan(opened: &Opened, request: &PlanRequest, report: &Report) -> Result<Outcome> {
    let planning = recovery::plan(Arc::clone(&opened.store), request, opened.notices.clone());
    report.attend(&opened.queue, || None, planning).await
}

/// One line for the log of a restore.
fn summary(plan: &RestorePlan) -> String {
    let wal = match plan.wal_segments {
        1 => format!("WAL segment {}", plan.first_segment),
        count => {
            format!("{count} WAL segments, {} to {}", plan.first_segment, plan.last_segment)
        }
    };
    format!("recovery to {} is possible: base backup {} and {wal}", goal(plan), plan.backup.name)
}

fn goal(plan: &RestorePlan) -> String {
    match &plan.target {
        Some(target) => target.to_string(),
        None => "the end of the archive".to_owned(),
    }
}

fn rows(plan: &RestorePlan, archiving: &Archiving) -> Vec<Vec<String>> {
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "size unknown".to_owned(), size);
    let mut rows = vec![
        ("recovery to", goal(plan)),
        (
            "base backup",
            format!("{} ({})", plan.backup_chain.join(", on top of "), bytes(plan.backup_bytes)),
        ),
        ("timelines", plan.timelines.iter().map(timeline).collect::<Vec<_>>().join(", ")),
        (
            "WAL",
            format!(
                "{} to {} ({} segments, {})",
                plan.first_segment,
                plan.last_segment,
                plan.wal_segments,
                size(plan.wal_bytes)
            ),
        ),
        ("WAL read", wal_read(plan)),
        ("consistent at", format!("LSN {}", plan.consistent_lsn)),
    ];
    if let Some(version) = plan.backup.pg_version {
        rows.insert(2, ("PostgreSQL", server_programs::major(version)));
    }
    if let Some(lsn) = plan.reached_lsn {
        let before = plan.target.as_ref().is_some_and(|target| !target.is_inclusive());
        rows.push((
            "replays up to",
            format!("{}LSN {lsn}", if before { "just before " } else { "" }),
        ));
    }
    if let Some(time) = plan.reached_time {
        rows.push(("last transaction", format_time(time)));
    }
    rows.push(("archiving", archiving.describe()));
    rows.extend(plan.notes.iter().map(|note| ("note", note.clone())));
    rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

fn wal_read(plan: &RestorePlan) -> String {
    match plan.wal_segments_read {
        all if all >= plan.wal_segments => "all of it".to_owned(),
        0 => "none of it".to_owned(),
        first => format!("the first {first} segments"),
    }
}

fn timeline(range: &TimelineRange) -> String {
    let from = format!("{} from LSN {}", range.timeline, range.begin);
    match range.end {
        Some(end) => format!("{from} to {end}"),
        None => from,
    }
}

/// The columns of `wale_restore_plan()`, and more. Sizes are in bytes.
fn plan_as_json(plan: &RestorePlan, archiving: &Archiving) -> Value {
    let timelines: Vec<Value> = plan
        .timelines
        .iter()
        .map(|range| {
            json!({
                "timeline": range.timeline.0,
                "begin_lsn": range.begin.to_string(),
                "end_lsn": range.end.map(|end| end.to_string()),
            })
        })
        .collect();
    json!({
        "reachable": true,
        "backup_name": plan.backup.name,
        "pg_version": plan.backup.pg_version,
        "backup_chain": plan.backup_chain,
        "backup_bytes": plan.backup_bytes,
        "timeline": plan.timeline.0,
        "timelines": timelines,
        "first_segment": plan.first_segment,
        "last_segment": plan.last_segment,
        "wal_segments": plan.wal_segments,
        "wal_bytes": plan.wal_bytes,
        "wal_segments_read": plan.wal_segments_read,
        "raised_settings": plan.raised_settings.map(|settings| BTreeMap::from(settings.named())),
        "new_tablespaces": plan.new_tablespaces.iter().map(tablespace_as_json).collect::<Vec<_>>(),
        "consistent_lsn": plan.consistent_lsn.to_string(),
        "reached_lsn": plan.reached_lsn.map(|lsn| lsn.to_string()),
        "reached_time": plan.reached_time.and_then(rfc3339),
        "newest_wal_time": plan.newest_wal.and_then(rfc3339),
        "archive_mode": archiving.name(),
        "notes": plan.notes,
    })
}

fn tablespace_as_json(tablespace: &NewTablespace) -> Value {
    json!({
        "oid": tablespace.oid,
        "location": tablespace.location.to_string_lossy(),
        "created_lsn": tablespace.created.to_string(),
        "dropped_lsn": tablespace.dropped.map(|lsn| lsn.to_string()),
    })
}

fn refusal_as_json(refusal: &Refusal) -> Value {
    let nearest: Vec<Value> = refusal.nearest.iter().map(nearest_as_json).collect();
    json!({
        "reachable": false,
        "reason": refusal.reason,
        "detail": refusal.detail,
        "nearest": nearest,
        "hint": refusal.hint(),
        "timelines": refusal.timelines.iter().map(timeline_as_json).collect::<Vec<_>>(),
    })
}

/// A timeline of an archive in which one has to be named.
fn timeline_as_json(facts: &TimelineFacts) -> Value {
    let backup = facts.newest_backup.as_ref();
    json!({
        "timeline": facts.timeline.0,
        "parent_timeline": facts.parent.map(|parent| parent.0),
        "forked_at_lsn": facts.forked_at.map(|lsn| lsn.to_string()),
        "forked_at_time": facts.forked_time.and_then(rfc3339),
        "lacks_history": facts.lacks_history,
        "last_segment": facts.last_segment,
        "last_transaction": facts.last_transaction.and_then(rfc3339),
        "newest_backup": backup.map(|(name, _)| name),
        "newest_backup_time": backup.and_then(|(_, time)| rfc3339(*time)),
    })
}

fn nearest_as_json(nearest: &Nearest) -> Value {
    json!({
        "lsn": nearest.lsn.map(|lsn| lsn.to_string()),
        "time": nearest.time.and_then(rfc3339),
        "description": nearest.description,
    })
}

fn rfc3339(time: OffsetDateTime) -> Option<String> {
    time.to_offset(time::UtcOffset::UTC).format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;
    use wal_e_core::Error;
    use wal_e_core::catalogue::BackupInfo;
    use wal_e_core::postgres::{Lsn, TimelineId};
    use wal_e_core::recovery::RecoveryTarget;

    use super::*;

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
                permanent: false,
                hostname: None,
                data_directory: None,
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
                "whether its WAL is there could not be found out: no: It is so"
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
}
