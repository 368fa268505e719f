//! Whether a WAL segment that the archive does not have is the end of the WAL, or a gap,
//! because the log went on after it.
//!
//! Later segments of the timeline show a gap. Where the end of a timeline is missing, there
//! are no later segments; then the history of a newer timeline shows it, which says where the
//! older one was left. An archive looks like that when a server died with segments that it had
//! not archived, and its standby was promoted.
//!
//! And where the beginning of a timeline is missing, recovery would not even end: the
//! server would go on with the segment of the timeline that was left.

use std::{fmt, iter};

use crate::catalogue::around::{Surroundings, look_around};
use crate::catalogue::asked::{asked_for, newer_timelines};
use crate::catalogue::history;
use crate::catalogue::locate::locate;
use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::Notices;
use crate::postgres::{
    Lsn, SegmentNumber, SegmentSize, TimelineHistory, TimelineId, TimelineRange, WalFileKind,
    WalFileName, WalSegment,
};
use crate::store::ObjectStore;

/// What shows that the log went on after a segment. As text, a whole sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continuation {
    /// The archive has this later segment of the timeline, whole or partial.
    Segment(WalFileName),
    /// A newer timeline left this one only after the segment, or at its end; or within
    /// it, and the archive has the same up to there in a segment of the newer one.
    Switch {
        /// The timeline that was left.
        timeline: TimelineId,
        /// Where.
        left: Lsn,
        /// The history file that says so.
        history: WalFileName,
        /// The segment that has the beginning of the missing one.
        instead: Option<WalFileName>,
    },
    /// The timeline began within the segment, and the archive has an ancestor's segment of
    /// that place.
    Ancestor {
        /// The timeline that began.
        timeline: TimelineId,
        /// Where.
        begin: Lsn,
        /// The ancestor.
        ancestor: TimelineId,
        /// Its segment, which goes on differently.
        segment: WalFileName,
    },
}

impl fmt::Display for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Continuation::Segment(later) => {
                write!(f, "The next segment of this timeline in the archive is \"{later}\".")
            }
            Continuation::Switch { timeline, left, history, instead: None } => write!(
                f,
                "Timeline history file \"{history}\" in the archive says that timeline {timeline} was left only at LSN {left}."
            ),
            Continuation::Switch { timeline, left, history, instead: Some(segment) } => write!(
                f,
                "Timeline history file \"{history}\" in the archive says that timeline {timeline} was left only at LSN {left}, within this segment. \"{segment}\" has the same WAL up to there."
            ),
            Continuation::Ancestor { timeline, begin, ancestor, segment } => write!(
                f,
                "Timeline {timeline} began in this segment, at LSN {begin}, where it left timeline {ancestor}. A server would go on with \"{segment}\" and what timeline {ancestor} has from that LSN on, which is not part of timeline {timeline}."
            ),
        }
    }
}

/// What shows that the log went on after the segment `name`, if the archive does not
/// have it; `None` is the end of the WAL. `size` is that of the cluster's segments.
///
/// # Errors
/// Those of the store, and those of [`history`] with what they mean here.
pub async fn continuation(
    store: &dyn ObjectStore,
    name: &WalFileName,
    size: SegmentSize,
    notices: &Notices,
) -> Result<Option<Continuation>> {
    let seen = look_around(store, name, Some(size), true).await?;
    if !seen.found.is_empty() {
        return Ok(None);
    }
    match &seen.later {
        Some(later) => Ok(Some(Continuation::Segment(later.clone()))),
        None => shown_by_histories(store, name, size, &seen, notices).await,
    }
}

/// What timeline histories say of a segment that the archive does not have, nor a later
/// one of its timeline. `seen` is what there is around it.
///
/// # Errors
/// As [`continuation`].
pub(super) async fn shown_by_histories(
    store: &dyn ObjectStore,
    name: &WalFileName,
    size: SegmentSize,
    seen: &Surroundings,
    notices: &Notices,
) -> Result<Option<Continuation>> {
    let number = name.segment_number(size).filter(|_| name.kind() == WalFileKind::Segment);
    let Some(number) = number else { return Ok(None) };
    let missing = Missing { store, name, number, size, notices };
    if let Some(newer) = seen.newer
        && let Some(switch) = missing.switch_after(newer).await?
    {
        return Ok(Some(switch));
    }
    // Of a timeline that has an earlier segment this is not the first one.
    if seen.earlier { Ok(None) } else { missing.ancestor_in_its_place().await }
}

/// A segment that the archive does not have.
struct Missing<'a> {
    store: &'a dyn ObjectStore,
    name: &'a WalFileName,
    number: SegmentNumber,
    size: SegmentSize,
    notices: &'a Notices,
}

impl Missing<'_> {
    /// Looks for a newer timeline that left that of the segment after it, at its end,
    /// or within it. `newer` is the first newer timeline that the archive has; those after
    /// it are counted as PostgreSQL counts them (15, `timeline.c`, `findNewestTimeLine`),
    /// up to the first that has no history file. All are asked: the newest may descend
    /// from an earlier point than another.
    ///
    /// A timeline that was left within the segment is missed where the newer one's file is
    /// there, which a server that follows that one gets. Without it, this is the end of
    /// the log for both.
    async fn switch_after(&self, newer: TimelineId) -> Result<Option<Continuation>> {
        let (start, end) = (self.number.start_lsn(self.size), self.number.end_lsn(self.size));
        let timeline = self.name.timeline();
        for newer in iter::once(newer).chain(newer_timelines(newer)) {
            let Some(found) = self.history(newer).await? else { break };
            // Only the part that the newer timeline has of it is known to have been written.
            let range = found.range_of(timeline).filter(|range| range.begin < end);
            let left = range.and_then(|range| range.end).filter(|left| *left > start);
            if let Some(left) = left {
                let same = self.of_timeline(newer);
                let is_within = left < end;
                if !is_within || locate(self.store, &same).await?.is_some() {
                    let history = WalFileName::history(newer);
                    let instead = is_within.then_some(same);
                    return Ok(Some(Continuation::Switch { timeline, left, history, instead }));
                }
            }
        }
        Ok(None)
    }

    /// Looks for the segment that a server asks for next, if this is the first one of its
    /// timeline. It replays all of that file, also what is past the switch.
    async fn ancestor_in_its_place(&self) -> Result<Option<Continuation>> {
        let timeline = self.name.timeline();
        if timeline.0 <= 1 {
            return Ok(None);
        }
        let Some(history) = self.history(timeline).await? else { return Ok(None) };
        let mut asked = asked_for(&history, self.number, self.size);
        let own = asked.next().filter(|own| own.timeline == timeline && own.begin.0 > 0);
        let begin = own.map(|own| own.begin);
        let begin = begin.filter(|lsn| SegmentNumber::containing(*lsn, self.size) == self.number);
        let Some(begin) = begin else { return Ok(None) };
        for TimelineRange { timeline: ancestor, .. } in asked {
            let segment = self.of_timeline(ancestor);
            if locate(self.store, &segment).await?.is_some() {
                return Ok(Some(Continuation::Ancestor { timeline, begin, ancestor, segment }));
            }
        }
        Ok(None)
    }

    /// The name of the segment at the same place on another timeline.
    fn of_timeline(&self, timeline: TimelineId) -> WalFileName {
        WalFileName::segment(WalSegment { timeline, number: self.number }, self.size)
    }

    async fn history(&self, timeline: TimelineId) -> Result<Option<TimelineHistory>> {
        let found = history(self.store, timeline, self.notices).await;
        found.map_err(|error| undecided(self.name, error))
    }
}

/// The error of a history file that cannot be used, where a segment was asked for.
fn undecided(name: &WalFileName, error: Error) -> Error {
    if !error.is_unusable_object() {
        return error;
    }
    let meaning = format!(
        "WAL segment \"{name}\" is not in the archive. Whether the log ends there is known only with the histories of its timeline and of each newer one."
    );
    let detail = match error.detail() {
        Some(detail) => format!("{detail} {meaning}"),
        None => meaning,
    };
    let repair = error.hint().unwrap_or("Restore it from a copy of the archive.");
    let hint = format!(
        "{repair} To let recovery end here, use the option {} of wal-fetch.",
        Word::EndAtGap
    );
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
        Continuation::Segment(_) => "which has later segments".to_owned(),
        Continuation::Switch { .. } => "and the log went on after it".to_owned(),
        Continuation::Ancestor { timeline, .. } => {
            format!("and recovery would leave timeline {timeline} there")
        }
    };
    let option = Word::EndAtGap;
    let end = format!(
        "Without it recovery cannot reach what came after. Put it back into the archive, or let recovery end here, or at a target before it, with the option {option} of wal-fetch."
    );
    let hint = match continuation {
        Continuation::Switch { instead: Some(segment), .. } => format!(
            "{end} Recovery along timeline {0} does not need it: set \"recovery_target_timeline\" to '{0}'.",
            segment.timeline()
        ),
        Continuation::Ancestor { timeline, begin, ancestor, .. } => format!(
            "If a server runs on timeline {timeline}, SELECT pg_switch_wal() there archives the segment. To recover along timeline {ancestor}, set \"recovery_target_timeline\" to '{ancestor}'. Only a target before LSN {begin} needs none of this: there, add the option {option} to wal-fetch."
        ),
        Continuation::Segment(_) | Continuation::Switch { instead: None, .. } => end,
    };
    Error::new(
        ErrorKind::Corrupt,
        format!("WAL segment \"{name}\" is missing in \"{directory}\", {what}"),
    )
    .with_detail(continuation.to_string())
    .with_hint(hint)
}
