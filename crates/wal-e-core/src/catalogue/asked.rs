//! What a server that recovers asks the archive for, and in which order.
//!
//! PostgreSQL 15, `src/backend/access/transam/xlogrecovery.c`, `XLogFileReadAnyTLI`: for each
//! segment, the server goes through the timelines of the history that it follows, from
//! the newest to the oldest. It passes over those that began only after the segment, and
//! never turns to a timeline older than that of the segment before. It takes the first file
//! that it gets, and replays all of it, also what the file has past the switch. So:
//!
//! ```text
//!    3   4   5   6
//! 1  ●───●───●───●
//! 2          └●──●   left timeline 1 within segment 5
//! ```
//!
//! (● is a segment, └ the place where a timeline left the one above.) Segment 4 is asked for
//! on timeline 1; segment 5 on timeline 2, then on timeline 1; segment 6 on timeline 2 alone.
//!
//! A segment in which one timeline left another exists on both, with the same content up to
//! there. The newer file has to be taken: how the older one goes on is not part of the history.
//! The server never asks for `.partial` files. It looks for newer timelines by asking for their
//! history files one by one (`timeline.c`, `findNewestTimeLine`).

use std::iter;

use crate::postgres::{SegmentNumber, SegmentSize, TimelineHistory, TimelineId, TimelineRange};

/// The timelines on which a server that follows `history` asks for the segment `number`, in
/// this order, after it has got what comes before.
pub(crate) fn asked_for(
    history: &TimelineHistory,
    number: SegmentNumber,
    size: SegmentSize,
) -> impl Iterator<Item = TimelineRange> {
    asked_from(history, number, size)
        .filter(move |range| SegmentNumber::containing(range.begin, size) <= number)
}

/// The timelines on which a server that follows `history` may ask for the segment `start` or
/// later ones, newest first.
pub(crate) fn asked_from(
    history: &TimelineHistory,
    start: SegmentNumber,
    size: SegmentSize,
) -> impl Iterator<Item = TimelineRange> {
    let reaches = move |end| -> bool { SegmentNumber::containing(end, size) >= start };
    history.ranges().into_iter().rev().filter(move |range| range.end.is_none_or(reaches))
}

/// Consecutive segments of which the files of one timeline are asked for first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The timeline.
    pub timeline: TimelineId,
    /// The first segment.
    pub first: SegmentNumber,
    /// The last one; `None` for the timeline that recovery follows.
    pub last: Option<SegmentNumber>,
}

/// What a server that follows `history` asks for first, from the segment `start` on, in the
/// order of replay. There is always a last piece.
pub(crate) fn pieces(
    history: &TimelineHistory,
    start: SegmentNumber,
    size: SegmentSize,
) -> Vec<Piece> {
    let mut firsts: Vec<SegmentNumber> = asked_from(history, start, size)
        .map(|range| SegmentNumber::containing(range.begin, size).max(start))
        .collect();
    // Several timelines may have begun in one segment.
    firsts.dedup();
    firsts.reverse();
    let nexts = firsts.iter().skip(1).map(|next| Some(*next)).chain(iter::once(None));
    let piece = |(first, next): (&SegmentNumber, Option<SegmentNumber>)| {
        let timeline = asked_for(history, *first, size).next()?.timeline;
        let last = next.map(|next| SegmentNumber(next.0 - 1));
        Some(Piece { timeline, first: *first, last })
    };
    firsts.iter().zip(nexts).filter_map(piece).collect()
}

/// The timelines of which a server asks for the history file when it looks for one that is
/// newer than `timeline`: one by one, until the archive does not have one.
pub(crate) fn newer_timelines(timeline: TimelineId) -> impl Iterator<Item = TimelineId> {
    let next = |timeline: &TimelineId| timeline.0.checked_add(1).map(TimelineId);
    iter::successors(next(&timeline), next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::Lsn;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    fn lsn(segment: u64, offset: u64) -> Lsn {
        Lsn(SegmentNumber(segment).start_lsn(SIZE).0 + offset)
    }

    /// Timeline 3, whose ancestors were left at these LSNs.
    fn history(left: &[(u32, Lsn)]) -> TimelineHistory {
        let lines: String = left.iter().map(|(tli, lsn)| format!("{tli}\t{lsn}\tx\n")).collect();
        TimelineHistory::parse("00000003.history", TimelineId(3), lines.as_bytes()).unwrap()
    }

    /// The timelines on which each of these segments is asked for.
    fn asked(history: &TimelineHistory, numbers: [u64; 4]) -> [Vec<u32>; 4] {
        numbers.map(|number| {
            asked_for(history, SegmentNumber(number), SIZE).map(|range| range.timeline.0).collect()
        })
    }

    fn in_numbers(history: &TimelineHistory, start: u64) -> Vec<(u32, u64, Option<u64>)> {
        let found = pieces(history, SegmentNumber(start), SIZE).into_iter();
        found.map(|p| (p.timeline.0, p.first.0, p.last.map(|last| last.0))).collect()
    }

    #[test]
    fn the_segment_of_a_switch_is_asked_for_on_the_newer_timeline_first() {
        //    3   4   5   6   7   8   9
        // 1  ●───●───●
        // 2          └●──●───●
        // 3                     └●───●
        let history = history(&[(1, lsn(5, 100)), (2, lsn(8, 0))]);
        assert_eq!(asked(&history, [4, 5, 6, 7]), [vec![1], vec![2, 1], vec![2], vec![2]]);
        // The server asks for the file of timeline 2, which has nothing of the history there.
        assert_eq!(asked(&history, [8, 9, 10, 99]), [vec![3, 2], vec![3], vec![3], vec![3]]);
        assert_eq!(in_numbers(&history, 3), [(1, 3, Some(4)), (2, 5, Some(7)), (3, 8, None)]);
        // From a base backup in the segment of the switch on, timeline 1 comes second.
        assert_eq!(in_numbers(&history, 5)[0], (2, 5, Some(7)));
        assert_eq!(in_numbers(&history, 20), [(3, 20, None)]);
    }

    #[test]
    fn timelines_that_began_in_the_same_segment_are_all_asked_newest_first() {
        //    4   5   6
        // 1  ●───●
        // 2      └●
        // 3      └●──●   left timeline 2 in the same segment
        let history = history(&[(1, lsn(5, 100)), (2, lsn(5, 2000))]);
        assert_eq!(asked(&history, [0, 4, 5, 6]), [vec![1], vec![1], vec![3, 2, 1], vec![3]]);
        assert_eq!(in_numbers(&history, 4), [(1, 4, Some(4)), (3, 5, None)]);
    }

    #[test]
    fn a_timeline_that_was_left_before_it_began_has_only_the_segment_of_the_switch() {
        //    4   5   6   7   8
        // 1  ●───●───●───●───●
        // 2                  └●
        // 3      └●──●   left timeline 2 before that one's own beginning
        let history = history(&[(1, lsn(8, 100)), (2, lsn(5, 200))]);
        assert_eq!(asked(&history, [4, 5, 6, 8]), [vec![1], vec![3, 2, 1], vec![3], vec![3]]);
        assert_eq!(in_numbers(&history, 3), [(1, 3, Some(4)), (3, 5, None)]);
    }

    #[test]
    fn a_timeline_without_history_file_is_asked_alone() {
        let history = TimelineHistory::without_ancestors(TimelineId(7));
        assert_eq!(asked(&history, [0, 1, 2, 3]), [vec![7], vec![7], vec![7], vec![7]]);
        assert_eq!(in_numbers(&history, 2), [(7, 2, None)]);
    }

    #[test]
    fn pieces_name_the_timeline_that_each_segment_is_asked_for_on_first() {
        for (first, second) in [
            (lsn(5, 100), lsn(8, 0)),
            (lsn(5, 0), lsn(5, 100)),
            (lsn(5, 100), lsn(6, 0)),
            (lsn(8, 100), lsn(5, 200)),
            (lsn(0, 100), lsn(0, 200)),
        ] {
            let history = history(&[(1, first), (2, second)]);
            for start in 0..10 {
                let pieces = pieces(&history, SegmentNumber(start), SIZE);
                assert_eq!(pieces[0].first, SegmentNumber(start));
                for number in (start..12).map(SegmentNumber) {
                    let mut of_number = pieces.iter().filter(|piece| {
                        piece.first <= number && piece.last.is_none_or(|last| number <= last)
                    });
                    let piece = of_number.next().unwrap();
                    let first = asked_for(&history, number, SIZE).next().unwrap();
                    assert_eq!(piece.timeline, first.timeline, "{history:?} {start} {number:?}");
                    assert_eq!(of_number.next(), None);
                }
            }
        }
    }

    #[test]
    fn what_may_be_asked_for_later_is_all_that_is_asked_for_from_there_on() {
        let history = history(&[(1, lsn(5, 100)), (2, lsn(8, 0))]);
        let from = |start| -> Vec<u32> {
            let ranges = asked_from(&history, SegmentNumber(start), SIZE);
            ranges.map(|range| range.timeline.0).collect()
        };
        assert_eq!([from(0), from(5), from(6)], [vec![3, 2, 1], vec![3, 2, 1], vec![3, 2]]);
        assert_eq!([from(8), from(9)], [vec![3, 2], vec![3]]);
    }

    #[test]
    fn newer_timelines_are_counted_one_by_one() {
        let newer = |timeline| newer_timelines(TimelineId(timeline));
        assert_eq!(newer(2).take(2).collect::<Vec<_>>(), [TimelineId(3), TimelineId(4)]);
        assert_eq!(newer(u32::MAX - 1).collect::<Vec<_>>(), [TimelineId(u32::MAX)]);
        assert_eq!(newer(u32::MAX).count(), 0);
    }
}
