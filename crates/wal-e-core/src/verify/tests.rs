use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::time::Duration;

use time::OffsetDateTime;

use super::*;
use crate::base_backup::{BackupPush, BackupStart, BackupStop, Progress, PushOptions, Taker};
use crate::codec::{Compression, Compressor, Decompressor};
use crate::config::Exclusions;
use crate::notice;
use crate::postgres::wal_sample::WalWriter;
use crate::postgres::{Lsn, SegmentSize, TimelineId, WalFileName, control_file};
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, PutMode};
use crate::wal::sample::{self, CLUSTER, SEGMENT_BYTES};

mod foreign;

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
            permanent: false,
            hostname: "db1".to_owned(),
            taker: Taker::Server,
        };
        let options = PushOptions {
            concurrency: 2,
            tar_size_threshold_bytes: 500_000,
            compression: Compression::new(self.encoding, None).unwrap(),
            read_rate_limit_bytes_per_second: None,
            exclude: Exclusions::default(),
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

/// As a restore does.
#[tokio::test]
async fn what_is_not_of_the_backup_is_left_out_and_noted() {
    let fixture = Fixture::new().await;
    let stray = ["README", "part_003.tar.gpg", "part_099.tar.lz4", "pg_control.tar.zst"];
    for name in stray {
        fixture.put(&layout::tar_partition(NAME, name), b"?".to_vec()).await;
    }
    assert!(fixture.failures().await.is_empty());
    let findings = fixture.verify().await.unwrap().findings;
    let noted = findings.iter().find(|row| row.ok.is_none()).unwrap();
    assert!(noted.detail.contains("4 objects") && noted.detail.contains("README"), "{noted:?}");
}

/// Where the list does not say which tar has which file, all are read.
#[tokio::test]
async fn an_extra_tar_is_told_and_so_are_files_that_are_there_twice() {
    let fixture = Fixture::new().await;
    let bytes = fixture.bytes(&fixture.tar("part_001")).await;
    fixture.put(&fixture.tar("part_099"), bytes).await;
    fixture.change_text(&layout::files_metadata(NAME), "\"/base/5/16410\",", "").await;
    fixture.assert_fails(&["file_list"], "part_099.tar.lz4").await;
    let failures = fixture.failures().await;
    assert!(failures.iter().any(|(_, detail)| detail.contains("twice")), "{failures:#?}");
    for name in ["README", "part_003.tar.gpg"] {
        fixture.put(&layout::tar_partition(NAME, name), b"?".to_vec()).await;
        let failures = fixture.failures().await;
        assert!(failures.iter().any(|(check, detail)| *check == "tars" && detail.contains(name)));
    }
}

#[tokio::test]
async fn a_changed_byte_of_an_uncompressed_tar_is_found_by_the_manifest() {
    let fixture = Fixture::encoded(Encoding::None).await;
    let tar = fixture.tar("part_002");
    // Far from the headers: within the content of the last file.
    fixture
        .change(&tar, |bytes| {
            let position = bytes.len() - 20_000;
            bytes[position] ^= 1;
        })
        .await;
    fixture.assert_fails(&["checksums"], "part_002.tar").await;
}

#[tokio::test]
async fn lists_that_disagree_with_the_tars_are_told() {
    let fixture = Fixture::new().await;
    let key = layout::files_metadata(NAME);
    let whole = fixture.bytes(&key).await;
    // Out of the set of its tar alone.
    fixture.change_text(&key, "\"/base/5/16410\",", "").await;
    fixture.assert_fails(&["file_list"], "base/5/16410").await;
    fixture.put(&key, whole).await;
    fixture.change_text(&key, "/base/5/16410", "/base/5/99999").await;
    fixture.assert_fails(&["file_list"], "base/5/99999").await;
    fixture.change(&key, cut).await;
    fixture.assert_fails(&["files_metadata"], "files_metadata.json").await;
    fixture.memory.delete(&key).await.unwrap();
    fixture.assert_fails(&["files_metadata"], "files_metadata.json").await;
}

#[tokio::test]
async fn the_manifest_counts_only_when_it_is_sound() {
    let fixture = Fixture::new().await;
    let key = layout::backup_manifest(NAME);
    fixture.change_text(&key, "base/5/16410", "base/5/99999").await;
    fixture.assert_fails(&["manifest"], "backup_manifest").await;
    fixture.memory.delete(&key).await.unwrap();
    let verified = fixture.verify().await.unwrap();
    assert_eq!(verified.failures(), 0);
    let unknown: Vec<&str> = verified
        .findings
        .iter()
        .filter(|finding| finding.ok.is_none())
        .map(|finding| finding.check_name)
        .collect();
    assert_eq!(unknown, ["manifest", "checksums"]);
}

#[tokio::test]
async fn the_files_that_a_server_reads_first_are_looked_into() {
    let fixture = Fixture::new().await;
    let tar = fixture.tar("pg_control");
    fixture.change_content(&tar, |content| content[512 + 100] ^= 1).await;
    fixture.assert_fails(&["checksums", "pg_control"], "pg_control.tar.lz4").await;
    fixture.memory.delete(&tar).await.unwrap();
    fixture.assert_fails(&["tars", "checksums", "pg_control"], "pg_control.tar.lz4").await;

    // One of the same cluster at another time is as sound, and has the same CRC.
    for checkpoint in [Lsn(0x10_0060), Lsn(0x50_0060)] {
        let fixture = Fixture::new().await;
        let other = control_file::sample(CLUSTER, SEGMENT_BYTES as u32, checkpoint);
        let tar = fixture.tar("pg_control");
        fixture
            .change_content(&tar, |content| {
                content[512..512 + other.len()].copy_from_slice(&other);
            })
            .await;
        fixture.assert_fails(&["pg_control"], "pg_control.tar.lz4").await;
    }

    for (old, new) in [
        ("0/200028", "0/200029"),
        ("file 000000010000000000000002", "file 000000010000000000000003"),
        ("TIMELINE: 1", "TIMELINE: 2"),
        ("START WAL", "WHERE WAL"),
        ("LOCATION: 0/200060", "LOCATION: 0/200020"),
    ] {
        let fixture = Fixture::new().await;
        let tar = fixture.tar("backup_label");
        fixture
            .change_content(&tar, |content| {
                let position = content.windows(old.len()).position(|part| part == old.as_bytes());
                let position = position.unwrap();
                content[position..position + new.len()].copy_from_slice(new.as_bytes());
            })
            .await;
        fixture.assert_fails(&["checksums", "backup_label"], "backup_label.tar.lz4").await;
    }

    let fixture = Fixture::new().await;
    fixture
        .change_text(&layout::sentinel(NAME), "\"16384\":{\"loc\":\"", "\"16384\":{\"loc\":\"/x")
        .await;
    fixture.assert_fails(&["tablespace_map"], "backup_label.tar.lz4").await;
    fixture.change_text(&layout::sentinel(NAME), "\"16384\":{", "\"16385\":{").await;
    fixture.assert_fails(&["tablespace_map"], "16384").await;

    // One that was made after the server wrote the map.
    let fixture = Fixture::new().await;
    let later = "\"16385\":{\"loc\":\"/later\",\"link\":\"pg_tblspc/16385\"},\"16384\":{";
    fixture.change_text(&layout::sentinel(NAME), "\"16384\":{", later).await;
    let verified = fixture.verify().await.unwrap();
    assert_eq!(verified.failures(), 0, "{verified:#?}");
    assert!(verified.findings.iter().any(|row| row.detail.contains("tablespace 16385")));
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
async fn every_segment_from_start_to_stop_is_read() {
    for index in 0..SEGMENTS.len() {
        let fixture = Fixture::new().await;
        fixture.change(&fixture.wal(index), flip_last).await;
        fixture.assert_fails(&["wal"], SEGMENTS[index]).await;
        let name: WalFileName = SEGMENTS[(index + 1) % SEGMENTS.len()].parse().unwrap();
        let other = fixture.encode(&sample::segment(&name, 9));
        fixture.put(&fixture.wal(index), other).await;
        fixture.assert_fails(&["wal"], SEGMENTS[index]).await;
        fixture.memory.delete(&fixture.wal(index)).await.unwrap();
        fixture.assert_fails(&["wal"], SEGMENTS[index]).await;
    }
    let fixture = Fixture::new().await;
    let stop = format!("\"FinishLSN\":{}", 0x40_0100);
    fixture.change_text(&layout::sentinel(NAME), &stop, "\"FinishLSN\":9223372036854775807").await;
    let failures = fixture.failures().await;
    assert!(failures.iter().any(|(check, _)| *check == "wal"), "{failures:#?}");
}

#[tokio::test]
async fn wal_of_another_history_is_told_by_its_records() {
    let (start, stop) = (Lsn(0x20_0028), Lsn(0x40_0100));
    // One without the backup's checkpoint, one without its end, one that goes on elsewhere.
    let mut without_checkpoint = WalWriter::new(1, 2);
    without_checkpoint.noise(32);
    without_checkpoint.noise(88 + 2);
    without_checkpoint.switch();
    without_checkpoint.switch();
    without_checkpoint.noise(152);
    without_checkpoint.backup_end(start);
    without_checkpoint.switch();
    let mut without_end = WalWriter::new(1, 2);
    without_end.noise(32);
    without_end.checkpoint(start);
    without_end.switch();
    without_end.switch();
    without_end.noise(152);
    without_end.noise(16);
    assert!(without_end.position() >= stop);
    without_end.switch();
    let mut elsewhere = WalWriter::new(1, 3);
    elsewhere.noise(1_500_000);
    let elsewhere = elsewhere.segments().split_off(1);
    for (segments, told) in [
        (without_checkpoint.segments(), "no checkpoint"),
        (without_end.segments(), "no record of this backup's end"),
        (elsewhere, "breaks off"),
    ] {
        let fixture = Fixture::new().await;
        for (name, content) in segments {
            let key = layout::wal_file(&name.parse().unwrap(), fixture.encoding);
            fixture.put(&key, fixture.encode(&content)).await;
        }
        let failures = fixture.failures().await;
        assert!(failures.iter().all(|(check, _)| *check == "wal"), "{failures:#?}");
        assert!(failures[0].1.contains(told), "{told}: {failures:#?}");
    }
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
