//! Drawn as in `recovery/tests`.

use super::*;
use crate::catalogue::asked::pieces;
use crate::catalogue::wal_inventory::TimelineWal;
use crate::postgres::TimelineId;

const SIZE: SegmentSize = SegmentSize::DEFAULT;

fn segment(timeline: u32, number: u64) -> WalSegment {
    WalSegment { timeline: TimelineId(timeline), number: SegmentNumber(number) }
}

fn lsn(segment: u64, offset: u64) -> Lsn {
    Lsn(SegmentNumber(segment).start_lsn(SIZE).0 + offset)
}

/// Timeline 3, whose ancestors were left at these LSNs.
fn history(left: &[(u32, Lsn)]) -> TimelineHistory {
    let lines: String = left.iter().map(|(tli, lsn)| format!("{tli}\t{lsn}\tx\n")).collect();
    TimelineHistory::parse("00000003.history", TimelineId(3), lines.as_bytes()).unwrap()
}

fn follow(history: &TimelineHistory, start: u64, wal: &[(u32, &[(u64, u64)])]) -> Chain {
    let inventory: Inventory = wal
        .iter()
        .map(|(timeline, ranges)| (TimelineId(*timeline), TimelineWal::of(ranges, &[]).into()))
        .collect();
    let pieces = pieces(history, SegmentNumber(start), SIZE);
    Chain::follow(&pieces, &inventory, history, SIZE).unwrap()
}

fn runs(chain: &Chain) -> Vec<(u32, u64, u64)> {
    chain.runs.iter().map(|run| (run.timeline.0, run.first.0, run.last.0)).collect()
}

#[test]
fn a_timeline_that_was_left_before_its_own_switch_has_no_piece() {
    //    3   4   5   6   7   8   9
    // 1  ●───●───●───●───●───●───●
    // 2                      └●──●
    // 3          └●──●   left timeline 2 before that one's own beginning
    let history = history(&[(1, lsn(8, 100)), (2, lsn(5, 200))]);
    let wal: &[(u32, &[(u64, u64)])] = &[(1, &[(3, 9)]), (2, &[(8, 9)]), (3, &[(5, 6)])];
    let chain = follow(&history, 3, wal);
    assert_eq!(runs(&chain), [(1, 3, 4), (3, 5, 6)]);
    assert_eq!(chain.end, ChainEnd::Archive { next: segment(3, 7) });
}

#[test]
fn a_chain_goes_across_timelines_to_the_end_of_the_archive() {
    //    3   4   5   6   7   8   9   10
    // 1  ●───●───●───●───●───●───●
    // 2          └●──●───●───●
    // 3                     └●───●───●
    let history = history(&[(1, lsn(5, 100)), (2, lsn(8, 0))]);
    let wal: &[(u32, &[(u64, u64)])] = &[(1, &[(1, 9)]), (2, &[(5, 8)]), (3, &[(8, 10)])];
    let chain = follow(&history, 3, wal);
    assert_eq!(runs(&chain), [(1, 3, 4), (2, 5, 7), (3, 8, 10)]);
    assert_eq!(chain.end, ChainEnd::Archive { next: segment(3, 11) });
    assert_eq!((chain.len(), chain.tail), (8, None));
    assert_eq!(chain.end_lsn(SIZE), Some(lsn(11, 0)));
    assert_eq!(chain.segment(0), Some(segment(1, 3)));
    assert_eq!(chain.segment(2), Some(segment(2, 5)));
    assert_eq!(chain.segment(7), Some(segment(3, 10)));
    assert_eq!(chain.segment(8), None);
    assert_eq!(chain.index_of(lsn(5, 0), SIZE), Some(2));
    assert_eq!(chain.index_of(lsn(2, 0), SIZE), None);
    assert_eq!(chain.index_of(lsn(11, 0), SIZE), None);
}

#[test]
fn a_hole_is_told_from_the_end_of_the_archive() {
    //    3   4   5   6   7   8   9
    // 1  ●───●───●───●───●───●───●
    // 3          └●──●───●───●───●   of which each case lacks some
    let history = history(&[(1, lsn(5, 100))]);
    let with = |wal| follow(&history, 3, wal).end;
    let hole = |first, next| ChainEnd::Hole { first, next };
    let archive = |next| ChainEnd::Archive { next };
    assert_eq!(with(&[(1, &[(3, 3)]), (3, &[(5, 6)])]), hole(segment(1, 4), segment(3, 5)));
    assert_eq!(with(&[(1, &[(3, 4)]), (3, &[(7, 8)])]), hole(segment(3, 5), segment(3, 7)));
    assert_eq!(with(&[(1, &[(3, 4)]), (3, &[(5, 5), (9, 9)])]), hole(segment(3, 6), segment(3, 9)));
    assert_eq!(with(&[(3, &[(5, 5)])]), hole(segment(1, 3), segment(3, 5)));
    assert_eq!(with(&[(1, &[(3, 4)])]), archive(segment(3, 5)));
    // What timeline 1 has after the switch is not on this branch.
    assert_eq!(with(&[(1, &[(3, 3), (5, 9)])]), archive(segment(1, 4)));
    assert_eq!(with(&[]), archive(segment(1, 3)));
}

#[test]
fn an_older_timeline_stands_in_for_a_missing_segment_up_to_the_switch() {
    //    3   4   5   6   7   8   9
    // 1  ●───●───●───●───●───●───●
    // 3          └○──●───●───●
    let history = history(&[(1, lsn(5, 100))]);
    let chain = follow(&history, 3, &[(1, &[(3, 9)]), (3, &[(6, 8)])]);
    assert_eq!(chain.tail, Some((segment(1, 5), lsn(5, 100))));
    assert_eq!(chain.end, ChainEnd::Hole { first: segment(3, 5), next: segment(3, 6) });
    assert_eq!((chain.len(), chain.segment(2)), (3, Some(segment(1, 5))));
    assert_eq!((chain.limit(1), chain.limit(2)), (None, Some(lsn(5, 100))));
    assert_eq!(chain.end_lsn(SIZE), Some(lsn(5, 100)));
    assert_eq!(chain.index_of(lsn(5, 50), SIZE), Some(2));
    // At a boundary, nothing of the segment is on the branch.
    let boundary = self::history(&[(1, lsn(5, 0))]);
    assert_eq!(follow(&boundary, 3, &[(1, &[(3, 9)])]).tail, None);
    // Nor is there a way to it with a hole before.
    assert_eq!(follow(&history, 3, &[(1, &[(3, 3), (5, 9)])]).tail, None);
    // A base backup that began in the segment of the switch needs no other.
    let chain = follow(&history, 5, &[(1, &[(5, 5)])]);
    assert_eq!((chain.runs.len(), chain.tail), (0, Some((segment(1, 5), lsn(5, 100)))));
}

#[test]
fn stored_bytes_are_counted_up_to_the_segment_that_is_needed() {
    let history = history(&[(1, lsn(5, 100))]);
    let wal = |timeline, ranges: &[(u64, u64)]| {
        (TimelineId(timeline), TimelineWal::of(ranges, &[]).into())
    };
    let inventory: Inventory = [wal(1, &[(1, 5)])].into();
    let pieces = pieces(&history, SegmentNumber(3), SIZE);
    let chain = Chain::follow(&pieces, &inventory, &history, SIZE).unwrap();
    // Each has one byte.
    assert_eq!([0, 1, 2, 9].map(|last| chain.bytes(last, &inventory)), [1, 2, 3, 3]);
}
