//! A plan in words: the table of facts, and the line for the log of a restore.

use wal_e_core::postgres::TimelineRange;
use wal_e_core::recovery::{RestorePlan, format_time};

use crate::commands::archiving::Archiving;
use crate::server_programs;
use crate::table::size;

/// One line for the log of a restore.
pub fn summary(plan: &RestorePlan) -> String {
    let wal = match plan.wal_segments {
        1 => format!("WAL segment {}", plan.first_segment),
        count => {
            format!("{count} WAL segments, {} to {}", plan.first_segment, plan.last_segment)
        }
    };
    format!("recovery to {} is possible: base backup {} and {wal}", goal(plan), plan.backup.name)
}

pub fn rows(plan: &RestorePlan, archiving: &Archiving) -> Vec<Vec<String>> {
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

fn goal(plan: &RestorePlan) -> String {
    match &plan.target {
        Some(target) => target.to_string(),
        None => "the end of the archive".to_owned(),
    }
}
