//! A plan, or a refusal, as a JSON object.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use wal_e_core::recovery::{Nearest, NewTablespace, Refusal, RestorePlan, TimelineFacts};

use crate::commands::archiving::Archiving;

/// The columns of `wale_restore_plan()`, and more. Sizes are in bytes.
pub fn plan_as_json(plan: &RestorePlan, archiving: &Archiving) -> Value {
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

pub fn refusal_as_json(refusal: &Refusal) -> Value {
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
