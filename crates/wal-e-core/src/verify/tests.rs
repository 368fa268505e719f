use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::time::Duration;

use time::OffsetDateTime;

use super::*;
use crate::base_backup::{BackupPush, BackupStart, BackupStop, Progress, PushOptions, Taker};
use crate::codec::{Compression, Compressor, Decompressor};
use crate::config::Exclusions;
use crate::layout::ObjectKey;
use crate::notice;
use crate::postgres::wal_sample::WalWriter;
use crate::postgres::{Lsn, SegmentSize, TimelineId, WalFileName, control_file};
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, PutMode};
use crate::wal::sample::{self, CLUSTER, SEGMENT_BYTES};

mod cluster_files;
mod foreign;
mod inventory;
mod needed_wal;

pub(super) const NAME: &str = "base_000000010000000000000002";
const SEGMENTS: [&str; 3] =
    ["000000010000000000000002", "000000010000000000000003", "000000010000000000000004"];
pub(super) const LABEL: &str = "START WAL LOCATION: 0/200028 (file 000000010000000000000002)\n\
                     CHECKPOINT LOCATION: 0/200060\nBACKUP METHOD: streamed\n\
                     BACKUP FROM: primary\nSTART TIME: 2026-11-23 13:00:00 UTC\n\
                     LABEL: test\nSTART TIMELINE: 1\n";

/// A store with one backup of a small cluster, and its WAL.
pub(super) struct Fixture {
    _directory: tempfile::TempDir,
    pub(super) memory: MemoryStore,
    store: FaultyStore<MemoryStore>,
    encoding: Encoding,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::encoded(Encoding::Lz4).await
    }

    async fn encoded(encoding: Encoding) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (data, space) = (directory.path().join("data"), directory.path().join("space"));
        for directory in ["base/5", "global", "pg_wal", "pg_tblspc"] {
            fs::create_dir_all(data.join(directory)).unwrap();
        }
        fs::create_dir_all(space.join("PG_15_202209061/5")).unwrap();
        symlink(&space, data.join("pg_tblspc/16384")).unwrap();
        for number in 0..30_u32 {
            let content: Vec<u8> = (0..number * 3000).map(|n| (n / 7 % 251) as u8).collect();
            fs::write(data.join(format!("base/5/{}", 16_400 + number)), &content).unwrap();
            fs::write(space.join(format!("PG_15_202209061/5/{}", 16_500 + number)), content)
                .unwrap();
        }
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        let control = control_file::sample(CLUSTER, SEGMENT_BYTES as u32, Lsn(0x20_0060));
        fs::write(data.join("global/pg_control"), control).unwrap();
        let memory = MemoryStore::with_page_size(3);
        let store = FaultyStore::new(memory.clone());
        let fixture = Fixture { _directory: directory, memory, store, encoding };
        let marks = data.join("pg_wal/archive_status");
        fs::create_dir(&marks).unwrap();
        for (name, content) in WalWriter::of_backup(Lsn(0x20_0028), Lsn(0x40_0100)).segments() {
            fs::write(marks.join(format!("{name}.done")), "").unwrap();
            let key = layout::wal_file(&name.parse().unwrap(), encoding);
            fixture.put(&key, fixture.encode(&content)).await;
        }
        let map = format!("16384 {}\n", space.display());
        fixture.push(data, map).await;
        fixture
    }

    async fn push(&self, data_directory: std::path::PathBuf, tablespace_map: String) {
        let (notices, _queue) = notice::channel();
        let start = BackupStart {
            start_lsn: Lsn(0x20_0028),
            timeline: TimelineId(1),
            segment_size: SegmentSize::new(SEGMENT_BYTES as u64).unwrap(),
            data_directory,
            log_directory: None,
            pg_version: 170_004,
            system_identifier: CLUSTER,
            start_time: OffsetDateTime::now_utc(),
            data_checksums: false,
            logs_hints: false,
            summarizes_wal: false,
            server_started_at: OffsetDateTime::UNIX_EPOCH,
            permanent: false,
            hostname: "db1".to_owned(),
            taker: Taker::Server,
        };
        let options = PushOptions {
            concurrency: 2,
            tar_size_threshold_bytes: 500_000,
            compression: Compression::new(self.encoding, None).unwrap(),
            read_rate_limit: None,
            exclude: Exclusions::default(),
            incremental: None,
        };
        let store: Arc<dyn ObjectStore> = Arc::new(self.memory.clone());
        let progress = Arc::new(Progress::default());
        let cancel = CancellationToken::new();
        let mut push =
            BackupPush::begin(store, start, options, progress, notices, cancel).await.unwrap();
        push.push_files().await.unwrap();
        let backup_label = LABEL.to_owned();
        let stop = BackupStop { stop_lsn: Lsn(0x40_0100), backup_label, tablespace_map };
        assert_eq!(push.finish(stop).await.unwrap(), NAME);
    }

    pub(super) async fn verify(&self) -> Result<Verified> {
        self.verify_until(CancellationToken::new()).await
    }

    async fn verify_until(&self, cancel: CancellationToken) -> Result<Verified> {
        let request = VerifyRequest { name: "LATEST".to_owned(), concurrency: 3 };
        verify(Arc::new(self.store.clone()), request, Arc::default(), cancel).await
    }

    /// The failures: check, and detail, which must name the object.
    async fn failures(&self) -> Vec<(&'static str, String)> {
        let verified = self.verify().await.unwrap();
        let failed = verified.findings.into_iter().filter(|finding| finding.ok == Some(false));
        failed
            .map(|finding| {
                let object = finding.object.unwrap();
                assert!(finding.detail.contains(&object), "{}", finding.detail);
                (finding.check_name, finding.detail)
            })
            .collect()
    }

    /// Asserts that exactly the given checks failed, and one of them for the
    /// object whose URL has this in it.
    pub(super) async fn assert_fails(&self, checks: &[&str], object: &str) {
        let failures = self.failures().await;
        let mut names: Vec<&str> = failures.iter().map(|(check, _)| *check).collect();
        names.dedup();
        assert_eq!(names, checks, "{object}: {failures:#?}");
        let named = failures.iter().any(|(_, detail)| detail.contains(object));
        assert!(named, "{object}: {failures:#?}");
    }

    pub(super) async fn put(&self, key: &ObjectKey, bytes: Vec<u8>) {
        let attributes = Attributes::default();
        let put = self.memory.put(key, bytes.into(), PutMode::Replace, &attributes).await;
        let _ = put.unwrap();
    }

    async fn bytes(&self, key: &ObjectKey) -> Vec<u8> {
        let object = self.memory.get(key, 0, None).await.unwrap();
        object.into_bytes(1 << 30).await.unwrap().to_vec()
    }

    pub(super) fn encode(&self, content: &[u8]) -> Vec<u8> {
        let compression = Compression::new(self.encoding, None).unwrap();
        let mut writer = Compressor::new(Vec::new(), compression).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap()
    }

    /// Changes the stored bytes of an object.
    async fn change(&self, key: &ObjectKey, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes(key).await;
        change(&mut bytes);
        self.put(key, bytes).await;
    }

    /// Changes an object before its compression.
    async fn change_content(&self, key: &ObjectKey, change: impl FnOnce(&mut Vec<u8>)) {
        let stored = self.bytes(key).await;
        let mut content = Vec::new();
        let mut reader = Decompressor::new(&stored[..], self.encoding).unwrap();
        reader.read_to_end(&mut content).unwrap();
        change(&mut content);
        self.put(key, self.encode(&content)).await;
    }

    async fn change_text(&self, key: &ObjectKey, old: &str, new: &str) {
        self.change(key, |bytes| {
            let text = String::from_utf8(std::mem::take(bytes)).unwrap();
            assert!(text.contains(old), "{old}");
            *bytes = text.replace(old, new).into_bytes();
        })
        .await;
    }

    /// Leaves only the WAL.
    pub(super) async fn clear_backups(&self) {
        let request = ListRequest { prefix: layout::base_backups(), ..ListRequest::default() };
        for object in list_all(&self.memory, &request).await.unwrap() {
            self.memory.delete(&object.key).await.unwrap();
        }
    }

    fn tar(&self, name: &str) -> ObjectKey {
        layout::tar_partition(NAME, &self.encoding.file_name(format!("{name}.tar")))
    }

    fn wal(&self, index: usize) -> ObjectKey {
        layout::wal_file(&SEGMENTS[index].parse().unwrap(), self.encoding)
    }
}

#[allow(clippy::ptr_arg)] // One of several ways to damage an object.
fn flip_last(bytes: &mut Vec<u8>) {
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
}

fn cut(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() / 2);
}

#[tokio::test]
async fn a_sound_backup_passes_in_every_encoding() {
    for encoding in [Encoding::Lz4, Encoding::Zstd, Encoding::None] {
        let fixture = Fixture::encoded(encoding).await;
        let verified = fixture.verify().await.unwrap();
        assert_eq!(verified.name, NAME);
        assert_eq!(verified.failures(), 0, "{verified:#?}");
        let passed: Vec<&str> = verified.findings.iter().map(|row| row.check_name).collect();
        assert_eq!(
            passed,
            [
                "sentinel",
                "metadata",
                "files_metadata",
                "manifest",
                "tars",
                "file_list",
                "checksums",
                "pg_control",
                "backup_label",
                "tablespace_map",
                "wal"
            ]
        );
        assert!(verified.findings.iter().all(|row| row.ok == Some(true) && row.object.is_none()));
        let wal = &verified.findings.last().unwrap().detail;
        assert!(wal.starts_with("3 segments"), "{wal}");
    }
}

#[tokio::test]
async fn damaged_tars_are_named() {
    for damage in [flip_last as fn(&mut Vec<u8>), cut] {
        let fixture = Fixture::new().await;
        fixture.change(&fixture.tar("part_002"), damage).await;
        let failures = fixture.failures().await;
        assert_eq!(failures[0].0, "tars");
        assert!(failures[0].1.contains("part_002.tar.lz4"), "{failures:#?}");
        assert!(failures.iter().all(|(check, _)| ["tars", "checksums"].contains(check)));
    }
    let fixture = Fixture::new().await;
    fixture.memory.delete(&fixture.tar("part_002")).await.unwrap();
    fixture.assert_fails(&["tars", "checksums"], "part_002.tar.lz4").await;
}

#[tokio::test]
async fn sentinel_and_metadata_must_agree() {
    let fixture = Fixture::new().await;
    let stop = format!("{}", 0x40_0100);
    fixture.change_text(&layout::metadata(NAME), &stop, "4194561").await;
    fixture.assert_fails(&["metadata"], "metadata.json").await;
    fixture.change(&layout::metadata(NAME), cut).await;
    fixture.assert_fails(&["metadata"], "metadata.json").await;

    let fixture = Fixture::new().await;
    let other = format!("{}", CLUSTER.0 + 1);
    fixture.change_text(&layout::sentinel(NAME), &CLUSTER.0.to_string(), &other).await;
    let checks = ["metadata", "manifest", "pg_control", "wal"];
    fixture.assert_fails(&checks, "000000010000000000000003").await;

    let fixture = Fixture::new().await;
    fixture.change(&layout::sentinel(NAME), cut).await;
    let failures = fixture.failures().await;
    assert_eq!(failures[0].0, "sentinel");
    let tars = fixture.verify().await.unwrap().findings;
    assert!(tars.iter().any(|row| row.check_name == "tars" && row.ok == Some(true)), "{tars:#?}");
}

#[tokio::test]
async fn a_delta_is_verified_with_what_it_builds_on() {
    let fixture = Fixture::new().await;
    let parent = "base_000000010000000000000001";
    let delta_of = |parent: &str| format!("{{\"DeltaFrom\":\"{parent}\",\"LSN\"");
    fixture.change_text(&layout::sentinel(NAME), "{\"LSN\"", &delta_of(parent)).await;
    let failures = fixture.failures().await;
    assert!(failures.iter().any(|(check, _)| *check == "sentinel"), "{failures:#?}");
    assert!(failures.iter().all(|(_, detail)| detail.contains(parent)), "{failures:#?}");

    fixture.change_text(&layout::sentinel(NAME), parent, NAME).await;
    fixture.assert_fails(&["delta"], NAME).await;
}

#[tokio::test]
async fn a_store_that_fails_is_an_error_and_no_finding() {
    for (operation, call) in [(Operation::Get, 3), (Operation::Get, 7), (Operation::List, 2)] {
        let fixture = Fixture::new().await;
        let fault = Fault::Refuse(ErrorKind::Unavailable);
        let _ = fixture.store.clone().with(operation, When::From(call), fault);
        let error = fixture.verify().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{operation:?} {call}");
    }
    let fixture = Fixture::new().await;
    let request = VerifyRequest { name: "base_x".to_owned(), concurrency: 1 };
    let store = Arc::new(fixture.store.clone());
    let error = verify(store, request, Arc::default(), CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_verification_can_be_cancelled() {
    let fixture = Fixture::new().await;
    let _ = fixture.store.clone().with(Operation::Get, When::From(6), Fault::Hang);
    let cancel = CancellationToken::new();
    let cancelling = async {
        while fixture.store.calls(Operation::Get) < 6 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(fixture.verify_until(cancel.clone()), cancelling);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
}
