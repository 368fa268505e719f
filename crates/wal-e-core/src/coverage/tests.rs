//! Archives in which segment `n` was stored in hour `n`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::error::ErrorKind;
use crate::layout::{self, ObjectKey};
use crate::notice;
use crate::postgres::wal_sample::{CLUSTER, SEGMENT_SIZE, WalWriter};
use crate::postgres::{Lsn, SegmentNumber, SystemIdentifier, TimelineId, WalSegment};
use crate::sentinel::{self, Sentinel};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, ObjectStore, PutMode};

const BEGIN: OffsetDateTime = datetime!(2026-11-01 00:00 UTC);

fn hour(hour: u64) -> OffsetDateTime {
    BEGIN + Duration::hours(i64::try_from(hour).unwrap())
}

fn segment(timeline: u32, number: u64) -> String {
    WalSegment { timeline: TimelineId(timeline), number: SegmentNumber(number) }
        .file_name(SEGMENT_SIZE)
}

struct Fixture {
    store: MemoryStore,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { store: MemoryStore::with_page_size(3) }
    }

    async fn put(&self, key: &str, body: Vec<u8>, at: OffsetDateTime) {
        let key = ObjectKey::from_listing(key).unwrap();
        let attributes = Attributes::default();
        let _ = self.store.put(&key, body.into(), PutMode::Replace, &attributes).await.unwrap();
        self.store.set_last_modified(&key, at);
    }

    async fn wal(&self, timeline: u32, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let key = format!("wal_005/{}", segment(timeline, number));
            self.put(&key, vec![0; 10], hour(number)).await;
        }
    }

    async fn remove(&self, timeline: u32, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let key = format!("wal_005/{}", segment(timeline, number));
            self.store.delete(&ObjectKey::from_listing(&key).unwrap()).await.unwrap();
        }
    }

    /// Where timeline 2 left timeline 1: in the middle of a segment.
    async fn promotion(&self, number: u64) {
        let at = Lsn(SegmentNumber(number).start_lsn(SEGMENT_SIZE).0 + 5000);
        self.put("wal_005/00000002.history", format!("1\t{at}\tx\n").into(), hour(number)).await;
    }

    /// A backup that begins in a segment and ends in the next one.
    async fn backup(&self, timeline: u32, number: u64) {
        let start = Lsn(SegmentNumber(number).start_lsn(SEGMENT_SIZE).0 + 40);
        let sentinel = Sentinel {
            lsn: Some(start),
            finish_lsn: Some(Lsn(start.0 + SEGMENT_SIZE.bytes())),
            finish_time: Some(hour(number + 1)),
            system_identifier: Some(CLUSTER),
            ..Sentinel::full()
        };
        let key = layout::sentinel(&format!("base_{}", segment(timeline, number)));
        self.put(key.as_str(), sentinel::to_json(&sentinel).to_vec(), hour(number + 1)).await;
    }

    async fn look(&self, own: Option<OwnWal>, now: OffsetDateTime) -> Archive {
        let (notices, _queue) = notice::channel();
        let store: Arc<dyn ObjectStore> = Arc::new(self.store.clone());
        Archive::of(&store, own, now, &notices).await.unwrap()
    }

    /// A month later.
    async fn later(&self) -> Archive {
        self.look(None, hour(1000)).await
    }
}

/// Timeline, first and last number, status.
fn ranges(archive: &Archive) -> Vec<String> {
    let number = |name: &str| {
        let name: crate::postgres::WalFileName = name.parse().unwrap();
        name.segment_number(SEGMENT_SIZE).unwrap().0
    };
    let row = |row: &WalRange| {
        let (first, last) = (number(&row.first_segment), number(&row.last_segment));
        assert_eq!(row.segments, last - first + 1);
        format!("{}: {first}-{last} {}", row.timeline, row.status)
    };
    archive.verify().unwrap().iter().map(row).collect()
}

fn timelines(archive: &Archive) -> Vec<String> {
    let row = |row: TimelineRow| {
        let state = row.state();
        format!("{}: {} and {} missing, {state}", row.timeline, row.segments, row.missing)
    };
    archive.timelines().into_iter().map(row).collect()
}

/// A failover in segment 20; the old server had archived up to there.
async fn failover() -> Fixture {
    //    2 ... 10 ... 19  20 ... 30
    // 1  ●──────B─────●
    // 2                └──●───B──●
    let fixture = Fixture::new();
    fixture.wal(1, 2..=19).await;
    fixture.promotion(20).await;
    fixture.wal(2, 20..=30).await;
    fixture.backup(1, 10).await;
    fixture.backup(2, 25).await;
    fixture
}

#[tokio::test]
async fn what_is_whole_is_found_from_the_oldest_backup_on() {
    let archive = failover().await.later().await;
    assert_eq!(ranges(&archive), ["1: 10-19 found", "2: 20-30 found"]);
    assert_eq!(timelines(&archive), ["1: 18 and 0 missing, found", "2: 11 and 0 missing, found"]);
    let rows = archive.timelines();
    assert_eq!((rows[1].parent_timeline, rows[0].switch_lsn), (Some(TimelineId(1)), None));
    assert_eq!(rows[1].first_segment, Some(segment(2, 20)));
}

#[tokio::test]
async fn holes_are_missing_and_the_advice_names_the_next_backup() {
    let fixture = failover().await;
    fixture.remove(1, [4, 15, 16, 19]).await;
    fixture.remove(2, [20, 28]).await;
    let archive = fixture.later().await;
    let expected = [
        "1: 10-14 found",
        "1: 15-16 missing",
        "1: 17-18 found",
        "1: 19-19 missing",
        "2: 20-20 missing",
        "2: 21-27 found",
        "2: 28-28 missing",
        "2: 29-30 found",
    ];
    assert_eq!(ranges(&archive), expected);
    assert_eq!(
        timelines(&archive),
        ["1: 14 and 4 missing, missing", "2: 9 and 2 missing, missing"]
    );
    let rows = archive.verify().unwrap();
    let advice = |index: usize| rows[index].advice.as_deref().unwrap();
    assert!(advice(1).contains(&format!("base backup \"base_{}\"", segment(2, 25))));
    assert!(advice(6).contains("take a new base backup"), "{}", advice(6));
    assert_eq!(rows[0].advice, None);
}

#[tokio::test]
async fn what_an_older_timeline_still_has_counts_only_if_it_went_on() {
    let fixture = failover().await;
    fixture.wal(1, [22]).await;
    // Stored before the promotion, and after it.
    for (stored, expected) in [(19, "1: 10-19 found"), (40, "1: 20-21 missing")] {
        fixture.put(&format!("wal_005/{}", segment(1, 22)), vec![0; 10], hour(stored)).await;
        let ranges = ranges(&fixture.later().await);
        assert!(ranges.contains(&expected.to_owned()), "{ranges:?}");
        assert_eq!(ranges.iter().any(|row| row.starts_with("1: 22")), stored == 40, "{ranges:?}");
    }
}

#[tokio::test]
async fn without_a_server_only_what_was_stored_just_now_shows_that_wal_is_in_flight() {
    let fixture = failover().await;
    fixture.remove(2, [27, 29]).await;
    let found = |rows: Vec<String>| rows.last_chunk::<4>().unwrap().clone();
    let archive = fixture.look(None, hour(30) + Duration::minutes(2)).await;
    let expected = ["2: 27-27 in flight", "2: 28-28 found", "2: 29-29 in flight", "2: 30-30 found"];
    assert_eq!(found(ranges(&archive)), expected);
    assert_eq!(timelines(&archive)[1], "2: 9 and 2 missing, in flight");
    let archive = fixture.look(None, hour(30) + Duration::minutes(6)).await;
    assert_eq!(found(ranges(&archive))[2], "2: 29-29 missing");
}

#[tokio::test]
async fn what_retention_does_not_keep_is_no_failure() {
    // Backups 10 and 20 are kept for themselves, 30 for what comes after it.
    let fixture = Fixture::new();
    fixture.wal(1, (10..=11).chain(20..=21).chain(30..=35)).await;
    for number in [10, 20, 30] {
        fixture.backup(1, number).await;
    }
    let not_kept = ["1: 12-19 not kept", "1: 22-29 not kept"];
    let rows = ranges(&fixture.later().await);
    assert_eq!([&rows[1], &rows[3]], not_kept);
    assert!(fixture.later().await.timelines().iter().all(|row| !row.status.is_failure()));
    // One segment more or less is a hole.
    fixture.remove(1, [21]).await;
    fixture.wal(1, [12]).await;
    let rows = ranges(&fixture.later().await);
    assert_eq!(rows[1..4], ["1: 13-19 missing", "1: 20-20 found", "1: 21-29 missing"]);
    // Across a promotion.
    let fixture = failover().await;
    fixture.remove(1, 12..=19).await;
    fixture.remove(2, 20..=24).await;
    let rows = ranges(&fixture.later().await);
    assert_eq!(rows[..3], ["1: 10-11 found", "1: 12-19 not kept", "2: 20-24 not kept"]);
    fixture.wal(2, [20]).await;
    let rows = ranges(&fixture.later().await);
    assert_eq!(rows[1..3], ["1: 12-19 missing", "2: 20-20 found"]);
}

#[tokio::test]
async fn without_a_usable_backup_there_is_nothing_to_verify() {
    let fixture = Fixture::new();
    fixture.wal(1, 2..10).await;
    fixture.backup(1, 4).await;
    fixture.remove(1, [5]).await;
    let archive = fixture.later().await;
    assert_eq!(archive.verify().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(timelines(&archive), ["1: 7 and 1 missing, missing"]);
    assert_eq!(Fixture::new().later().await.timelines(), []);
}

#[tokio::test]
async fn what_lies_between_two_logs_is_not_missing() {
    let fixture = failover().await;
    let mut log = WalWriter::new(2, 40);
    log.shutdown_checkpoint();
    log.switch();
    for (name, content) in log.segments() {
        fixture.put(&format!("wal_005/{name}"), content, hour(40)).await;
    }
    let rows = ranges(&fixture.later().await);
    assert_eq!(rows[1..], ["2: 20-30 found", "2: 40-40 found"]);
}

#[tokio::test]
async fn the_timeline_of_the_server_goes_on_whatever_others_left_it() {
    let fixture = failover().await;
    let history = format!("2\t{}\tx\n", SegmentNumber(24).start_lsn(SEGMENT_SIZE));
    fixture.put("wal_005/00000003.history", history.into(), hour(900)).await;
    fixture.wal(3, [24, 25]).await;
    fixture.remove(2, [27]).await;
    let of_2 = |rows: Vec<String>| rows.into_iter().filter(|row| row.starts_with("2:")).count();
    assert_eq!(of_2(ranges(&fixture.later().await)), 1);
    let directory = tempfile::tempdir().unwrap();
    let own = own_wal(directory.path(), CLUSTER, false);
    let rows = ranges(&fixture.look(Some(own), hour(1000)).await);
    assert_eq!(rows[1..5], ["2: 20-26 found", "2: 27-27 lost", "2: 28-30 found", "2: 31-33 lost"]);
}

/// `pg_wal` with these segments of timeline 2, and what waits of them.
fn pg_wal(directory: &Path, numbers: &[u64], waiting: &[u64]) {
    fs::create_dir(directory.join("archive_status")).unwrap();
    let mut log = WalWriter::new(2, 20);
    for _ in 20..40 {
        log.noise(100);
        log.switch();
    }
    for (name, content) in log.segments() {
        let number = u64::from_str_radix(&name[16..], 16).unwrap();
        if numbers.contains(&number) {
            fs::write(directory.join(&name), content).unwrap();
            let mark = if waiting.contains(&number) { "ready" } else { "done" };
            fs::write(directory.join(format!("archive_status/{name}.{mark}")), "").unwrap();
        }
    }
}

fn own_wal(directory: &Path, cluster: SystemIdentifier, in_recovery: bool) -> OwnWal {
    let flushed = Lsn(SegmentNumber(34).start_lsn(SEGMENT_SIZE).0 + 100);
    let position = Some((TimelineId(2), flushed));
    OwnWal::read(directory, SEGMENT_SIZE, cluster, position, in_recovery).unwrap()
}

#[tokio::test]
async fn a_server_knows_what_is_on_its_way_at_hand_or_lost() {
    let fixture = failover().await;
    fixture.remove(2, [22, 23, 28]).await;
    let directory = tempfile::tempdir().unwrap();
    // 29 has only the name of what it will be; 35 is being written.
    pg_wal(directory.path(), &[23, 27, 28, 31, 33, 35], &[33]);
    fixture.remove(2, [29]).await;
    fs::copy(directory.path().join(segment(2, 27)), directory.path().join(segment(2, 29))).unwrap();
    let own = || own_wal(directory.path(), CLUSTER, false);
    let archive = fixture.look(Some(own()), hour(1000)).await;
    let expected = [
        "2: 22-22 lost",
        "2: 23-23 missing",
        "2: 24-27 found",
        "2: 28-28 missing",
        "2: 29-29 lost",
        "2: 30-30 found",
        "2: 31-31 missing",
        "2: 32-32 lost",
        "2: 33-33 in flight",
    ];
    assert_eq!(ranges(&archive)[2..], expected);
    assert!(archive.can_be_repaired());
    // What was stored while the archive was listed is on its way.
    fixture.wal(2, [36]).await;
    let archive = fixture.look(Some(own()), hour(1000)).await;
    let rows = ranges(&archive);
    assert_eq!(rows[10..], ["2: 33-35 in flight", "2: 36-36 found"]);
    // A standby does not know what its primary still has.
    let standby = own_wal(directory.path(), CLUSTER, true);
    let archive = fixture.look(Some(standby), hour(1000)).await;
    let rows = ranges(&archive);
    assert!(!rows.iter().any(|row| row.ends_with("lost")), "{rows:?}");
    fixture.remove(2, [36]).await;
    let standby = own_wal(directory.path(), CLUSTER, true);
    let archive = fixture.look(Some(standby), hour(1000)).await;
    assert_eq!(ranges(&archive).last().unwrap(), "2: 31-33 in flight");
    // Another cluster says nothing of this one.
    let other = own_wal(directory.path(), SystemIdentifier(1), false);
    let archive = fixture.look(Some(other), hour(1000)).await;
    assert!(!archive.can_be_repaired());
    assert_eq!(ranges(&archive)[2], "2: 22-23 missing");
}

#[tokio::test]
async fn without_a_position_only_what_the_server_archived_is_at_hand() {
    let directory = tempfile::tempdir().unwrap();
    pg_wal(directory.path(), &[22, 23], &[23]);
    let name = segment(2, 24);
    fs::copy(directory.path().join(segment(2, 22)), directory.path().join(name)).unwrap();
    let fixture = failover().await;
    fixture.remove(2, 22..=24).await;
    let own = OwnWal::read(directory.path(), SEGMENT_SIZE, CLUSTER, None, true).unwrap();
    let archive = fixture.look(Some(own), hour(1000)).await;
    let expected = ["2: 22-22 missing", "2: 23-23 in flight", "2: 24-24 missing"];
    assert_eq!(ranges(&archive)[2..5], expected);
}

/// First and last number, and whether a base backup is needed.
fn lost(archive: &Archive) -> Vec<String> {
    let number = |name: &str| u64::from_str_radix(&name[16..], 16).unwrap();
    let row = |lost: &LostWal| {
        let (first, last) = (number(&lost.first_segment), number(&lost.last_segment));
        assert_eq!(lost.segments, last - first + 1);
        format!("{first}-{last} {}", if lost.needs_backup { "needs" } else { "bridged" })
    };
    archive.lost().iter().map(row).collect()
}

#[tokio::test]
async fn what_is_lost_needs_a_backup_until_one_was_complete_after_it() {
    let fixture = failover().await;
    fixture.remove(2, [28]).await;
    let directory = tempfile::tempdir().unwrap();
    let own = || Some(own_wal(directory.path(), CLUSTER, false));
    // 31 to 33 were written, and are nowhere.
    let archive = fixture.look(own(), hour(1000)).await;
    assert_eq!(lost(&archive), ["28-28 needs", "31-33 needs"]);
    fixture.wal(2, 31..=33).await;
    fixture.backup(2, 29).await;
    assert_eq!(lost(&fixture.look(own(), hour(1000)).await), ["28-28 bridged"]);
    // One whose own WAL is not there bridges nothing.
    fixture.remove(2, [30]).await;
    let archive = fixture.look(own(), hour(1000)).await;
    assert_eq!(lost(&archive), ["28-28 needs", "30-30 needs"]);
    // What a standby lacks, its primary may have; and without a server nothing is known.
    let standby = Some(own_wal(directory.path(), CLUSTER, true));
    assert_eq!(lost(&fixture.look(standby, hour(1000)).await), [""; 0]);
    assert_eq!(lost(&fixture.later().await), [""; 0]);
}
