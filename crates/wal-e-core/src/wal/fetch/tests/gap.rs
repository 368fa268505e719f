//! What a fetch takes for the end of the WAL, and what not. Timelines are drawn as in
//! `recovery/tests`.

use super::*;
use crate::config::Face;
use crate::store::faulty::{Fault, When};

#[tokio::test]
async fn a_gap_is_not_the_end_of_the_wal() {
    let mut fixture = Fixture::new();
    fixture.archive("0000000100000000000000A3", Encoding::Lz4, &segment(3)).await;
    let error = fixture.fetch(SEGMENT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.detail().unwrap().contains("0000000100000000000000A3"), "{error:?}");
    fixture.options.gap_patience = None;
    assert_eq!(fixture.fetch(SEGMENT).await.unwrap_err().kind(), ErrorKind::NotFound);

    // It may be on its way.
    fixture.options.gap_patience = Some(Duration::from_secs(30));
    let late = fixture.store.clone();
    let body = compress(&segment(7), Encoding::Zstd);
    tokio::spawn(async move {
        while late.calls(Operation::List) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let key = layout::wal_file(&SEGMENT.parse().unwrap(), Encoding::Zstd);
        let attributes = Attributes::default();
        let _ = late.put(&key, body.into(), PutMode::Replace, &attributes).await.unwrap();
    });
    assert!(fixture.fetch(SEGMENT).await.unwrap() == segment(7));
}

/// An archive that ends with segment A0 of timeline 1, which was left later; segments
/// have 16 MB.
async fn with_lost_end() -> Fixture {
    //    A0  A1  A2  A3  A4  A5  A6
    // 1  ●───○───○───○───○───○───○
    // 2                          └●
    let fixture = Fixture::new();
    fixture.archive("0000000100000000000000A0", Encoding::Lz4, &segment(7)).await;
    fixture.archive("0000000200000000000000A6", Encoding::Lz4, &segment(7)).await;
    fixture.history(2, &[(1, "0/A6001234")]).await;
    fixture
}

#[tokio::test]
async fn a_segment_at_the_end_of_a_timeline_that_was_left_later_is_a_gap() {
    let mut fixture = with_lost_end().await;
    for name in [SEGMENT, "0000000100000000000000A5"] {
        let error = fixture.fetch(name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(&format!("\"{name}\" is missing")), "{error}");
        let detail = error.detail().unwrap();
        assert!(detail.contains("00000002.history") && detail.contains("0/A6001234"), "{detail}");
        assert!(Face::Program.speak(error.hint().unwrap()).contains("--end-at-gap"));
    }
    // After the place where it was left there is no more of it.
    for name in ["0000000100000000000000A7", "0000000300000000000000A1"] {
        assert_eq!(fixture.fetch(name).await.unwrap_err().kind(), ErrorKind::NotFound, "{name}");
    }
    fixture.options.segment_size = SegmentSize::new(1 << 20);
    assert_eq!(fixture.fetch(SEGMENT).await.unwrap_err().kind(), ErrorKind::Corrupt);
    fixture.options.segment_size = None;
    assert_eq!(fixture.fetch(SEGMENT).await.unwrap_err().kind(), ErrorKind::NotFound);
    fixture.options.segment_size = Some(SegmentSize::DEFAULT);
    fixture.options.gap_patience = None;
    assert_eq!(fixture.fetch(SEGMENT).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn only_what_was_written_of_a_timeline_can_be_missing() {
    type Histories<'a> = &'a [(u32, &'a [(u32, &'a str)])];
    let second = "0000000200000000000000A1";
    let cases: &[(&str, Histories, Option<u32>)] = &[
        (SEGMENT, &[(2, &[(1, "0/A2000000")])], Some(2)),
        (SEGMENT, &[(2, &[(1, "0/A1FFFFF8")])], None),
        (SEGMENT, &[(2, &[(1, "0/A1000000")])], None),
        (SEGMENT, &[(2, &[(1, "0/90000000")])], None),
        (SEGMENT, &[(2, &[(1, "1/0")])], Some(2)),
        // One that descends from an earlier point hides no other.
        (SEGMENT, &[(2, &[(1, "0/90000000")]), (3, &[(1, "0/A7000000")])], Some(3)),
        (SEGMENT, &[(2, &[(1, "0/A7000000")]), (3, &[(1, "0/90000000")])], Some(2)),
        // They are counted from the first that there is.
        (SEGMENT, &[(3, &[(1, "0/A7000000")])], Some(3)),
        (SEGMENT, &[(2, &[(1, "0/90000000")]), (4, &[(1, "0/A7000000")])], None),
        // Timeline 3 does not descend from 2; or left it before it began.
        (second, &[(3, &[(1, "0/A7000000")])], None),
        (second, &[(3, &[(1, "0/A1500000"), (2, "0/90000000")])], None),
        (second, &[(3, &[(1, "0/A7000000"), (2, "0/A8000000")])], None),
        (second, &[(3, &[(1, "0/A1500000"), (2, "0/A8000000")])], Some(3)),
    ];
    for (name, histories, by) in cases {
        let fixture = Fixture::new();
        fixture.archive("0000000100000000000000A0", Encoding::Lz4, &segment(7)).await;
        for (timeline, left) in *histories {
            fixture.history(*timeline, left).await;
        }
        let error = fixture.fetch(name).await.unwrap_err();
        let expected = by.map_or(ErrorKind::NotFound, |_| ErrorKind::Corrupt);
        assert_eq!(error.kind(), expected, "{name}, {histories:?}: {error:?}");
        if let Some(timeline) = by {
            assert!(error.detail().unwrap().contains(&format!("{timeline:08X}.history")));
        }
    }
}

#[tokio::test]
async fn histories_are_asked_for_once_and_only_if_there_are_newer_timelines() {
    let mut fixture = with_lost_end().await;
    // At the end of the newest timeline: two requests, as without any history.
    let end = "0000000200000000000000A7";
    assert_eq!(fixture.fetch(end).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fixture.calls(), [1, 1, 0]);
    // Of files that are no segments nothing is expected.
    let history = "00000001.history";
    assert_eq!(fixture.fetch(history).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fixture.calls(), [2, 2, 0]);
    // The segment itself, then the history, however often the surroundings are looked at.
    fixture.options.gap_patience = Some(Duration::from_millis(200));
    assert_eq!(fixture.fetch(SEGMENT).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(fixture.calls()[0], 2 + 2);
}

#[tokio::test]
async fn a_segment_at_the_end_of_a_timeline_may_be_on_its_way() {
    let mut fixture = with_lost_end().await;
    fixture.options.gap_patience = Some(Duration::from_secs(30));
    let late = fixture.store.clone();
    let body = compress(&segment(7), Encoding::Zstd);
    tokio::spawn(async move {
        while late.calls(Operation::List) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let key = layout::wal_file(&SEGMENT.parse().unwrap(), Encoding::Zstd);
        let attributes = Attributes::default();
        let _ = late.put(&key, body.into(), PutMode::Replace, &attributes).await.unwrap();
    });
    assert!(fixture.fetch(SEGMENT).await.unwrap() == segment(7));
}

#[tokio::test]
async fn a_history_that_cannot_be_read_is_not_taken_for_the_end_of_the_wal() {
    let fixture = with_lost_end().await;
    let key = |ending: &str| {
        ObjectKey::from_listing(&format!("wal_005/00000002.history{ending}")).unwrap()
    };
    for (ending, content, kind) in [
        (".zst", "no frame", ErrorKind::Corrupt),
        (".zst", "", ErrorKind::Corrupt),
        ("", "nonsense", ErrorKind::Corrupt),
        ("", "", ErrorKind::Corrupt),
        (".gpg", "1\t0/90000000", ErrorKind::Config),
    ] {
        fixture.store.delete(&key(".zst")).await.unwrap();
        fixture.put(&key(ending), content.into(), None).await;
        let error = fixture.fetch(SEGMENT).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{ending}: {error:?}");
        let text = format!("{error} {}", error.detail().unwrap());
        assert!(text.contains("00000002.history") && text.contains(SEGMENT), "{error:?}");
        assert!(Face::Program.speak(error.hint().unwrap()).contains("--end-at-gap"), "{error:?}");
        fixture.store.delete(&key(ending)).await.unwrap();
    }
    // Another object of the same file is as good.
    let fixture = with_lost_end().await;
    fixture.put(&key(".lz4"), b"no frame".to_vec(), None).await;
    let error = fixture.fetch(SEGMENT).await.unwrap_err();
    assert!(error.message().contains("is missing"), "{error}");
    let notice = fixture.notices.drain().remove(0);
    assert!(notice.message.contains(key(".zst").as_str()), "{}", notice.message);
    // Nor is a checksum that does not fit passed over.
    fixture
        .put(&key(".lz4"), compress(b"1\t0/90000000", Encoding::Lz4), Some("0".repeat(32)))
        .await;
    assert!(fixture.fetch(SEGMENT).await.unwrap_err().message().contains("is missing"));

    for kind in [ErrorKind::Unavailable, ErrorKind::Denied] {
        let Fixture { store, .. } = with_lost_end().await;
        let store = store.with(Operation::Get, When::From(2), Fault::Refuse(kind));
        let fixture = Fixture { store, ..Fixture::new() };
        assert_eq!(fixture.fetch(SEGMENT).await.unwrap_err().kind(), kind);
    }
    // It was removed after it was listed.
    let Fixture { store, .. } = with_lost_end().await;
    let store = store.with(Operation::Get, When::Call(2), Fault::Refuse(ErrorKind::NotFound));
    let fixture = Fixture { store, ..Fixture::new() };
    assert_eq!(fixture.fetch(SEGMENT).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fixture.store.calls(Operation::Get), 2);
}

#[tokio::test]
async fn the_segment_in_which_a_timeline_was_left_is_missed_if_the_newer_one_s_is_there() {
    let left_in = "0000000100000000000000A6";
    let fixture = with_lost_end().await;
    let error = fixture.fetch(left_in).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(&format!("\"{left_in}\" is missing")), "{error}");
    let detail = error.detail().unwrap();
    assert!(detail.contains("0/A6001234") && detail.contains("\"0000000200000000000000A6\""));
    let hint = Face::Program.speak(error.hint().unwrap());
    assert!(hint.contains("--end-at-gap") && hint.contains("to '2'"), "{hint}");

    // A timeline that left the newer one in the same segment has it as well.
    let newer = |timeline: u32, encoding| {
        let name = format!("{timeline:08X}00000000000000A6").parse().unwrap();
        layout::wal_file(&name, encoding)
    };
    fixture.store.delete(&newer(2, Encoding::Lz4)).await.unwrap();
    fixture.history(3, &[(1, "0/A6001234"), (2, "0/A6001300")]).await;
    assert_eq!(fixture.fetch(left_in).await.unwrap_err().kind(), ErrorKind::NotFound);
    fixture.put(&newer(3, Encoding::None), segment(7), None).await;
    let error = fixture.fetch(left_in).await.unwrap_err();
    assert!(error.detail().unwrap().contains("\"0000000300000000000000A6\""), "{error:?}");
    fixture.store.delete(&newer(3, Encoding::None)).await.unwrap();
    // What PostgreSQL does not read replaces nothing.
    let partial = "0000000200000000000000A6.partial".parse().unwrap();
    fixture.put(&layout::wal_file(&partial, Encoding::None), segment(7), None).await;
    assert_eq!(fixture.fetch(left_in).await.unwrap_err().kind(), ErrorKind::NotFound);

    // Nothing of the segment was written, if the one before was the last.
    let fixture = with_lost_end().await;
    fixture.history(2, &[(1, "0/A6000000")]).await;
    assert_eq!(fixture.fetch(left_in).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn the_first_segment_of_a_timeline_is_not_replaced_by_an_ancestor_s() {
    //    A0  A1
    // 1  ●───●
    // 2      └○   asked for; other cases have a timeline 3, or leave elsewhere
    type Left<'a> = &'a [(u32, &'a str)];
    let cases: &[(u32, Left, &[u32], Option<u32>)] = &[
        (2, &[(1, "0/A1001234")], &[1], Some(1)),
        (2, &[(1, "0/A1000000")], &[1], Some(1)),
        (2, &[(1, "0/A1001234")], &[], None),
        // It began elsewhere.
        (2, &[(1, "0/A0FFFFF8")], &[1], None),
        (2, &[(1, "0/A2000000")], &[1], None),
        // The server asks for the newest ancestor first, and for none that was left before.
        (3, &[(1, "0/A1001234"), (2, "0/A1001300")], &[1, 2], Some(2)),
        (3, &[(1, "0/A1001234"), (2, "0/A1001300")], &[1], Some(1)),
        (3, &[(1, "0/A0000000"), (2, "0/A1001300")], &[1], None),
    ];
    for (timeline, left, archived, ancestor) in cases {
        let mut fixture = Fixture::new();
        let name_on = |timeline: u32| format!("{timeline:08X}00000000000000A1");
        fixture.archive("0000000100000000000000A0", Encoding::Lz4, &segment(7)).await;
        fixture.history(*timeline, left).await;
        for timeline in *archived {
            fixture.archive(&name_on(*timeline), Encoding::Zstd, b"x").await;
        }
        let name = name_on(*timeline);
        let error = fixture.fetch(&name).await.unwrap_err();
        let expected = ancestor.map_or(ErrorKind::NotFound, |_| ErrorKind::Corrupt);
        assert_eq!(error.kind(), expected, "{timeline}, {left:?}, {archived:?}: {error:?}");
        let Some(ancestor) = ancestor else { continue };
        assert!(error.message().contains(&format!("would leave timeline {timeline}")), "{error}");
        assert!(error.detail().unwrap().contains(&name_on(*ancestor)), "{error:?}");
        let hint = Face::Program.speak(error.hint().unwrap());
        for words in ["pg_switch_wal()", "--end-at-gap", &format!("to '{ancestor}'")] {
            assert!(hint.contains(words), "{hint}");
        }
        fixture.options.gap_patience = None;
        assert_eq!(fixture.fetch(&name).await.unwrap_err().kind(), ErrorKind::NotFound);
        fixture.options.gap_patience = Some(Duration::ZERO);
        fixture.options.segment_size = None;
        assert_eq!(fixture.fetch(&name).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    // Whether it is the first one must be known.
    let fixture = Fixture::new();
    fixture.archive("00000002.history", Encoding::Zstd, b"nonsense").await;
    let error = fixture.fetch("0000000200000000000000A1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.detail().unwrap().contains("0000000200000000000000A1"), "{error:?}");
    // It is not, where an earlier one is there.
    fixture.archive("0000000200000000000000A0", Encoding::Zstd, b"x").await;
    let error = fixture.fetch("0000000200000000000000A1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
