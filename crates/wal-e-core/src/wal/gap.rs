//! Whether a WAL segment that the archive does not have is the end of the WAL, or
//! the log went on behind it: then there is a gap.
//!
//! Later segments of the timeline show it. Where the end of a timeline is missing
//! there is none; then the history of a newer timeline does, which says where it was
//! left. That is how an archive looks whose server died with segments that it had
//! not archived, and whose standby was promoted.

use std::fmt;

use super::history::history;
use super::locate::look_around;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::Notices;
use crate::postgres::{Lsn, SegmentSize, TimelineId, WalFileKind, WalFileName};
use crate::store::ObjectStore;

/// What shows that the log went on behind a segment. As text, a whole sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continuation {
    /// The archive has this later segment of the timeline, whole or partial.
    Segment(WalFileName),
    /// A newer timeline left this one only behind the segment, or at its end.
    Switch {
        /// The timeline that was left.
        timeline: TimelineId,
        /// Where.
        left: Lsn,
        /// The history file that says so.
        history: WalFileName,
    },
}

impl fmt::Display for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Continuation::Segment(later) => {
                write!(f, "The next one of this timeline there is \"{later}\".")
            }
            Continuation::Switch { timeline, left, history } => write!(
                f,
                "As timeline history file \"{history}\" there says, timeline {timeline} was left only at LSN {left}."
            ),
        }
    }
}

/// What shows that the log went on behind the segment `name`, if the archive does not
/// have it: `None` is the end of the WAL. `size` is that of the cluster's segments.
///
/// # Errors
/// Those of the store, and those of [`history`] with what they mean here.
pub async fn continuation(
    store: &dyn ObjectStore,
    name: &WalFileName,
    size: SegmentSize,
    notices: &Notices,
) -> Result<Option<Continuation>> {
    let seen = look_around(store, name).await?;
    if !seen.found.is_empty() {
        return Ok(None);
    }
    match (seen.later, seen.newer) {
        (Some(later), _) => Ok(Some(Continuation::Segment(later))),
        (None, Some(newer)) => switch_behind(store, name, size, newer, notices).await,
        (None, None) => Ok(None),
    }
}

/// Looks for a newer timeline that left the one of the segment `name` behind it, or at
/// its end. `newer` is the first newer timeline that the archive has; those after it
/// are counted as PostgreSQL counts them (15, `timeline.c`, `findNewestTimeLine`), up
/// to the first that has no history file. All are asked: the newest may descend from
/// an earlier point than another.
///
/// A segment in which a timeline was left is not missed here: the newer timeline has
/// a file with the same content, and a server asks for that one first.
///
/// # Errors
/// As [`continuation`].
pub(super) async fn switch_behind(
    store: &dyn ObjectStore,
    name: &WalFileName,
    size: SegmentSize,
    newer: TimelineId,
    notices: &Notices,
) -> Result<Option<Continuation>> {
    let number = name.segment_number(size).filter(|_| name.kind() == WalFileKind::Segment);
    let Some(end) = number.map(|number| number.end_lsn(size)) else { return Ok(None) };
    let timeline = name.timeline();
    let mut next = Some(newer);
    while let Some(newer) = next {
        let found = history(store, newer, notices).await;
        let Some(found) = found.map_err(|error| undecided(name, error))? else { break };
        // Only the part that the newer timeline has of it is known to have been written.
        let range = found.range_of(timeline).filter(|range| range.begin < end);
        if let Some(left) = range.and_then(|range| range.end).filter(|left| *left >= end) {
            let history = WalFileName::history(newer);
            return Ok(Some(Continuation::Switch { timeline, left, history }));
        }
        next = newer.0.checked_add(1).map(TimelineId);
    }
    Ok(None)
}

/// The error of a history file that cannot be used, for whoever asked for a segment.
fn undecided(name: &WalFileName, error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Config) {
        return error;
    }
    let meaning = format!(
        "WAL segment \"{name}\" is not in the archive; whether the log ends there cannot be told without the history of each newer timeline."
    );
    let detail = match error.detail() {
        Some(detail) => format!("{detail} {meaning}"),
        None => meaning,
    };
    let mend = error.hint().unwrap_or("Restore it from a copy of the archive.");
    let hint =
        format!("{mend} To let recovery end here, use the option --end-at-gap of wal-fetch.");
    error.with_detail(detail).with_hint(hint)
}

/// The error for the segment `name`, without which recovery cannot go on.
pub(super) fn gap(
    store: &dyn ObjectStore,
    name: &WalFileName,
    continuation: &Continuation,
) -> Error {
    let directory = store.url(&layout::wal());
    let what = match continuation {
        Continuation::Segment(_) => "which has later ones",
        Continuation::Switch { .. } => "and the log went on behind it",
    };
    Error::new(
        ErrorKind::Corrupt,
        format!("WAL segment \"{name}\" is missing in \"{directory}\", {what}"),
    )
    .with_detail(continuation.to_string())
    .with_hint(
        "Without it recovery cannot reach what came after. Bring it back, or let recovery end here, or at a target before it, with the option --end-at-gap of wal-fetch.",
    )
}
