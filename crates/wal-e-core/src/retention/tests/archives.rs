//! Retention of archives in a store: what is deleted is what the plan says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::super::*;
use crate::error::{ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::notice;
use crate::postgres::{Lsn, SegmentNumber, SegmentSize, TimelineId, WalSegment};
use crate::sentinel::{self, Begun, Sentinel};
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, ListRequest, ObjectStore, PutMode, list_all};

const SIZE: SegmentSize = SegmentSize::DEFAULT;
const BEGIN: OffsetDateTime = datetime!(2026-11-01 00:00 UTC);

fn hour(hour: i64) -> OffsetDateTime {
    BEGIN + Duration::hours(hour)
}

fn segment(timeline: u32, number: u64) -> String {
    let number = SegmentNumber(number);
    WalSegment { timeline: TimelineId(timeline), number }.file_name(SIZE)
}

fn backup_name(timeline: u32, number: u64) -> String {
    format!("base_{}", segment(timeline, number))
}

fn retain(full_backups: u32) -> Request {
    Request::Retain(Policy { full_backups, ..Policy::default() })
}

/// An archive in which segment `n` is stored in hour `n`.
struct Archive {
    store: FaultyStore<MemoryStore>,
}

impl Archive {
    fn new() -> Archive {
        Archive { store: FaultyStore::new(MemoryStore::with_page_size(3)) }
    }

    async fn put(&self, key: &str, body: Vec<u8>, at: OffsetDateTime) {
        let key = ObjectKey::from_listing(key).unwrap();
        let attributes = Attributes::default();
        let put = self.store.put(&key, body.into(), PutMode::Replace, &attributes);
        let _ = put.await.unwrap();
        self.store.inner().set_last_modified(&key, at);
    }

    async fn wal(&self, timeline: u32, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let key = format!("wal_005/{}.lz4", segment(timeline, number));
            self.put(&key, vec![0; 10], hour(number as i64)).await;
        }
    }

    /// A backup that begins in a segment and ends in the next one.
    async fn backup(&self, timeline: u32, number: u64, parent: Option<&str>) -> String {
        let start = Lsn(SegmentNumber(number).start_lsn(SIZE).0 + 40);
        let name = match parent {
            None => backup_name(timeline, number),
            Some(parent) => format!("{}_D_{}", backup_name(timeline, number), &parent[5..29]),
        };
        let sentinel = Sentinel {
            lsn: Some(start),
            finish_lsn: Some(Lsn(start.0 + SIZE.bytes())),
            finish_time: Some(hour(number as i64 + 1)),
            delta_from: parent.map(str::to_owned),
            ..Sentinel::full()
        };
        self.tar(&name, number).await;
        let key = layout::sentinel(&name);
        self.put(key.as_str(), sentinel::to_json(&sentinel).to_vec(), hour(number as i64 + 1))
            .await;
        name
    }

    async fn tar(&self, name: &str, number: u64) {
        let key = layout::tar_partition(name, "part_001.tar.lz4");
        self.put(key.as_str(), vec![0; 100], hour(number as i64)).await;
    }

    async fn plan(&self, request: &Request, at: i64) -> Result<Plan> {
        let (notices, _queue) = notice::channel();
        let store: Arc<dyn ObjectStore> = Arc::new(self.store.clone());
        let survey = Survey::of(&store, hour(at), &notices).await?;
        Plan::new(&survey, request)
    }

    async fn carry_out(&self, plan: &Plan) -> Result<()> {
        let (notices, _queue) = notice::channel();
        carry_out(&self.store, plan, &AtomicU64::new(0), &notices).await
    }

    async fn keys(&self) -> BTreeSet<String> {
        let all = list_all(&self.store, &ListRequest::default()).await.unwrap();
        all.into_iter().map(|object| object.key.as_str().to_owned()).collect()
    }
}

fn lines(plan: &Plan) -> Vec<String> {
    let line = |item: &Item| {
        format!(
            "{} {} {} ({}): {}",
            item.action, item.kind, item.name, item.tally.objects, item.reason
        )
    };
    plan.items.iter().map(line).collect()
}

/// Three backups on timeline 1, a promotion, one on timeline 2, and what else there may be.
async fn archive() -> Archive {
    let archive = Archive::new();
    archive.wal(1, 1..60).await;
    archive.wal(2, 50..80).await;
    let history = format!("1\t{}\tpromoted\n", SegmentNumber(50).start_lsn(SIZE));
    archive.put("wal_005/00000002.history", history.into_bytes(), hour(50)).await;
    archive.backup(1, 2, None).await;
    archive.backup(1, 20, None).await;
    archive.backup(1, 40, None).await;
    archive.backup(2, 70, None).await;
    let of_first = format!("wal_005/{}.00000028.backup.lz4", segment(1, 2));
    archive.put(&of_first, vec![0; 5], hour(3)).await;
    archive.put(&format!("wal_005/{}_delta.lz4", segment(1, 16)), vec![0; 5], hour(32)).await;
    archive.put("wal_005/README", vec![0; 5], hour(0)).await;
    archive.put("wal_e/owner.json", vec![0; 5], hour(0)).await;
    archive
}

#[tokio::test]
async fn a_plan_names_everything_and_is_what_is_done() {
    let archive = archive().await;
    let plan = archive.plan(&retain(2), 80).await.unwrap();
    let kept = "the 2 newest full backups are kept, from \"base_000000010000000000000028\" on";
    let onwards = "backup \"base_000000010000000000000028\" can be restored to any moment of it";
    assert_eq!(
        lines(&plan),
        [
            "delete base backup base_000000010000000000000002 (2): no rule keeps it".to_owned(),
            "delete base backup base_000000010000000000000014 (2): no rule keeps it".to_owned(),
            format!("keep base backup base_000000010000000000000028 (2): {kept}"),
            format!("keep base backup base_000000020000000000000046 (2): {kept}"),
            "delete WAL 000000010000000000000001 to 000000010000000000000027 (41): no backup that is kept needs it".to_owned(),
            format!("keep WAL 000000010000000000000028 to 00000001000000000000003B (20): {onwards}"),
            format!("keep WAL 000000020000000000000032 to 00000002000000000000004F (30): {onwards}"),
            "keep timeline history timeline histories (1): a server that is promoted chooses a timeline that none of them has".to_owned(),
            "keep other other objects (1): wal_e does not know what they are".to_owned(),
        ]
    );
    assert_eq!(
        plan.deletes(),
        Tally { objects: 45, bytes: 39 * 10 + 10 + 2 * 100 + sentinels(&archive).await }
    );
    let before = archive.keys().await;
    archive.carry_out(&plan).await.unwrap();
    let after = archive.keys().await;
    assert_eq!(before.len() - after.len(), 45);
    assert!(after.contains("wal_e/owner.json") && after.contains("wal_005/README"));
    assert!(!after.contains(&format!("wal_005/{}_delta.lz4", segment(1, 16))));
    let again = archive.plan(&retain(2), 80).await.unwrap();
    assert_eq!(again.deletes(), Tally::default());
    archive.carry_out(&again).await.unwrap();
    assert_eq!(archive.keys().await, after);
}

/// The bytes of the two oldest sentinels.
async fn sentinels(archive: &Archive) -> u64 {
    let mut sum = 0;
    for number in [2, 20] {
        let key = layout::sentinel(&backup_name(1, number));
        sum += archive.store.head(&key).await.unwrap().unwrap().size_bytes;
    }
    sum
}

#[tokio::test]
async fn a_deletion_that_is_interrupted_anywhere_is_finished_by_the_next() {
    let whole = archive().await;
    let plan = whole.plan(&retain(2), 80).await.unwrap();
    whole.carry_out(&plan).await.unwrap();
    let expected = whole.keys().await;
    // Each sentinel, each other object, each WAL file.
    for call in 1..=45 {
        let archive = Archive {
            store: archive().await.store.with(
                Operation::Delete,
                When::From(call),
                Fault::Refuse(ErrorKind::Unavailable),
            ),
        };
        let plan = archive.plan(&retain(2), 80).await.unwrap();
        archive.carry_out(&plan).await.unwrap_err();
        archive.store.heal();
        let plan = archive.plan(&retain(2), 80).await.unwrap();
        archive.carry_out(&plan).await.unwrap();
        assert_eq!(archive.keys().await, expected, "interrupted at {call}");
    }
}

#[tokio::test]
async fn nothing_is_deleted_after_the_archive_has_changed() {
    let archive = archive().await;
    let plan = archive.plan(&retain(1), 80).await.unwrap();
    let before = archive.keys().await;
    let parent = backup_name(1, 20);
    let delta = archive.backup(1, 45, Some(&parent)).await;
    let error = archive.carry_out(&plan).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains(&format!("\"{delta}\" is new")), "{error}");
    archive.store.delete(&layout::sentinel(&delta)).await.unwrap();
    archive.store.delete(&layout::sentinel(&parent)).await.unwrap();
    let error = archive.carry_out(&plan).await.unwrap_err();
    assert!(error.message().contains("is not there any more"), "{error}");
    assert!(before.len() - archive.keys().await.len() <= 1);
}

#[tokio::test]
async fn a_backup_that_may_be_under_way_is_kept_with_its_wal() {
    let archive = archive().await;
    archive.tar(&backup_name(1, 10), 75).await;
    archive.tar(&backup_name(1, 5), 30).await;
    let plan = archive.plan(&retain(1), 80).await.unwrap();
    let lines = lines(&plan);
    let line = |start: &str| lines.iter().find(|line| line.contains(start)).unwrap().as_str();
    assert!(line("00000A (1)").starts_with("keep incomplete backup"), "{lines:#?}");
    assert!(line("000005 (1)").starts_with("delete incomplete backup"), "{lines:#?}");
    assert!(line("00000A to 0").starts_with("keep WAL"), "{lines:#?}");
    assert!(line("000001 to 000000010000000000000009").starts_with("delete WAL"), "{lines:#?}");
}

#[tokio::test]
async fn a_hole_in_its_wal_keeps_a_backup_from_counting() {
    let archive = archive().await;
    let key = format!("wal_005/{}.lz4", segment(2, 71));
    archive.store.delete(&ObjectKey::from_listing(&key).unwrap()).await.unwrap();
    let plan = archive.plan(&retain(1), 80).await.unwrap();
    let lines = lines(&plan);
    let count = "the newest full backup is kept, from \"base_000000010000000000000028\" on";
    assert!(lines[2].contains(count), "{lines:#?}");
    assert!(lines[3].starts_with("keep"), "{lines:#?}");
}

#[tokio::test]
async fn a_backup_that_was_given_up_is_garbage_at_once() {
    for ended_at in [None, Some(hour(76))] {
        let archive = archive().await;
        let name = backup_name(1, 10);
        archive.tar(&name, 75).await;
        let begun = Begun {
            hostname: "elsewhere".to_owned(),
            data_directory: "/data".to_owned(),
            started_at: hour(75),
            ended_at,
            process: None,
        };
        archive.put(layout::begun(&name).as_str(), sentinel::to_json(&begun), hour(75)).await;
        let plan = archive.plan(&Request::Garbage(Garbage::All), 80).await.unwrap();
        assert_eq!(plan.rounds.concat().contains(&name), ended_at.is_some());
    }
}

#[tokio::test]
async fn that_a_backup_was_given_up_is_known_until_all_of_it_is_deleted() {
    // Of the sentinel, the tar, the sentinel again, two verifications, and `begun.json`.
    for call in 1..=6 {
        let archive = archive().await;
        let name = backup_name(1, 10);
        archive.tar(&name, 79).await;
        let begun = Begun {
            hostname: "elsewhere".to_owned(),
            data_directory: "/data".to_owned(),
            started_at: hour(79),
            ended_at: Some(hour(79)),
            process: None,
        };
        archive.put(layout::begun(&name).as_str(), sentinel::to_json(&begun), hour(79)).await;
        let fault = Fault::LoseAnswer(ErrorKind::Unavailable);
        let store = archive.store.clone().with(Operation::Delete, When::Call(call), fault);
        let plan = archive.plan(&Request::Garbage(Garbage::All), 80).await.unwrap();
        archive.carry_out(&plan).await.unwrap_err();
        store.heal();
        let plan = archive.plan(&Request::Garbage(Garbage::All), 80).await.unwrap();
        archive.carry_out(&plan).await.unwrap();
        let keys = archive.keys().await;
        assert!(!keys.iter().any(|key| key.contains(&name)), "{call}: {keys:#?}");
    }
}

#[tokio::test]
async fn a_backup_that_was_found_damaged_does_not_count() {
    let archive = archive().await;
    let newest = archive.plan(&retain(1), 80).await.unwrap().rounds.concat();
    let name = backup_name(2, 70);
    let key = layout::verification(&name, false);
    archive.put(key.as_str(), b"{".to_vec(), hour(79)).await;
    let plan = archive.plan(&retain(1), 80).await.unwrap();
    let lines = lines(&plan);
    let why =
        "it does not count: its last verification failed: what is wrong with it cannot be read";
    assert!(lines.iter().any(|line| line.starts_with("keep") && line.contains(why)), "{lines:#?}");
    assert!(plan.rounds.concat().len() < newest.len(), "an older one is kept instead");
    // One of before the backup is not of this one.
    archive.put(key.as_str(), b"{".to_vec(), hour(60)).await;
    assert_eq!(archive.plan(&retain(1), 80).await.unwrap().rounds.concat(), newest);
}

#[tokio::test]
async fn garbage_may_be_only_wal_or_only_what_is_left_of_backups() {
    for (what, deleted) in [
        (Garbage::All, vec!["incomplete backup", "WAL"]),
        (Garbage::Archives, vec!["WAL"]),
        (Garbage::Backups, vec!["incomplete backup"]),
    ] {
        let archive = Archive::new();
        archive.wal(1, 1..60).await;
        archive.tar(&backup_name(1, 5), 30).await;
        archive.backup(1, 30, None).await;
        let plan = archive.plan(&Request::Garbage(what), 80).await.unwrap();
        let doomed = plan.items.iter().filter(|item| item.action == Action::Delete);
        let kinds: Vec<String> = doomed.map(|item| item.kind.to_string()).collect();
        assert_eq!(kinds, deleted, "{what:?}");
        let before = archive.keys().await.len() as u64;
        archive.carry_out(&plan).await.unwrap();
        let after = archive.keys().await.len() as u64;
        assert_eq!(before - after, plan.deletes().objects, "{what:?}");
    }
}

#[tokio::test]
async fn one_backup_is_deleted_as_asked_or_not_at_all() {
    let archive = Archive::new();
    archive.wal(1, 1..60).await;
    let full = archive.backup(1, 2, None).await;
    let delta = archive.backup(1, 10, Some(&full)).await;
    let newest = archive.backup(1, 30, None).await;
    let error = archive.plan(&Request::Backup(newest.clone()), 60).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("newest backup that can be restored"), "{error}");
    let error = archive.plan(&Request::Before("base_x".to_owned()), 60).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let plan = archive.plan(&Request::Backup(full.clone()), 60).await.unwrap();
    assert_eq!(plan.rounds, [[delta], [full]]);
    archive.carry_out(&plan).await.unwrap();
    let plan = archive.plan(&Request::Everything, 60).await.unwrap();
    archive.carry_out(&plan).await.unwrap();
    assert_eq!(archive.keys().await, BTreeSet::new());
}

#[tokio::test]
async fn what_is_left_of_the_base_of_a_delta_keeps_no_wal() {
    let archive = Archive::new();
    archive.wal(1, 1..60).await;
    let full = archive.backup(1, 2, None).await;
    let delta = archive.backup(1, 10, Some(&full)).await;
    mark(&archive.store, &delta, true).await.unwrap();
    archive.backup(1, 40, None).await;
    archive.store.delete(&layout::sentinel(&full)).await.unwrap();
    let plan = archive.plan(&retain(1), 60).await.unwrap();
    assert_eq!(plan.rounds, Vec::<Vec<String>>::new());
    let lines = lines(&plan);
    let between = "delete WAL 00000001000000000000000C to 000000010000000000000027";
    assert!(lines.iter().any(|line| line.starts_with(between)), "{lines:#?}");
}

#[tokio::test]
async fn what_a_delta_builds_on_stays_while_its_sentinel_cannot_be_read() {
    for is_there in [true, false] {
        let archive = Archive::new();
        archive.wal(1, 1..60).await;
        let full = archive.backup(1, 2, None).await;
        let delta = archive.backup(1, 10, Some(&full)).await;
        let last = archive.backup(1, 12, Some(&delta)).await;
        mark(&archive.store, &last, true).await.unwrap();
        archive.backup(1, 40, None).await;
        let sentinel = layout::sentinel(&delta);
        match is_there {
            true => archive.put(sentinel.as_str(), b"{".to_vec(), hour(41)).await,
            false => archive.store.delete(&sentinel).await.unwrap(),
        }
        let plan = archive.plan(&retain(1), 60).await.unwrap();
        assert_eq!(plan.rounds, Vec::<Vec<String>>::new(), "{is_there}: {:#?}", lines(&plan));
    }
}

#[tokio::test]
async fn an_increment_under_way_may_build_on_a_delta_or_on_what_was_merged_of_it() {
    let archive = Archive::new();
    archive.wal(1, 1..60).await;
    let full = archive.backup(1, 2, None).await;
    let delta = archive.backup(1, 10, Some(&full)).await;
    // It begins where the delta does, and is stored later.
    let merged = archive.backup(1, 10, None).await;
    let sentinel = layout::sentinel(&merged);
    archive.store.inner().set_last_modified(&sentinel, hour(12));
    let under_way = archive.backup(1, 50, Some(&delta)).await;
    archive.store.delete(&layout::sentinel(&under_way)).await.unwrap();
    let plan = archive.plan(&retain(1), 60).await.unwrap();
    assert_eq!(plan.rounds, Vec::<Vec<String>>::new(), "{:#?}", lines(&plan));
    let begun = Begun {
        hostname: "elsewhere".to_owned(),
        data_directory: "/data".to_owned(),
        started_at: hour(50),
        ended_at: Some(hour(51)),
        process: None,
    };
    let key = layout::begun(&under_way);
    archive.put(key.as_str(), sentinel::to_json(&begun), hour(51)).await;
    // It was given up: the chain is not needed any more, and the merged backup is.
    let plan = archive.plan(&retain(1), 60).await.unwrap();
    let gone = plan.rounds.concat();
    assert!(gone.contains(&full) && gone.contains(&delta), "{:#?}", lines(&plan));
    assert!(!gone.contains(&merged), "{:#?}", lines(&plan));
}

#[tokio::test]
async fn both_that_a_lost_sentinel_may_have_named_stay_for_what_builds_on_it() {
    let archive = Archive::new();
    archive.wal(1, 1..60).await;
    let full = archive.backup(1, 2, None).await;
    let delta = archive.backup(1, 10, Some(&full)).await;
    let merged = archive.backup(1, 10, None).await;
    archive.store.inner().set_last_modified(&layout::sentinel(&merged), hour(12));
    let child = archive.backup(1, 14, Some(&delta)).await;
    let last = archive.backup(1, 16, Some(&child)).await;
    mark(&archive.store, &last, true).await.unwrap();
    archive.backup(1, 40, None).await;
    archive.store.delete(&layout::sentinel(&child)).await.unwrap();
    let plan = archive.plan(&retain(1), 60).await.unwrap();
    assert_eq!(plan.rounds, Vec::<Vec<String>>::new(), "{:#?}", lines(&plan));
    // Where all of it goes, children go first.
    mark(&archive.store, &last, false).await.unwrap();
    let plan = archive.plan(&retain(1), 60).await.unwrap();
    let round = |name: &String| plan.rounds.iter().position(|round| round.contains(name));
    let order = [&last, &child, &delta, &full].map(round);
    assert!(order.is_sorted() && order[0] < order[1] && order[1] < order[2], "{order:?}");
    assert!(round(&child) < round(&merged), "{:#?}", plan.rounds);
}

#[tokio::test]
async fn a_server_that_goes_on_in_the_segment_of_the_switch_keeps_its_backup() {
    let archive = Archive::new();
    archive.wal(1, 1..50).await;
    archive.wal(2, 50..80).await;
    let switch = Lsn(SegmentNumber(50).start_lsn(SIZE).0 + 0x100);
    let history = format!("1\t{switch}\tpromoted\n");
    archive.put("wal_005/00000002.history", history.into_bytes(), hour(50)).await;
    archive.backup(1, 20, None).await;
    let last = archive.backup(1, 40, None).await;
    let newest = archive.backup(2, 70, None).await;
    let kept = async || {
        let plan = archive.plan(&retain(1), 80).await.unwrap();
        let kept = plan.items.into_iter().filter(|it| it.action == Action::Keep);
        let backups = kept.filter(|it| it.kind == ItemKind::Backup).map(|it| it.name);
        backups.collect::<Vec<String>>()
    };
    assert_eq!(kept().await, [newest.as_str()]);
    let key = format!("wal_005/{}.lz4", segment(1, 50));
    archive.put(&key, vec![0; 10], hour(75)).await;
    assert_eq!(kept().await, [last, newest]);
}

#[tokio::test]
async fn wal_without_any_backup_is_kept() {
    let archive = Archive::new();
    archive.wal(1, 1..10).await;
    archive.tar(&backup_name(1, 5), 1).await;
    for request in [retain(1), Request::Garbage(Garbage::All)] {
        let plan = archive.plan(&request, 100).await.unwrap();
        let lines = lines(&plan);
        assert!(
            lines.iter().filter(|line| line.contains("WAL")).all(|line| line.starts_with("keep")),
            "{lines:#?}"
        );
    }
}

#[tokio::test]
async fn a_permanent_backup_stays_with_the_wal_that_it_needs() {
    let archive = archive().await;
    let name = backup_name(1, 2);
    let key = layout::metadata(&name);
    let foreign = br#"{"user_data": {"a": 1}, "start_lsn": 18446744073709551615}"#;
    archive.put(key.as_str(), foreign.to_vec(), hour(3)).await;
    mark(&archive.store, &name, true).await.unwrap();
    let read = archive.store.get(&key, 0, None).await.unwrap();
    let json = read.into_bytes(1000).await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["is_permanent"], true);
    assert_eq!(json["user_data"]["a"], 1);
    assert_eq!(json["start_lsn"], u64::MAX);
    let plan = archive.plan(&retain(1), 80).await.unwrap();
    let lines = lines(&plan);
    assert!(lines[0].ends_with("it is permanent"), "{lines:#?}");
    let own = "keep WAL 000000010000000000000002 to 000000010000000000000003";
    assert!(lines.iter().any(|line| line.starts_with(own)), "{lines:#?}");
    // Marks are a change, too.
    mark(&archive.store, &name, false).await.unwrap();
    let error = archive.carry_out(&plan).await.unwrap_err();
    assert!(error.message().contains("is not permanent any more"), "{error}");
    let error = mark(&archive.store, "base_x", true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // Without metadata, the sentinel says what it knows.
    mark(&archive.store, &backup_name(1, 20), true).await.unwrap();
    let plan = archive.plan(&retain(1), 80).await.unwrap();
    assert!(plan.seen[&backup_name(1, 20)]);
}
