use std::fs;

use super::*;
use crate::changed_blocks::ChangedBlocks;
use crate::layout;
use crate::notice;
use crate::postgres::{SystemIdentifier, TimelineId};
use crate::sentinel::FileMetadata;
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, PutMode};

const RELATION: RelationId = RelationId { tablespace: 1663, database: 5, number: 16384 };

fn start(data_directory: &Path) -> BackupStart {
    BackupStart {
        start_lsn: Lsn(0x300_0028),
        timeline: TimelineId(1),
        segment_size: SegmentSize::DEFAULT,
        data_directory: data_directory.to_owned(),
        log_directory: None,
        pg_version: 150_018,
        system_identifier: SystemIdentifier(7),
        start_time: time::OffsetDateTime::now_utc(),
        data_checksums: false,
        logs_hints: false,
        summarizes_wal: false,
        server_started_at: time::OffsetDateTime::UNIX_EPOCH,
        permanent: false,
        hostname: "db1".to_owned(),
        taker: crate::base_backup::Taker::Server,
    }
}

/// A data directory, and a parent that has all of it.
fn cluster(files: &[(&str, usize)]) -> (tempfile::TempDir, Vec<Entry>, Parent) {
    let data = tempfile::tempdir().unwrap();
    let mut entries = Vec::new();
    let start_time = Some(time::OffsetDateTime::now_utc() + Duration::from_secs(5));
    let mut parent = Parent { start_lsn: Lsn(0x200_0028), start_time, ..Parent::default() };
    for (path, pages) in files {
        let place = data.path().join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, vec![0; pages * BLOCK_SIZE]).unwrap();
        let mtime = format_time(time_of(&fs::metadata(&place).unwrap()));
        parent.files.insert(member_name(path), FileMetadata { mtime, ..FileMetadata::default() });
        let size_bytes = (pages * BLOCK_SIZE) as u64;
        entries.push(Entry { path: (*path).to_owned(), size_bytes, mode: 0o600 });
    }
    (data, entries, parent)
}

const FILES: [(&str, usize); 9] = [
    ("base/5/PG_VERSION", 0),
    ("base/5/16384", 10),
    ("base/5/16384_vm", 1),
    ("base/5/16384_fsm", 3),
    ("base/5/16385_init", 1),
    ("global/1262", 1),
    ("pg_tblspc/900/PG_15_202209061/5/16390", 4),
    ("pg_xact/0000", 1),
    ("postgresql.conf", 0),
];

fn is_whole(delta: &Delta, entries: &[Entry], path: &str) -> bool {
    let entry = entries.iter().find(|entry| entry.path == path).unwrap();
    matches!(delta.plan(entry), Stored::Whole)
}

#[test]
fn only_main_forks_that_the_parent_has_are_stored_by_page() {
    let (data, mut entries, mut parent) = cluster(&FILES);
    entries.push(Entry { path: "base/5/16999".to_owned(), size_bytes: 8192, mode: 0o600 });
    let corrupt = crate::sentinel::CorruptBlocks::default();
    let damaged = FileMetadata { corrupt_blocks: Some(corrupt), ..FileMetadata::default() };
    parent.files.insert("/base/5/17000".to_owned(), damaged);
    entries.push(Entry { path: "base/5/17000".to_owned(), size_bytes: 8192, mode: 0o600 });
    for changed in [Changed::ByPageLsn, Changed::Blocks(Default::default())] {
        let delta = Delta::new(parent.clone(), changed, &start(data.path()), &entries);
        let by_page: Vec<&str> = entries
            .iter()
            .map(|entry| entry.path.as_str())
            .filter(|path| !is_whole(&delta, &entries, path))
            .collect();
        assert_eq!(by_page, ["base/5/16384", "pg_tblspc/900/PG_15_202209061/5/16390"]);
    }
}

#[test]
fn a_database_that_is_another_one_is_stored_whole_in_every_tablespace() {
    let (data, entries, parent) = cluster(&FILES);
    let are_whole = |change: &dyn Fn(&mut Parent)| {
        let mut parent = parent.clone();
        change(&mut parent);
        let delta = Delta::new(parent, Changed::ByPageLsn, &start(data.path()), &entries);
        entries.iter().all(|entry| is_whole(&delta, &entries, &entry.path))
    };
    assert!(!are_whole(&|_| {}));
    assert!(are_whole(&|parent| {
        let version = parent.files.get_mut("/base/5/PG_VERSION").unwrap();
        version.mtime = "2026-01-02T03:04:05.000000001Z".to_owned();
    }));
    assert!(are_whole(&|parent| drop(parent.files.remove("/base/5/PG_VERSION"))));
    // It was made while the parent was taken.
    assert!(are_whole(&|parent| {
        parent.start_time = Some(time::OffsetDateTime::now_utc() - Duration::from_secs(3600));
    }));
    assert!(are_whole(&|parent| parent.start_time = None));
}

#[test]
fn what_the_wal_has_cut_or_copied_is_stored_whole() {
    let (data, entries, parent) = cluster(&FILES);
    let with = |note: &dyn Fn(&mut ChangedBlocks)| {
        let mut map = ChangedBlocks::default();
        note(&mut map);
        Delta::new(parent.clone(), Changed::Blocks(map), &start(data.path()), &entries)
    };
    let is_whole = |delta: &Delta| is_whole(delta, &entries, "base/5/16384");
    assert!(!is_whole(&with(&|_| {})));
    assert!(is_whole(&with(&|map| map.note_limit(RELATION, 0))));
    assert!(!is_whole(&with(&|map| map.note_limit(RELATION, 1))));
    assert!(is_whole(&with(&|map| map.note_database(1663, 5))));
    assert!(!is_whole(&with(&|map| map.note_database(900, 5))));

    let delta = with(&|map| {
        map.note_block(RELATION, 3);
        map.note_block(RELATION, 30);
        map.note_limit(RELATION, 8);
    });
    let entry = entries.iter().find(|entry| entry.path == "base/5/16384").unwrap();
    let three = 3 * BLOCK_SIZE as u64;
    assert_eq!(bytes_to_read(Some(&delta), entry), three, "blocks 3, 8 and 9");
    assert_eq!((bytes_to_send(Some(&delta), entry), delta.share()), (three, Share::Known));

    // Which pages have changed shows when they are read.
    let delta = Delta::new(parent.clone(), Changed::ByPageLsn, &start(data.path()), &entries);
    assert_eq!(bytes_to_read(Some(&delta), entry), entry.size_bytes);
    assert_eq!((bytes_to_send(Some(&delta), entry), delta.share()), (0, Share::Found));
    let whole = entries.iter().find(|entry| entry.path == "base/5/16384_fsm").unwrap();
    assert_eq!(bytes_to_send(Some(&delta), whole), whole.size_bytes);
}

/// As `WALG_DELTA_MAX_STEPS=0` has it.
#[tokio::test]
async fn where_no_delta_may_follow_each_backup_is_a_full_one_and_says_so() {
    let data = tempfile::tempdir().unwrap();
    let store = MemoryStore::with_page_size(10);
    let wanted = Incremental { origin: Origin::Latest, max_deltas: Some(0) };
    let (notices, queue) = notice::channel();
    let cancel = CancellationToken::new();
    let prepared = prepare(&store, &start(data.path()), wanted, &notices, &cancel).await.unwrap();
    assert_eq!(prepared.unwrap_err(), "no delta backup may follow a full one");
    let said = &queue.drain()[0].message;
    assert!(said.ends_with("incremental one: no delta backup may follow a full one"));
}

#[tokio::test]
async fn the_check_tells_of_incremental_backups_where_they_are_wanted() {
    let data = tempfile::tempdir().unwrap();
    let store = MemoryStore::with_page_size(10);
    let start = start(data.path());
    let row = async |max_deltas| outlook::look(&store, &start, max_deltas).await.unwrap();
    assert_eq!(row(0).await, None);
    let first = row(2).await.unwrap();
    assert!(first.ok.is_none() && first.hint.is_some());
    assert!(first.detail.ends_with("there is no base backup that it could build on"), "{first:?}");
    for (name, is_delta) in
        [("base_000000010000000000000001", false), ("base_000000010000000000000002_D_x", true)]
    {
        let key = layout::sentinel(name);
        let attributes = Attributes::default();
        let put = store.put(&key, "{}".into(), PutMode::CreateOnly, &attributes);
        let _ = put.await.unwrap();
        assert_eq!(row(0).await.is_some(), is_delta, "{name}");
    }
}

#[tokio::test]
async fn the_source_is_foreseen_by_the_names_of_files() {
    let (data, _, parent) = cluster(&FILES);
    let mut start = start(data.path());
    let wal = data.path().join("pg_wal");
    fs::create_dir(&wal).unwrap();
    let foreseen = async |start: &BackupStart| source::foreseen(start, &parent).await.unwrap();
    let why = foreseen(&start).await.unwrap_err();
    assert!(why.contains("000000010000000000000002") && why.contains("wal_log_hints"), "{why}");
    start.logs_hints = true;
    assert!(foreseen(&start).await.unwrap().starts_with("the LSN of each page"));
    for segment in ["000000010000000000000002", "000000010000000000000003"] {
        fs::write(wal.join(segment), "").unwrap();
    }
    assert_eq!(foreseen(&start).await.unwrap(), "the archiver's maps of changed blocks");
    start.summarizes_wal = true;
    fs::create_dir(wal.join("summaries")).unwrap();
    let summary = |from: u64, to: u64| {
        let name = format!("0000000100000000{from:08X}00000000{to:08X}.summary");
        fs::write(wal.join("summaries").join(name), "").unwrap();
    };
    summary(0x280_0000, 0x2A0_0000);
    let from = foreseen(&start).await.unwrap();
    assert!(from.starts_with("the archiver's maps") && from.contains("no WAL summary"), "{from}");
    summary(0x100_0028, 0x280_0000);
    let from = foreseen(&start).await.unwrap();
    assert_eq!(from, "the server's WAL summaries, so far up to 0/2A00000");
    start.summarizes_wal = false;
    assert!(foreseen(&start).await.unwrap().contains("\"summarize_wal\" is off"));
    summary(0x2A0_0000, 0x300_0028);
    assert_eq!(foreseen(&start).await.unwrap(), "the server's WAL summaries");
}
