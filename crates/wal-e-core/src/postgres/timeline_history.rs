//! Where a timeline came from.
//!
//! PostgreSQL 15, `src/backend/access/transam/timeline.c` (`readTimeLineHistory`,
//! `tliOfPointInHistory`): a history file has a line for each ancestor, oldest
//! first: its number, the LSN at which it was left, and the reason for people.
//!
//! The LSNs need not ascend. A second recovery to an earlier moment gives timeline 3
//! the lines `1 X` and `2 Y` with Y before X: it parted from what timeline 2 had of
//! timeline 1, and has nothing of timeline 2's own. PostgreSQL asks the newest
//! timeline first, so that the newest entry prevails.

use super::{Lsn, TimelineId};
use crate::error::{Error, ErrorKind, Result};

/// The largest history that is read: some ten thousand switches.
pub const LARGEST_HISTORY_BYTES: u64 = 1 << 20;

/// A timeline and its ancestors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineHistory {
    timeline: TimelineId,
    /// Oldest first, each with the LSN at which it was left; these never descend.
    ancestors: Vec<(TimelineId, Lsn)>,
}

/// The part of the log that a timeline contributes to the history of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimelineRange {
    /// The timeline.
    pub timeline: TimelineId,
    /// Where its part begins; 0/0 for the oldest.
    pub begin: Lsn,
    /// The LSN at which it was left: the first that is not its own. `None` for the
    /// timeline whose history it is.
    pub end: Option<Lsn>,
}

impl TimelineRange {
    /// Whether the timeline contributes nothing.
    pub fn is_empty(&self) -> bool {
        self.end.is_some_and(|end| end <= self.begin)
    }

    /// Whether the byte at `lsn` is of this part.
    pub fn contains(&self, lsn: Lsn) -> bool {
        self.begin <= lsn && self.end.is_none_or(|end| lsn < end)
    }
}

impl TimelineHistory {
    /// A timeline of which no ancestor is known, as timeline 1.
    pub fn without_ancestors(timeline: TimelineId) -> Self {
        TimelineHistory { timeline, ancestors: Vec::new() }
    }

    /// Reads the history file of `timeline`; `file` names it in errors.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for what PostgreSQL would not read either, and for a
    /// file of more than [`LARGEST_HISTORY_BYTES`].
    pub fn parse(file: &str, timeline: TimelineId, content: &[u8]) -> Result<Self> {
        let damaged = |detail: String| {
            Error::new(ErrorKind::Corrupt, format!("timeline history file \"{file}\" is damaged"))
                .with_detail(detail)
        };
        if content.len() as u64 > LARGEST_HISTORY_BYTES {
            return Err(damaged(format!("It has {} bytes.", content.len())));
        }
        let text = std::str::from_utf8(content).map(str::to_owned).unwrap_or_else(|_| {
            // The reason may hold the name of a restore point in any encoding.
            content.iter().map(|byte| char::from(*byte)).collect()
        });
        let mut ancestors: Vec<(TimelineId, Lsn)> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (parent, switch) = parse_line(line).ok_or_else(|| {
                damaged(format!("Line {number} has no timeline and LSN at its beginning."))
            })?;
            if let Some((before, _)) = ancestors.last()
                && parent <= *before
            {
                return Err(damaged(format!(
                    "Line {number} is about timeline {parent}, which does not come after timeline {before}."
                )));
            }
            ancestors.push((parent, switch));
        }
        if let Some((parent, _)) = ancestors.last().filter(|(parent, _)| *parent >= timeline) {
            return Err(damaged(format!(
                "It says that timeline {parent} is an ancestor of timeline {timeline}."
            )));
        }
        let mut later = Lsn(u64::MAX);
        for (_, left) in ancestors.iter_mut().rev() {
            later = later.min(*left);
            *left = later;
        }
        Ok(TimelineHistory { timeline, ancestors })
    }

    /// The timeline whose history it is.
    pub fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// The parts of the log, oldest first; together they are all of it.
    pub fn ranges(&self) -> Vec<TimelineRange> {
        let ends = self.ancestors.iter().map(|(timeline, end)| (*timeline, Some(*end)));
        let mut begin = Lsn(0);
        ends.chain(std::iter::once((self.timeline, None)))
            .map(|(timeline, end)| {
                let range = TimelineRange { timeline, begin, end };
                begin = end.unwrap_or(begin);
                range
            })
            .collect()
    }

    /// The history of an ancestor, as far as this one has it; its own for itself.
    pub fn of_ancestor(&self, ancestor: TimelineId) -> Option<TimelineHistory> {
        if ancestor == self.timeline {
            return Some(self.clone());
        }
        let index = self.ancestors.iter().position(|(timeline, _)| *timeline == ancestor)?;
        let ancestors = self.ancestors.get(..index)?.to_vec();
        Some(TimelineHistory { timeline: ancestor, ancestors })
    }

    /// The timeline that this one left; `None` when it is not known to have left any.
    pub fn parent(&self) -> Option<TimelineId> {
        self.ancestors.last().map(|(timeline, _)| *timeline)
    }

    /// Where this timeline began; `None` when it is not known to have left any.
    pub fn begin(&self) -> Option<Lsn> {
        self.ancestors.last().map(|(_, left)| *left)
    }

    /// The first LSN that two histories do not have in common; `None` when one has all
    /// of the other.
    pub fn parts_from(&self, other: &TimelineHistory) -> Option<Lsn> {
        let ranges = self.ranges().into_iter().chain(other.ranges());
        let begins = ranges.map(|range| range.begin);
        begins.filter(|lsn| self.timeline_at(*lsn) != other.timeline_at(*lsn)).min()
    }

    /// The timeline that the byte at `lsn` was written on.
    pub fn timeline_at(&self, lsn: Lsn) -> TimelineId {
        let left_later = self.ancestors.iter().find(|(_, end)| lsn < *end);
        left_later.map_or(self.timeline, |(timeline, _)| *timeline)
    }

    /// The part of the log that `timeline` contributes; `None` when it is not an ancestor.
    pub fn range_of(&self, timeline: TimelineId) -> Option<TimelineRange> {
        self.ranges().into_iter().find(|range| range.timeline == timeline)
    }
}

/// `1\t0/3000000\treason`.
fn parse_line(line: &str) -> Option<(TimelineId, Lsn)> {
    let mut words = line.split_ascii_whitespace();
    let timeline = words.next()?;
    let sound = timeline.bytes().all(|byte| byte.is_ascii_digit());
    let timeline = timeline.parse().ok().filter(|number| sound && *number > 0)?;
    Some((TimelineId(timeline), words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "00000005.history";

    fn parse(text: &str) -> Result<TimelineHistory> {
        TimelineHistory::parse(FILE, TimelineId(5), text.as_bytes())
    }

    #[test]
    fn a_history_has_the_ranges_of_its_ancestors() {
        let text = "1\t0/3000148\tbefore 2026-11-23 12:00:00+00\n\n# by hand\n \
                    3\t0/5000000\tno recovery target specified\n";
        let history = parse(text).unwrap();
        let range = |timeline, begin, end: Option<u64>| TimelineRange {
            timeline: TimelineId(timeline),
            begin: Lsn(begin),
            end: end.map(Lsn),
        };
        assert_eq!(
            history.ranges(),
            [
                range(1, 0, Some(0x300_0148)),
                range(3, 0x300_0148, Some(0x500_0000)),
                range(5, 0x500_0000, None)
            ]
        );
        for (lsn, timeline) in
            [(0, 1), (0x300_0147, 1), (0x300_0148, 3), (0x4FF_FFFF, 3), (0x500_0000, 5)]
        {
            assert_eq!(history.timeline_at(Lsn(lsn)), TimelineId(timeline), "{lsn:X}");
            let range = history.range_of(TimelineId(timeline)).unwrap();
            assert!(range.contains(Lsn(lsn)), "{lsn:X}");
        }
        assert_eq!(history.range_of(TimelineId(2)), None);
    }

    #[test]
    fn of_two_switches_the_newer_prevails_even_if_it_lies_before_the_other() {
        let ranges = |text| -> Vec<(u32, u64, Option<u64>)> {
            let ranges = parse(text).unwrap().ranges();
            ranges.iter().map(|r| (r.timeline.0, r.begin.0, r.end.map(|end| end.0))).collect()
        };
        const X: u64 = 0x300_0148;
        const Y: u64 = 0x200_0000;
        assert_eq!(
            ranges("1\t0/3000148\n\n2\t0/2000000"),
            [(1, 0, Some(Y)), (2, Y, Some(Y)), (5, Y, None)]
        );
        assert_eq!(
            ranges("1\t0/2000000\n2\t0/4000000\n3\t0/3000148"),
            [(1, 0, Some(Y)), (2, Y, Some(X)), (3, X, Some(X)), (5, X, None)]
        );
        let history = parse("1\t0/3000148\n2\t0/2000000").unwrap();
        for (lsn, timeline) in [(Y - 1, 1), (Y, 5), (X - 1, 5), (X, 5)] {
            assert_eq!(history.timeline_at(Lsn(lsn)), TimelineId(timeline), "{lsn:X}");
        }
        assert!(history.range_of(TimelineId(2)).unwrap().is_empty());
        assert!(!history.range_of(TimelineId(1)).unwrap().is_empty());
    }

    #[test]
    fn two_histories_part_where_they_differ_first() {
        let of = |timeline, text: &str| {
            TimelineHistory::parse(FILE, TimelineId(timeline), text.as_bytes()).unwrap()
        };
        let first = TimelineHistory::without_ancestors(TimelineId(1));
        let second = of(2, "1\t0/3000148");
        let third = of(3, "1\t0/2000000");
        let fourth = of(4, "1\t0/3000148\n2\t0/5000000");
        let fifth = of(5, "1\t0/3000148\n3\t0/2000000");
        for (one, other, parted) in [
            (&first, &second, 0x300_0148),
            (&second, &third, 0x200_0000),
            (&first, &third, 0x200_0000),
            (&second, &fourth, 0x500_0000),
            (&third, &fourth, 0x200_0000),
            (&third, &fifth, 0x200_0000),
        ] {
            assert_eq!(one.parts_from(other), Some(Lsn(parted)), "{one:?} {other:?}");
            assert_eq!(other.parts_from(one), Some(Lsn(parted)));
        }
        assert_eq!(fourth.parts_from(&fourth), None);
        assert_eq!(fourth.of_ancestor(TimelineId(2)), Some(second.clone()));
        assert_eq!(fourth.of_ancestor(TimelineId(3)), None);
        assert_eq!((second.parent(), second.begin()), (Some(TimelineId(1)), Some(Lsn(0x300_0148))));
        assert_eq!((first.parent(), first.begin()), (None, None));
    }

    #[test]
    fn timeline_1_has_no_history_file() {
        let history = TimelineHistory::without_ancestors(TimelineId(1));
        assert_eq!(history.timeline_at(Lsn(u64::MAX)), TimelineId(1));
        assert_eq!(history.ranges().len(), 1);
    }

    #[test]
    fn a_reason_may_be_in_any_encoding_or_missing() {
        let history =
            TimelineHistory::parse(FILE, TimelineId(5), b"1\t0/3000148\tat \xFC\n2 0/4000000");
        assert_eq!(history.unwrap().ranges().len(), 3);
    }

    #[test]
    fn a_damaged_history_is_told_by_file_and_line() {
        for (text, complaint) in [
            ("x", "Line 1"),
            ("1", "Line 1"),
            ("1\t3000148", "Line 1"),
            ("0\t0/3000148", "Line 1"),
            ("-1\t0/3000148", "Line 1"),
            ("4294967296\t0/3000148", "Line 1"),
            ("2\t0/3000148\n1\t0/4000000", "Line 2"),
            ("2\t0/3000148\n2\t0/4000000", "Line 2"),
            ("5\t0/3000148", "timeline 5 is an ancestor"),
            ("6\t0/3000148", "timeline 6 is an ancestor"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.message().contains(FILE), "{error}");
            assert!(error.detail().unwrap().contains(complaint), "{text}: {error:?}");
        }
        let long = "# x\n".repeat(300_000);
        assert!(parse(&long).unwrap_err().detail().unwrap().contains("1200000 bytes"));
    }
}
