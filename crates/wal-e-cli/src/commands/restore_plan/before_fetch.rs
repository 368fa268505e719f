//! The plan that `backup-fetch` makes before it writes anything.

use time::OffsetDateTime;
use wal_e_core::postgres::RequiredSettings;
use wal_e_core::recovery::{
    BackupChoice, NewTablespace, Outcome, PlanRequest, ReadWal, RestorePlan, TargetTimeline,
};
use wal_e_core::restore::{ArchiveMode, CreatedTablespace};
use wal_e_core::{ErrorKind, Result};

use super::plan;
use super::text::summary;
use crate::cli;
use crate::commands::Opened;
use crate::commands::archiving::{self, Archiving};
use crate::report::Report;

/// What a restore is done by.
pub struct Planned {
    /// The name of the base backup.
    pub backup: String,
    /// The timeline to recover along; `None` is PostgreSQL's default.
    pub timeline: Option<TargetTimeline>,
    /// The tablespaces that recovery creates.
    pub tablespaces: Vec<CreatedTablespace>,
    /// Why it is doubtful that a restore of files alone can be recovered.
    pub doubt: Option<String>,
    /// Whether the restored cluster archives.
    pub archiving: Archiving,
    /// What the WAL needs the server to be set to.
    pub required_settings: RequiredSettings,
    /// Whether the server must not read WAL ahead of its replay.
    pub must_not_read_ahead: bool,
    /// `server_version_num` of the base backup, if it is known.
    pub pg_version: Option<u32>,
}

/// Plans the restore of backup `name`: which backup to fetch, once it is known that the
/// target can be reached from it. Without recovery options, `set_up` is false and nothing
/// is refused.
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

/// The timeline for `recovery_target_timeline`. With a target it is the one that was
/// planned: before the server starts, another copy may be promoted, and the target need
/// not lie on that newer timeline. Without a target PostgreSQL chooses the newest timeline,
/// which a standby must follow, too; unless that one is another cluster's.
///
/// The base backup's own timeline is `current`: for every number but 1, PostgreSQL wants
/// the history file, which is needed for nothing else then.
pub(super) fn timeline_to_follow(
    plan: &RestorePlan,
    request: &PlanRequest,
) -> Option<TargetTimeline> {
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

/// Why it is doubtful that files alone can be recovered. They can be restored without any
/// WAL, and the restore itself finds out whether they exist.
pub(super) fn doubt(outcome: Result<Outcome>) -> Result<Option<String>> {
    let doubt = match outcome {
        Ok(Outcome::Reachable(_)) => return Ok(None),
        Ok(Outcome::Refused(refusal)) => refusal.explanation(),
        Err(error) => match error.kind() {
            ErrorKind::Cancelled => return Err(error),
            ErrorKind::NotFound => return Ok(None),
            _ => format!(
                "could not find out whether its WAL is there: {}",
                error.message_and_detail()
            ),
        },
    };
    Ok(Some(doubt.trim_end_matches('.').to_owned()))
}
