//! Which WAL is missing, and what became of it.

use std::fmt;

use time::Duration;

use super::archive::{Archive, Line};
use super::backups::Usable;
use crate::postgres::{SegmentNumber, TimelineId, WalSegment};

/// An archiver that sends several files at the same time stores the later ones of them first
/// at times, for a moment.
const IN_FLIGHT: Duration = Duration::minutes(5);

/// At most so many segments are on their way at the same time.
const MOST_IN_FLIGHT: u64 = 64;

/// What became of WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// The archive has it.
    Found,
    /// It is not there, and no base backup needs it: one that is kept without what comes after
    /// it ends where it begins, and another begins where it ends.
    NotKept,
    /// It is on its way, or waits to be.
    InFlight,
    /// It is not there. A server still has it, or may have it.
    Missing,
    /// It is not there, and the server does not have it any more.
    Lost,
}

impl Status {
    /// The word for it in every list.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Found => "found",
            Status::NotKept => "not kept",
            Status::InFlight => "in flight",
            Status::Missing => "missing",
            Status::Lost => "lost",
        }
    }

    /// Whether it is a hole that has to be taken care of.
    pub fn is_failure(self) -> bool {
        self >= Status::Missing
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Segments of one timeline that have the same fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: SegmentNumber,
    pub(super) last: SegmentNumber,
    pub(super) status: Status,
    /// Whether the server whose WAL was looked at has it, to be archived again.
    pub(super) is_at_hand: bool,
}

impl Range {
    pub(super) fn segments(&self) -> u64 {
        self.last.0 - self.first.0 + 1
    }
}

impl Archive {
    /// All of a timeline from `first` on, as far as the archive should have it.
    pub(super) fn ranges(&self, timeline: TimelineId, first: SegmentNumber) -> Vec<Range> {
        let Some(line) = self.lines.get(&timeline) else { return Vec::new() };
        let Some(end) = self.end(timeline, line).filter(|end| *end >= first) else {
            return Vec::new();
        };
        let mut ranges = Vec::new();
        let mut next = first;
        let found = |first, last| Range { first, last, status: Status::Found, is_at_hand: false };
        for (run_first, run_last) in line.runs.iter().filter(|(_, last)| *last >= first) {
            if *run_first > end {
                break;
            }
            if *run_first > next && !line.log_begins.contains(run_first) {
                self.judge(timeline, line, (next, SegmentNumber(run_first.0 - 1)), &mut ranges);
            }
            let last = (*run_last).min(end);
            ranges.push(found((*run_first).max(first), last));
            next = SegmentNumber(last.0 + 1);
        }
        if next <= end {
            self.judge(timeline, line, (next, end), &mut ranges);
        }
        ranges
    }

    /// The holes of a timeline, from the first segment that is known of it on.
    pub(super) fn missing(&self, timeline: TimelineId) -> Vec<(SegmentNumber, SegmentNumber)> {
        let Some(first) = self.beginning(timeline) else { return Vec::new() };
        let ranges = self.ranges(timeline, first).into_iter();
        ranges.filter(|range| range.status > Status::Found).map(|it| (it.first, it.last)).collect()
    }

    /// The first segment that the archive should have of a timeline, if that is known.
    pub(super) fn beginning(&self, timeline: TimelineId) -> Option<SegmentNumber> {
        let line = self.lines.get(&timeline)?;
        let stored = line.runs.first().map(|(first, _)| *first);
        [stored, self.needed_from(timeline)].into_iter().flatten().min()
    }

    /// The first segment of a timeline that a restore from any usable base backup needs. `None`
    /// when no backup leads there.
    pub(super) fn needed_from(&self, timeline: TimelineId) -> Option<SegmentNumber> {
        let leading = self.backups.iter().filter(|backup| self.leads(backup, timeline));
        leading
            .filter_map(|backup| match backup.timeline == timeline {
                true => Some(backup.first),
                false => self.switch_segment(timeline),
            })
            .min()
    }

    pub(super) fn leads(&self, backup: &Usable, timeline: TimelineId) -> bool {
        self.branches.leads(backup.timeline, backup.consistent, timeline)
    }

    /// The segment in which a timeline began.
    fn switch_segment(&self, timeline: TimelineId) -> Option<SegmentNumber> {
        let begin = self.lines.get(&timeline)?.history.as_ref()?.begin()?;
        Some(SegmentNumber::containing(begin, self.size))
    }

    /// The last segment that is needed where newer timelines left this one: they have the one
    /// of the switch as a file of their own.
    fn left_after(&self, timeline: TimelineId) -> Option<SegmentNumber> {
        let left = self.lines.keys().filter_map(|newer| self.branches.left(timeline, *newer));
        let number = SegmentNumber::containing(left.max()?, self.size);
        number.0.checked_sub(1).map(SegmentNumber)
    }

    /// Whether a timeline is the server's, or was written to after all newer timelines that left
    /// it had begun.
    fn is_alive(&self, timeline: TimelineId, line: &Line) -> bool {
        let own = self.own.as_ref().and_then(|own| own.position);
        if own.is_some_and(|position| position.timeline == timeline) {
            return true;
        }
        let newer = self.lines.iter();
        let mut began = newer
            .filter(|(newer, _)| self.branches.left(timeline, **newer).is_some())
            .map(|(_, newer)| newer.history_stored);
        began.all(|began| began.zip(line.newest).is_none_or(|(began, newest)| newest > began))
    }

    /// The last segment that the archive should have of a timeline.
    fn end(&self, timeline: TimelineId, line: &Line) -> Option<SegmentNumber> {
        let left = self.left_after(timeline);
        if !self.is_alive(timeline, line) {
            return left;
        }
        let stored = line.runs.last().map(|(_, last)| *last);
        let position = self.own.as_ref().and_then(|own| own.position);
        let complete = position
            .filter(|position| position.timeline == timeline)
            .and_then(|position| position.number.0.checked_sub(1).map(SegmentNumber));
        [left, stored, complete].into_iter().flatten().max()
    }

    /// Judges a hole, in parts that have the same fate.
    fn judge(
        &self,
        timeline: TimelineId,
        line: &Line,
        (first, last): (SegmentNumber, SegmentNumber),
        ranges: &mut Vec<Range>,
    ) {
        let mut push = |first, last, status, is_at_hand| match ranges.last_mut() {
            Some(before) if (before.status, before.is_at_hand) == (status, is_at_hand) => {
                before.last = last;
            }
            _ => ranges.push(Range { first, last, status, is_at_hand }),
        };
        if self.is_not_kept(timeline, first, last) {
            return push(first, last, Status::NotKept, false);
        }
        let elsewhere = self.not_at_hand(timeline, line, first);
        let Some(own) = &self.own else { return push(first, last, elsewhere, false) };
        let position = own.position.filter(|position| position.timeline == timeline);
        // A standby marks what it has received as archived, and its primary archives it.
        let is_last = line.runs.last().is_none_or(|(_, stored)| first > *stored);
        let awaits = own.in_recovery && position.is_some();
        if awaits && (is_last || elsewhere == Status::InFlight) {
            return push(first, last, Status::InFlight, false);
        }
        // What the server completed after it was looked at.
        let newer = position.map(|position| position.number.max(first)).filter(|it| *it <= last);
        let end = newer.map_or(last.0 + 1, |newer| newer.0);
        let mut next = first;
        for (number, waits) in own.has_of(timeline, first, last) {
            if number > next {
                push(next, SegmentNumber(number.0 - 1), elsewhere, false);
            }
            match waits {
                true => push(number, number, Status::InFlight, false),
                false => push(number, number, Status::Missing, true),
            }
            next = SegmentNumber(number.0 + 1);
        }
        if next.0 < end {
            push(next, SegmentNumber(end - 1), elsewhere, false);
        }
        if let Some(newer) = newer {
            push(newer, last, Status::InFlight, false);
        }
    }

    /// What became of a segment of a hole that is not in `pg_wal` of the server.
    fn not_at_hand(&self, timeline: TimelineId, line: &Line, first: SegmentNumber) -> Status {
        let knows = self.own.as_ref().is_some_and(|own| {
            let on_way = |position: WalSegment| {
                position.timeline == timeline
                    || self.branches.left(timeline, position.timeline).is_some()
            };
            !own.in_recovery && own.position.is_some_and(on_way)
        });
        if knows {
            return Status::Lost;
        }
        let last = line.runs.last().map(|(_, last)| *last);
        let is_at_end = last.is_some_and(|last| last > first && last.0 - first.0 <= MOST_IN_FLIGHT);
        let is_recent = line.newest.is_some_and(|newest| newest >= self.now - IN_FLIGHT);
        match is_at_end && is_recent && self.is_alive(timeline, line) {
            true => Status::InFlight,
            false => Status::Missing,
        }
    }

    /// Whether a hole is as retention leaves it: from the end of a base backup, which is kept
    /// for itself, up to the beginning of another; across the switch of a timeline as well.
    fn is_not_kept(&self, timeline: TimelineId, first: SegmentNumber, last: SegmentNumber) -> bool {
        let after_backup = self.backups.iter().any(|backup| {
            backup.timeline == timeline && backup.last.0.checked_add(1) == Some(first.0)
        });
        let before_backup = self.backups.iter().any(|backup| {
            backup.timeline == timeline && backup.first.0.checked_sub(1) == Some(last.0)
        });
        let lacks_beginning = |timeline: TimelineId| {
            let line = self.lines.get(&timeline);
            let begin = self.switch_segment(timeline);
            begin.zip(line).is_some_and(|(begin, line)| !line.has(begin))
        };
        let left_at_end = || {
            self.left_after(timeline) == Some(last)
                && self.lines.keys().any(|newer| {
                    self.branches.left(timeline, *newer).is_some() && lacks_beginning(*newer)
                })
        };
        let parent_lacks_end = || {
            let parent = self.lines.get(&timeline)?.history.as_ref()?.parent()?;
            let end = self.left_after(parent)?;
            Some(!self.lines.get(&parent)?.has(end))
        };
        let begins =
            || self.switch_segment(timeline) == Some(first) && parent_lacks_end().unwrap_or(false);
        (after_backup && (before_backup || left_at_end())) || (before_backup && begins())
    }
}
