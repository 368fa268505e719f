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
use crate::config::Exclusions;
use crate::error::{ErrorKind, Result};
use crate::layout;
use crate::notice::{self, Notices};
use crate::postgres::wal_sample::{CLUSTER, SEGMENT_SIZE, WalWriter};
use crate::postgres::{BackupManifest, Lsn, TimelineId, WalFileName, control_file};
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, ListRequest, ObjectStore, PutMode, list_all};
use crate::wal::UnusablePlace;

mod damage;
mod foreign;
mod refused;
mod resume;
mod taking;

const NO_ATTRIBUTES: Attributes = Attributes { content_xxh128: None, upload_id: None };
const LABEL: &str = "START WAL LOCATION: 0/200028 (file 000000010000000000000002)\n\
                     CHECKPOINT LOCATION: 0/200060\nBACKUP METHOD: streamed\n\
                     BACKUP FROM: primary\n";
const NAME: &str = "base_000000010000000000000002";

/// Fetches `name` into `directory`, one tar at a time, and sets nothing up.
pub(crate) fn plain_request(name: &str, directory: PathBuf) -> FetchRequest {
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

/// A directory tree in the shape of a cluster, and a store that already has the
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
            logs_hints: false,
            summarizes_wal: false,
            server_started_at: OffsetDateTime::UNIX_EPOCH,
            permanent: true,
            hostname: "db1".to_owned(),
            taker: Taker::Server,
        };
        let options = PushOptions {
            concurrency: 3,
            tar_size_threshold_bytes: 500_000,
            compression: self.compression,
            read_rate_limit: None,
            exclude: Exclusions::default(),
            incremental: None,
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
        expected.remove("wal_e.taken_backups");
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
        assert_eq!(listed.crc32c, Some(crc32c::crc32c(content)), "{path}");
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
