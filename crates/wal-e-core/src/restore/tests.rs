use crate::config::Exclusions;
use crate::config::Face;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::base_backup::{BackupPush, BackupStart, BackupStop, Progress, PushOptions, Taker};
use crate::catalogue::list;
use crate::codec::{Compression, Compressor, Decompressor, Encoding};
use crate::error::{ErrorKind, Result};
use crate::layout;
use crate::notice::{self, Notices};
use crate::postgres::wal_sample::{CLUSTER, SEGMENT_SIZE, WalWriter};
use crate::postgres::{BackupManifest, Lsn, ServerStart, TimelineId, WalFileName, control_file};
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, ListRequest, ObjectStore, PutMode, list_all};
use crate::transfer::{Open, UploadNote};
use crate::wal::UnusablePlace;

mod foreign;

const NO_ATTRIBUTES: Attributes = Attributes { content_xxh128: None, upload_id: None };
const LABEL: &str = "START WAL LOCATION: 0/200028 (file 000000010000000000000002)\n\
                     CHECKPOINT LOCATION: 0/200060\nBACKUP METHOD: streamed\n\
                     BACKUP FROM: primary\n";
const NAME: &str = "base_000000010000000000000002";

/// A directory tree in the shape of a cluster, and a store that already has the
/// Fetches `name` into `directory`, one tar at a time, and sets nothing up.
fn plain_request(name: &str, directory: PathBuf) -> FetchRequest {
    FetchRequest {
        name: name.to_owned(),
        directory,
        concurrency: 1,
        tablespaces: TablespacePlaces::default(),
        created: Vec::new(),
        unusable: UnusablePlace::default(),
        wal_directory: None,
        recovery: None,
        archive_mode: ArchiveMode::Preserve,
        ignores_free_space: false,
        resume: false,
    }
}

/// WAL of the backup.
struct Fixture {
    dir: tempfile::TempDir,
    memory: MemoryStore,
    store: FaultyStore<MemoryStore>,
    cancel: CancellationToken,
    compression: Compression,
    /// Lines of the tablespace map beyond those of tablespaces that are there.
    also_mapped: String,
}

fn control(checkpoint: Lsn) -> Vec<u8> {
    control_file::sample(CLUSTER, 1 << 20, checkpoint)
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (data, space) = (dir.path().join("data"), dir.path().join("space"));
        for directory in
            ["base/1", "base/5", "global", "pg_wal/archive_status", "pg_tblspc", "pg_xact"]
        {
            fs::create_dir_all(data.join(directory)).unwrap();
        }
        fs::create_dir_all(space.join("PG_15_202209061/5")).unwrap();
        symlink(&space, data.join("pg_tblspc/16384")).unwrap();
        for number in 0..40_usize {
            let content: Vec<u8> = (0..number * 5000).map(|n| (n * number / 3) as u8).collect();
            fs::write(data.join(format!("base/5/{}", 16_400 + number)), &content).unwrap();
            fs::write(space.join(format!("PG_15_202209061/5/{}", 16_500 + number)), &content)
                .unwrap();
        }
        for (file, content) in [
            ("PG_VERSION", "15\n"),
            ("postgresql.auto.conf", "work_mem = '8MB'\n"),
            ("pg_xact/0000", "commits"),
            ("base/1/empty", ""),
            ("postmaster.pid", "1"),
        ] {
            fs::write(data.join(file), content).unwrap();
        }
        fs::write(data.join("global/pg_control"), control(Lsn(0x20_0060))).unwrap();
        let memory = MemoryStore::with_page_size(3);
        let fixture = Fixture {
            dir,
            store: FaultyStore::new(memory.clone()),
            memory,
            cancel: CancellationToken::new(),
            compression: Compression::default(),
            also_mapped: String::new(),
        };
        fixture.archive("000000010000000000000002").await;
        fixture.archive("000000010000000000000003").await;
        fixture
    }

    async fn archive(&self, segment: &str) {
        self.archive_as(segment, Encoding::Lz4).await;
    }

    async fn archive_as(&self, segment: &str, encoding: Encoding) {
        let log = WalWriter::of_backup(Lsn(0x20_0028), Lsn(0x30_0100));
        let content = log.segments().into_iter().find(|(name, _)| name == segment).unwrap().1;
        self.put_wal(segment, encoding, &content).await;
        let mark = self.data().join(format!("pg_wal/archive_status/{segment}.done"));
        fs::write(mark, "").unwrap();
    }

    async fn put_wal(&self, segment: &str, encoding: Encoding, content: &[u8]) {
        let name: WalFileName = segment.parse().unwrap();
        let key = layout::wal_file(&name, encoding);
        let mut writer =
            Compressor::new(Vec::new(), Compression::new(encoding, None).unwrap()).unwrap();
        writer.write_all(content).unwrap();
        let body = writer.finish().unwrap();
        let put = self.memory.put(&key, body.into(), PutMode::Replace, &NO_ATTRIBUTES);
        let _ = put.await.unwrap();
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    async fn push(&self) -> Result<String> {
        let (notices, _queue) = notice::channel();
        self.push_telling(notices).await
    }

    async fn push_telling(&self, notices: Notices) -> Result<String> {
        let start = BackupStart {
            start_lsn: Lsn(0x20_0028),
            timeline: TimelineId(1),
            segment_size: SEGMENT_SIZE,
            data_directory: self.data(),
            log_directory: None,
            pg_version: 150_018,
            system_identifier: CLUSTER,
            start_time: OffsetDateTime::now_utc(),
            data_checksums: false,
            permanent: true,
            hostname: "db1".to_owned(),
            taker: Taker::Server,
        };
        let options = PushOptions {
            concurrency: 3,
            tar_size_threshold_bytes: 500_000,
            compression: self.compression,
            read_rate_limit_bytes_per_second: None,
            exclude: Exclusions::default(),
        };
        let store: Arc<dyn ObjectStore> = Arc::new(self.store.clone());
        let progress = Arc::new(Progress::default());
        let cancel = self.cancel.clone();
        let mut push =
            BackupPush::begin(store, start, options, Arc::clone(&progress), notices, cancel)
                .await?;
        assert_eq!(push.name(), NAME);
        push.push_files().await?;
        assert_eq!(
            progress.partitions_done.load(Ordering::Relaxed),
            progress.partitions_total.load(Ordering::Relaxed)
        );
        push.finish(BackupStop {
            stop_lsn: Lsn(0x30_0100),
            backup_label: LABEL.to_owned(),
            tablespace_map: format!(
                "16384 {}\n{}",
                self.dir.path().join("space").display(),
                self.also_mapped
            ),
        })
        .await
    }

    async fn fetch(&self, name: &str) -> Result<Fetched> {
        self.fetch_into(name, "restored_space", false).await
    }

    async fn resume(&self) -> Result<Fetched> {
        self.fetch_into(NAME, "restored_space", true).await
    }

    async fn fetch_into(&self, name: &str, space: &str, resume: bool) -> Result<Fetched> {
        let (notices, _queue) = notice::channel();
        let request = FetchRequest {
            concurrency: 3,
            tablespaces: TablespacePlaces::Mapped {
                pairs: vec![(self.dir.path().join("space"), self.dir.path().join(space))],
                below: None,
            },
            resume,
            ..plain_request(name, self.dir.path().join("restored"))
        };
        let store: Arc<dyn ObjectStore> = Arc::new(self.store.clone());
        fetch(store, request, Arc::default(), notices, self.cancel.clone()).await
    }

    /// Restores the backup, and compares every file.
    async fn comes_back(&self) {
        self.is_the_same(&self.fetch("LATEST").await.unwrap());
    }

    fn is_the_same(&self, fetched: &Fetched) {
        assert_eq!(fetched.name, NAME);
        let mut expected = files(&self.data());
        expected.remove("postmaster.pid");
        expected.retain(|path, _| !path.starts_with("pg_wal/"));
        expected.insert("backup_label".into(), LABEL.into());
        let new_space = self.dir.path().join("restored_space");
        let map = format!("16384 {}\n", new_space.display());
        expected.insert("tablespace_map".into(), map.into());
        let mut restored = files(&self.dir.path().join("restored"));
        let manifest = restored.remove("backup_manifest").unwrap();
        is_listed(&manifest, &restored);
        assert_eq!(restored.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        assert!(restored == expected, "contents differ");
        assert!(self.dir.path().join("restored/pg_wal").is_dir());
        assert_eq!(fetched.files, expected.len() as u64);
    }

    /// Stores the LZ4 tar `tar` as `new_name` instead, as another writer might have done.
    async fn encode_again(&self, tar: &str, new_name: &str, encoding: Encoding) {
        let old_name = Encoding::Lz4.file_name(tar);
        let old_key = layout::tar_partition(NAME, &old_name);
        let (stored, mut content) = (self.bytes(&old_key).await, Vec::new());
        let mut reader = Decompressor::new(&stored[..], Encoding::Lz4).unwrap();
        reader.read_to_end(&mut content).unwrap();
        let compression = Compression::new(encoding, None).unwrap();
        let mut writer = Compressor::new(Vec::new(), compression).unwrap();
        writer.write_all(&content).unwrap();
        let new_key = layout::tar_partition(NAME, new_name);
        let body = writer.finish().unwrap();
        let put = self.memory.put(&new_key, body.into(), PutMode::CreateOnly, &NO_ATTRIBUTES);
        let _ = put.await.unwrap();
        self.memory.delete(&old_key).await.unwrap();

        let key = layout::files_metadata(NAME);
        let json = String::from_utf8(self.bytes(&key).await.to_vec()).unwrap();
        assert!(json.contains(&old_name), "{old_name}");
        let json = json.replace(&format!("\"{old_name}\""), &format!("\"{new_name}\""));
        let put = self.memory.put(&key, json.into(), PutMode::Replace, &NO_ATTRIBUTES);
        let _ = put.await.unwrap();
    }

    async fn bytes(&self, key: &layout::ObjectKey) -> bytes::Bytes {
        self.memory.get(key, 0, None).await.unwrap().into_bytes(1 << 30).await.unwrap()
    }

    fn nothing_restored(&self) -> bool {
        ["restored", "restored_space"].iter().all(|name| !self.dir.path().join(name).exists())
    }

    async fn keys(&self) -> Vec<String> {
        let objects = list_all(&self.memory, &ListRequest::default()).await.unwrap();
        objects.into_iter().map(|object| object.key.to_string()).collect()
    }
}

/// Asserts that a manifest lists exactly `files`, and the WAL of the backup.
fn is_listed(manifest: &[u8], files: &BTreeMap<String, Vec<u8>>) {
    let manifest = BackupManifest::parse(manifest).unwrap();
    assert_eq!(manifest.system_identifier, None);
    let range = manifest.wal_ranges[0];
    assert_eq!((range.start_lsn, range.end_lsn), (Lsn(0x20_0028), Lsn(0x30_0100)));
    assert_eq!((range.timeline, manifest.wal_ranges.len()), (TimelineId(1), 1));
    assert_eq!(manifest.files.len(), files.len());
    for (path, content) in files {
        let listed = manifest.file(path).unwrap_or_else(|| panic!("{path} is not listed"));
        assert_eq!(listed.size_bytes, content.len() as u64, "{path}");
        assert_eq!(listed.crc32c, crc32c::crc32c(content), "{path}");
    }
}

/// Every file below `root` with its content, links followed.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    walkdir::WalkDir::new(root)
        .follow_links(true)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let path = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            (path, fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_backup_comes_back_file_by_file() {
    for encoding in Encoding::WRITABLE {
        let mut fixture = Fixture::new().await;
        fixture.compression = Compression::new(encoding, None).unwrap();
        assert_eq!(fixture.push().await.unwrap(), NAME);
        fixture.comes_back().await;
    }
}

#[tokio::test]
async fn a_tablespace_that_is_dropped_while_the_backup_begins_does_not_spoil_it() {
    let mut fixture = Fixture::new().await;
    let gone = fixture.dir.path().join("gone");
    fixture.also_mapped = format!("16385 {}\n", gone.display());
    fixture.push().await.unwrap();
    fixture.fetch("LATEST").await.unwrap();
    let restored = fixture.dir.path().join("restored");
    assert_eq!(fs::read_link(restored.join("pg_tblspc/16385")).unwrap(), gone);
    let map = fs::read_to_string(restored.join("tablespace_map")).unwrap();
    assert!(map.ends_with(&fixture.also_mapped), "{map}");
    assert_eq!(fs::read_dir(&gone).unwrap().count(), 0);
}

#[tokio::test]
async fn a_control_file_that_is_just_being_written_is_read_again() {
    let fixture = Fixture::new().await;
    let path = fixture.data().join("global/pg_control");
    let mut torn = control(Lsn(0x20_0060));
    torn[32] ^= 1;
    fs::write(&path, torn).unwrap();
    let written = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        fs::write(&path, control(Lsn(0x200_0090))).unwrap();
    };
    let (pushed, ()) = tokio::join!(fixture.push(), written);
    pushed.unwrap();
    fixture.comes_back().await;
}

#[tokio::test]
async fn each_tar_is_read_by_its_own_name() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    for (tar, encoding) in [
        ("part_002.tar", Encoding::Zstd),
        ("part_003.tar", Encoding::None),
        ("pg_control.tar", Encoding::None),
        ("backup_label.tar", Encoding::Zstd),
    ] {
        fixture.encode_again(tar, &encoding.file_name(tar), encoding).await;
    }
    fixture.comes_back().await;
    // As WAL-G once named what it did not compress.
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    fixture.encode_again("part_002.tar", "part_002.tar.", Encoding::None).await;
    fixture.comes_back().await;
}

#[tokio::test]
async fn tars_that_cannot_be_read_are_told_before_anything_is_written() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    // Without a list of files nothing tells that they are not of the backup.
    let sentinel = layout::sentinel(NAME);
    let json = String::from_utf8(fixture.bytes(&sentinel).await.to_vec()).unwrap();
    let json = json.replacen('{', "{\"FilesMetadataDisabled\":true,", 1);
    let put = fixture.memory.put(&sentinel, json.into(), PutMode::Replace, &NO_ATTRIBUTES);
    let _ = put.await.unwrap();
    for (key, kind) in [
        (layout::tar_partition(NAME, "part_009.tar.lz4.gpg"), ErrorKind::Config),
        (layout::tar_partition(NAME, "README"), ErrorKind::Config),
        (layout::tar_partition(NAME, "pg_control.tar.zst"), ErrorKind::Corrupt),
        (layout::tar_partition(NAME, "backup_label.tar"), ErrorKind::Corrupt),
    ] {
        let put = fixture.memory.put(&key, "?".into(), PutMode::CreateOnly, &NO_ATTRIBUTES);
        let _ = put.await.unwrap();
        let error = fixture.fetch(NAME).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{key}");
        assert!(error.message().contains(key.as_str()) && error.hint().is_some(), "{error}");
        assert!(fixture.nothing_restored());
        fixture.memory.delete(&key).await.unwrap();
    }
    fixture.comes_back().await;
}

#[tokio::test]
async fn the_objects_are_those_that_wal_g_reads() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let keys = fixture.keys().await;
    let own = format!("basebackups_005/{NAME}");
    for key in [
        format!("{own}/tar_partitions/part_001.tar.lz4"),
        format!("{own}/tar_partitions/part_002.tar.lz4"),
        format!("{own}/tar_partitions/pg_control.tar.lz4"),
        format!("{own}/tar_partitions/backup_label.tar.lz4"),
        format!("{own}/metadata.json"),
        format!("{own}/files_metadata.json"),
        format!("{own}/backup_manifest"),
        format!("{own}_backup_stop_sentinel.json"),
    ] {
        assert!(keys.contains(&key), "{key} is not in {keys:?}");
    }
    let backups = list(&fixture.memory, &notice::channel().0).await.unwrap();
    assert_eq!(backups.len(), 1);
    let backup = &backups[0];
    assert_eq!((backup.name.as_str(), backup.permanent), (NAME, true));
    assert_eq!((backup.start_lsn, backup.stop_lsn), (Some(Lsn(0x20_0028)), Some(Lsn(0x30_0100))));
    assert_eq!(backup.timeline, TimelineId(1));
    assert!(backup.compressed_bytes.unwrap() < backup.uncompressed_bytes.unwrap());
}

#[tokio::test]
async fn a_backup_of_the_same_name_is_refused() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let error = fixture.push().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains(NAME) && error.hint().is_some());
}

/// The base backup of another name that was killed, with one upload that was noted by its
/// number, and one whose answer was lost.
const KILLED: &str = "base_000000010000000000000001";

impl Fixture {
    fn note(&self) -> PathBuf {
        self.data().join("wal_e.unfinished_backup.server")
    }

    /// Says that the server has been started so many seconds from now.
    fn start_server(&self, seconds: i64) {
        let started = OffsetDateTime::now_utc().unix_timestamp() + seconds;
        let lock_file = format!("11\n{}\n{started}\n", self.data().display());
        fs::write(self.data().join("postmaster.pid"), lock_file).unwrap();
    }

    /// Leaves what a killed backup leaves; returns the keys of its uploads.
    async fn kill_backup(&self) -> [layout::ObjectKey; 2] {
        let lock_file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let note = UploadNote::claim(&self.note(), ServerStart::parse(&lock_file));
        let note = note.unwrap().unwrap();
        note.add(Open::Below(layout::backup_directory(KILLED))).unwrap();
        let [noted, lost] =
            ["part_001.tar.lz4", "part_002.tar.lz4"].map(|tar| layout::tar_partition(KILLED, tar));
        let begin = async |key| {
            let begun = self.memory.begin_multipart(key, PutMode::CreateOnly, &NO_ATTRIBUTES);
            begun.await.unwrap().id().unwrap().to_owned()
        };
        let id = begin(&noted).await;
        note.add(Open::Upload { key: noted.clone(), id }).unwrap();
        begin(&lost).await;
        [noted, lost]
    }
}

#[tokio::test]
async fn the_uploads_of_a_backup_that_was_killed_are_ended_by_the_next() {
    for restarted in [false, true] {
        let fixture = Fixture::new().await;
        fixture.start_server(-100);
        fixture.kill_backup().await;
        if restarted {
            fixture.start_server(1);
        }
        fixture.push().await.unwrap();
        assert!(fixture.memory.open_uploads().is_empty(), "restarted: {restarted}");
        assert!(!fixture.note().exists());
    }
}

#[tokio::test]
async fn the_uploads_of_the_server_that_this_is_a_copy_of_go_on() {
    // A copy of the files.
    let fixture = Fixture::new().await;
    fixture.start_server(-100);
    let uploads = fixture.kill_backup().await;
    let copy = fixture.dir.path().join("copy");
    fs::copy(fixture.note(), &copy).unwrap();
    fs::rename(&copy, fixture.note()).unwrap();
    fixture.start_server(1);
    fixture.push().await.unwrap();
    assert_eq!(fixture.memory.open_uploads(), uploads);
    assert!(!fixture.note().exists());

    // A copy of the file system: the original has stored something since this one started.
    let fixture = Fixture::new().await;
    fixture.start_server(-100);
    let uploads = fixture.kill_backup().await;
    let stored = layout::tar_partition(KILLED, "part_003.tar.lz4");
    let put = fixture.memory.put(&stored, "tar".into(), PutMode::CreateOnly, &NO_ATTRIBUTES);
    let _ = put.await.unwrap();
    fixture.start_server(-10);
    fixture.push().await.unwrap();
    assert_eq!(fixture.memory.open_uploads(), uploads);
    assert!(!fixture.note().exists());
}

#[tokio::test]
async fn without_the_right_to_list_uploads_those_that_were_noted_are_ended_and_no_note_stays() {
    let fixture = Fixture::new().await;
    fixture.start_server(-100);
    let [_, lost] = fixture.kill_backup().await;
    let refuse = Fault::Refuse(ErrorKind::Denied);
    let _ = fixture.store.clone().with(Operation::AbortAll, When::From(1), refuse);
    let (notices, queue) = notice::channel();
    fixture.push_telling(notices).await.unwrap();
    assert_eq!(fixture.memory.open_uploads(), [lost]);
    assert!(!fixture.note().exists(), "it would grow with each backup");
    let said: Vec<String> = queue.drain().into_iter().map(|notice| notice.message).collect();
    let said: Vec<&String> = said.iter().filter(|line| line.contains("AbortAll")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
}

#[tokio::test]
async fn a_backup_that_runs_is_not_taken_for_dead() {
    let fixture = Fixture::new().await;
    let note = fs::File::create(fixture.data().join("wal_e.unfinished_backup.server")).unwrap();
    note.lock().unwrap();
    let error = fixture.push().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    drop(note);
    fixture.push().await.unwrap();
}

#[tokio::test]
async fn a_restore_without_label_or_list_of_files_is_refused() {
    for key in [layout::tar_partition(NAME, "backup_label.tar.lz4"), layout::files_metadata(NAME)] {
        let fixture = Fixture::new().await;
        fixture.push().await.unwrap();
        fixture.memory.delete(&key).await.unwrap();
        let error = fixture.fetch(NAME).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{key}");
        assert!(fixture.nothing_restored());
    }
}

#[tokio::test]
async fn a_backup_that_fails_anywhere_leaves_no_sentinel_and_no_open_upload() {
    for (operation, call) in [
        (Operation::Put, 1),
        (Operation::Put, 4),
        (Operation::Put, 8),
        (Operation::List, 1),
        (Operation::List, 3),
    ] {
        let fixture = Fixture::new().await;
        let refuse = Fault::Refuse(ErrorKind::Denied);
        let _ = fixture.store.clone().with(operation, When::From(call), refuse);
        let error = fixture.push().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{operation:?} {call}");
        let keys = fixture.keys().await;
        assert!(!keys.iter().any(|key| key.ends_with("sentinel.json")), "{operation:?} {call}");
        assert!(fixture.memory.open_uploads().is_empty());
        assert!(list(&fixture.memory, &notice::channel().0).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_sentinel_waits_for_the_wal() {
    let fixture = Fixture::new().await;
    let last: WalFileName = "000000010000000000000003".parse().unwrap();
    fixture.memory.delete(&layout::wal_file(&last, Encoding::Lz4)).await.unwrap();
    let waiting = async {
        while fixture.store.calls(Operation::List) < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(
            list(&fixture.memory, &notice::channel().0).await.unwrap().is_empty(),
            "listed before its WAL is there"
        );
        let asked_for = OffsetDateTime::now_utc();
        fixture.archive(last.as_str()).await;
        asked_for
    };
    let (name, asked_for) = tokio::join!(fixture.push(), waiting);
    assert_eq!(name.unwrap(), NAME);
    // The wait does not count: a transaction in it is behind the backup.
    let backup = list(&fixture.memory, &notice::channel().0).await.unwrap().remove(0);
    assert!(backup.finish_time.unwrap() <= asked_for, "{backup:?}");
}

#[tokio::test]
async fn wal_counts_as_archived_in_any_encoding_that_can_be_read() {
    let segments = ["000000010000000000000002", "000000010000000000000003"];
    let fixture = Fixture::new().await;
    for (segment, encoding) in segments.into_iter().zip([Encoding::Zstd, Encoding::None]) {
        let lz4 = layout::wal_file(&segment.parse().unwrap(), Encoding::Lz4);
        fixture.memory.delete(&lz4).await.unwrap();
        fixture.archive_as(segment, encoding).await;
    }
    assert_eq!(fixture.push().await.unwrap(), NAME);

    let fixture = Fixture::new().await;
    let last = layout::wal_file(&segments[1].parse().unwrap(), Encoding::Lz4);
    fixture.memory.delete(&last).await.unwrap();
    let foreign = last.as_str().replace(".lz4", ".gpg");
    let key = layout::ObjectKey::from_listing(&foreign).unwrap();
    let put = fixture.memory.put(&key, "?".into(), PutMode::CreateOnly, &NO_ATTRIBUTES);
    let _ = put.await.unwrap();
    let error = fixture.push().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains(&foreign), "{error}");
    assert!(list(&fixture.memory, &notice::channel().0).await.unwrap().is_empty());
}

#[tokio::test]
async fn wal_is_waited_for_with_listings_alone() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    // The name, WAL of others, all WAL from start to stop, and the encoding of the first.
    assert_eq!(fixture.store.calls(Operation::List), 4);
    // The sentinel of that name, and no segment.
    assert_eq!(fixture.store.calls(Operation::Head), 1);
}

#[tokio::test]
async fn a_backup_is_refused_where_the_archive_has_wal_of_another_copy() {
    let segments = ["000000010000000000000002", "000000010000000000000003"];
    let marks = |fixture: &Fixture| fixture.data().join("pg_wal/archive_status");
    // Not finished by this server.
    for unfinished in segments {
        let fixture = Fixture::new().await;
        for segment in segments.iter().filter(|segment| **segment >= unfinished) {
            fs::remove_file(marks(&fixture).join(format!("{segment}.done"))).unwrap();
            fs::write(fixture.data().join("pg_wal").join(segment), "being written").unwrap();
        }
        let error = fixture.push().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains(unfinished) && error.hint().is_some(), "{error}");
        assert!(fixture.keys().await.iter().all(|key| key.starts_with("wal_005/")));
        // The primary of a standby is ahead of it.
        fs::write(fixture.data().join("standby.signal"), "").unwrap();
        for segment in segments {
            let _ = fs::remove_file(fixture.data().join("pg_wal").join(segment));
        }
        fixture.push().await.unwrap();
    }
    // Finished with other content.
    let fixture = Fixture::new().await;
    fs::write(fixture.data().join("pg_wal").join(segments[1]), "other").unwrap();
    let error = fixture.push().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains(segments[1]), "{error}");
}

#[tokio::test]
async fn a_backup_is_not_completed_with_wal_of_another_copy() {
    let last = "000000010000000000000003";
    let name: WalFileName = last.parse().unwrap();
    let key = layout::wal_file(&name, Encoding::Lz4);
    let own = WalWriter::of_backup(Lsn(0x20_0028), Lsn(0x30_0100)).segments().remove(1).1;
    // As long as its end record, without it; and with other content after the end.
    let mut other = WalWriter::new(1, 3);
    other.noise(500);
    other.switch();
    let mut longer = own.clone();
    longer[0x8000] ^= 1;
    for (content, has_own) in [(other.segments().remove(0).1, false), (longer, true)] {
        let fixture = Fixture::new().await;
        fixture.memory.delete(&key).await.unwrap();
        if has_own {
            fs::write(fixture.data().join("pg_wal").join(last), &own).unwrap();
        }
        let waiting = async {
            while fixture.store.calls(Operation::List) < 4 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            fixture.put_wal(last, Encoding::Lz4, &content).await;
        };
        let (result, ()) = tokio::join!(fixture.push(), waiting);
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains(last) && error.hint().is_some(), "{error}");
        assert!(list(&fixture.memory, &notice::channel().0).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_cancelled_backup_ends_without_a_sentinel() {
    let fixture = Fixture::new().await;
    let last: WalFileName = "000000010000000000000003".parse().unwrap();
    fixture.memory.delete(&layout::wal_file(&last, Encoding::Lz4)).await.unwrap();
    let cancel = async {
        while fixture.store.calls(Operation::List) < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        fixture.cancel.cancel();
    };
    let (result, ()) = tokio::join!(fixture.push(), cancel);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(list(&fixture.memory, &notice::channel().0).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_unknown_backup_is_told_with_what_there_is() {
    let fixture = Fixture::new().await;
    let error = fixture.fetch("LATEST").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    fixture.push().await.unwrap();
    let error = fixture.fetch("base_000000010000000000000099").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.hint().unwrap().contains(NAME));
    assert!(fixture.nothing_restored());
}

async fn replace(fixture: &Fixture, key: &layout::ObjectKey, body: bytes::Bytes) {
    let put = fixture.memory.put(key, body, PutMode::Replace, &NO_ATTRIBUTES);
    let _ = put.await.unwrap();
}

#[tokio::test]
async fn a_restore_of_damaged_objects_names_them_and_goes_on_once_they_are_mended() {
    for tar in ["part_002.tar.lz4", "pg_control.tar.lz4", "backup_label.tar.lz4"] {
        let fixture = Fixture::new().await;
        fixture.push().await.unwrap();
        let tars = fixture.keys().await.iter().filter(|key| key.contains("/part_")).count() as u64;
        let key = layout::tar_partition(NAME, tar);
        let whole = fixture.bytes(&key).await;
        let mut flipped = whole.to_vec();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        for damaged in [whole.slice(..whole.len() - 5), flipped.into()] {
            replace(&fixture, &key, damaged).await;
            let before = fixture.store.calls(Operation::Get);
            let error = fixture.fetch(NAME).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{tar}");
            assert!(error.message().contains(tar), "{error}");
            assert!(Face::Program.speak(error.hint().unwrap()).contains("--resume"), "{error:?}");
            let gets = fixture.store.calls(Operation::Get) - before;
            assert_eq!(gets, 3 + 2 + tars + 1, "each tar once, the damaged one twice");
            let restored = fixture.dir.path().join("restored");
            assert!(!restored.join("global/pg_control").exists());
            assert!(files(&restored).len() > 10, "{tar}: the others are restored");

            replace(&fixture, &key, whole.clone()).await;
            let before = fixture.store.calls(Operation::Get);
            let fetched = fixture.resume().await.unwrap();
            let of_parts = u64::from(tar.starts_with("part_"));
            assert_eq!(fixture.store.calls(Operation::Get) - before, 3 + 2 + of_parts);
            fixture.is_the_same(&fetched);
            for directory in ["restored", "restored_space"] {
                fs::remove_dir_all(fixture.dir.path().join(directory)).unwrap();
            }
        }

        fixture.memory.delete(&key).await.unwrap();
        let error = fixture.fetch(NAME).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{tar} is missing");
        assert!(error.message().contains(tar), "{error}");
        assert!(fixture.nothing_restored(), "it is known before anything is written");
    }
}

#[tokio::test]
async fn everything_that_is_damaged_is_in_one_report() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let damaged = ["part_002.tar.lz4", "part_004.tar.lz4", "backup_label.tar.lz4"];
    for tar in damaged {
        replace(&fixture, &layout::tar_partition(NAME, tar), "?".into()).await;
    }
    let error = fixture.fetch(NAME).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(NAME) && error.message().contains(" 3 "), "{error}");
    let lines: Vec<&str> = error.detail().unwrap().lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for tar in damaged {
        assert!(lines.iter().any(|line| line.contains(tar)), "{tar}: {lines:?}");
    }
}

/// Whichever object it meets, of those that have a checksum.
#[tokio::test]
async fn a_bit_that_flips_on_the_way_does_no_harm() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    // Sentinel, list of files and manifest come before.
    for get in 4..=8 {
        let number = fixture.store.calls(Operation::Get) + get;
        let _ = fixture.store.clone().with(Operation::Get, When::Call(number), Fault::FlipBits);
        let fetched = fixture.fetch(NAME).await.unwrap();
        fixture.is_the_same(&fetched);
        for directory in ["restored", "restored_space"] {
            fs::remove_dir_all(fixture.dir.path().join(directory)).unwrap();
        }
    }
}

#[tokio::test]
async fn what_lies_in_cold_storage_is_named_before_anything_is_written() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let cold = [
        layout::sentinel(NAME),
        layout::files_metadata(NAME),
        layout::tar_partition(NAME, "part_003.tar.lz4"),
        layout::tar_partition(NAME, "part_005.tar.lz4"),
    ];
    cold.iter().for_each(|key| fixture.memory.set_storage_class(key, "GLACIER"));
    let error = fixture.fetch(NAME).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    for key in &cold {
        assert!(error.detail().unwrap().contains(key.as_str()), "{error:?}");
    }
    assert!(fixture.nothing_restored());
    cold.iter().for_each(|key| fixture.memory.set_storage_class(key, "STANDARD"));
    fixture.comes_back().await;
}

#[tokio::test]
async fn a_cancelled_restore_leaves_nothing() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let _ = fixture.store.clone().with(Operation::Get, When::From(5), Fault::Hang);
    let cancel = async {
        while fixture.store.calls(Operation::Get) < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        fixture.cancel.cancel();
    };
    let (result, ()) = tokio::join!(fixture.fetch(NAME), cancel);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(fixture.nothing_restored());
}

/// Fails the call of this number, counted from now, and all after it.
async fn interrupted_at(fixture: &Fixture, get: u64) {
    let number = fixture.store.calls(Operation::Get) + get;
    let refuse = Fault::Refuse(ErrorKind::Unavailable);
    let _ = fixture.store.clone().with(Operation::Get, When::From(number), refuse);
    let error = fixture.fetch(NAME).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    fixture.store.heal();
}

#[tokio::test]
async fn an_interrupted_restore_goes_on_with_what_is_missing() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let restored = fixture.dir.path().join("restored");
    let tars = fixture.keys().await.iter().filter(|key| key.contains("/part_")).count() as u64;
    assert!(tars > 6, "{tars} tars");
    // Sentinel, list of files, manifest, label, control file; then the tars.
    interrupted_at(&fixture, 6 + tars - 3).await;
    assert!(!restored.join("global/pg_control").exists());

    // Without being told to, nothing goes on, and with other places neither.
    let error = fixture.fetch(NAME).await.unwrap_err();
    assert!(Face::Program.speak(error.hint().unwrap()).contains("--resume"), "{error:?}");
    let error = fixture.fetch_into(NAME, "elsewhere", true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(restored.join("wal_e.unfinished_restore").exists());

    let before = fixture.store.calls(Operation::Get);
    let fetched = fixture.resume().await.unwrap();
    // Those that were under way when the store failed may have been done or not.
    let gets = fixture.store.calls(Operation::Get) - before;
    assert!((5 + 2..5 + tars - 3).contains(&gets), "{gets} of {tars}");
    fixture.is_the_same(&fetched);
    assert!(fixture.resume().await.unwrap_err().message().contains("not empty"));
}

#[tokio::test]
async fn what_was_damaged_between_two_runs_is_fetched_again() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let restored = fixture.dir.path().join("restored");
    let tars = fixture.keys().await.iter().filter(|key| key.contains("/part_")).count() as u64;
    interrupted_at(&fixture, 5 + tars).await;
    let mut some: Vec<PathBuf> = files(&restored)
        .into_keys()
        .filter(|path| path.starts_with("base/5/"))
        .map(|path| restored.join(path))
        .collect();
    assert!(some.len() > 3);
    let spoilt = some.split_off(some.len() - 3);
    fs::remove_file(&spoilt[0]).unwrap();
    fs::write(&spoilt[1], "short").unwrap();
    fs::remove_file(&spoilt[2]).unwrap();
    symlink("/etc/passwd", &spoilt[2]).unwrap();
    fs::write(restored.join("stray"), "x").unwrap();
    let fetched = fixture.resume().await.unwrap();
    fixture.is_the_same(&fetched);
}

#[tokio::test]
async fn what_is_on_disk_may_be_in_cold_storage_by_now() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let tars = fixture.keys().await.iter().filter(|key| key.contains("/part_")).count() as u64;
    interrupted_at(&fixture, 5 + tars).await;
    fixture.memory.set_storage_class(&layout::tar_partition(NAME, "part_001.tar.lz4"), "GLACIER");
    let fetched = fixture.resume().await.unwrap();
    fixture.is_the_same(&fetched);
}

#[tokio::test]
async fn a_note_that_was_left_behind_is_cleared_away() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let tars = fixture.keys().await.iter().filter(|key| key.contains("/part_")).count() as u64;
    interrupted_at(&fixture, 5 + tars).await;
    let note = fixture.dir.path().join("restored/wal_e.unfinished_restore");
    let text = fs::read(&note).unwrap();
    fixture.resume().await.unwrap();
    assert!(!note.exists());
    fs::write(&note, text).unwrap();
    let before = fixture.store.calls(Operation::Get);
    fixture.resume().await.unwrap();
    assert_eq!(fixture.store.calls(Operation::Get) - before, 3, "only what tells the backup");
    assert!(!note.exists());
}

#[tokio::test]
async fn damage_does_not_undo_what_an_earlier_run_restored() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let tars = fixture.keys().await.iter().filter(|key| key.contains("/part_")).count() as u64;
    interrupted_at(&fixture, 5 + tars).await;
    let key = layout::tar_partition(NAME, "backup_label.tar.lz4");
    let sound = fixture.bytes(&key).await;
    for object in ["?".into(), sound] {
        assert!(files(&fixture.dir.path().join("restored")).len() > 10);
        let put = fixture.memory.put(&key, object, PutMode::Replace, &NO_ATTRIBUTES);
        let _ = put.await.unwrap();
        match fixture.resume().await {
            Ok(fetched) => fixture.is_the_same(&fetched),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt),
        }
    }
    assert!(fixture.dir.path().join("restored/global/pg_control").exists());
}

#[tokio::test]
async fn files_of_tars_without_checksums_are_compared_with_the_manifest() {
    for tar in ["part_002.tar", "pg_control.tar", "backup_label.tar"] {
        let mut fixture = Fixture::new().await;
        fixture.compression = Compression::new(Encoding::None, None).unwrap();
        fixture.push().await.unwrap();
        let key = layout::tar_partition(NAME, tar);
        let mut content = fixture.bytes(&key).await.to_vec();
        let (place, name) = {
            let mut archive = tar::Archive::new(&content[..]);
            let mut members = archive.entries().unwrap().map(Result::unwrap);
            let member = members.find(|member| member.size() > 2).unwrap();
            (member.raw_file_position(), member.path().unwrap().display().to_string())
        };
        content[usize::try_from(place).unwrap() + 1] ^= 4;
        let put = fixture.memory.put(&key, content.into(), PutMode::Replace, &NO_ATTRIBUTES);
        let _ = put.await.unwrap();
        let error = fixture.fetch(NAME).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{tar}");
        for word in [tar, &name, "CRC-32C"] {
            assert!(error.message().contains(word), "{word}: {error}");
        }
        let restored = fixture.dir.path().join("restored");
        assert!(!restored.join("global/pg_control").exists());
        assert!(!restored.join(name.trim_start_matches('/')).exists());
    }
}
