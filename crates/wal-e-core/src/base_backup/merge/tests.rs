use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::base_backup::member::member_name;
use crate::base_backup::tar_stream::StoredFile;
use crate::codec::Encoding;
use crate::config::Encryption;
use crate::encryption::{Key, Keyring};
use crate::increment::Head;
use crate::notice::{self, NoticeQueue};
use crate::postgres::wal_sample::CLUSTER;
use crate::postgres::{BLOCK_SIZE, BackupManifest, Lsn, ManifestFile, TimelineId, control_file};
use crate::restore::{ArchiveMode, FetchRequest, TablespacePlaces, fetch};
use crate::sentinel::{FileMetadata, format_time, to_json};
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, ListRequest, PutMode, list_all};
use crate::wal::UnusablePlace;

type Files = BTreeMap<String, Vec<u8>>;

const LABEL: &[u8] = b"START WAL LOCATION: 0/2000028\n";

/// What a backup has of a file.
#[derive(Clone)]
enum Stored {
    Whole(Vec<u8>),
    Pages(Head, Vec<u8>),
}

/// A cluster that changes, a chain of backups of it, and a place to restore to.
struct Fixture {
    dir: tempfile::TempDir,
    memory: MemoryStore,
    store: FaultyStore<MemoryStore>,
    random: fastrand::Rng,
    compression: Compression,
    cluster: Files,
    /// Names of the backups so far.
    chain: Vec<String>,
    /// The cluster when the last one was taken.
    backed_up: Files,
    cancel: CancellationToken,
}

impl Fixture {
    fn new(seed: u64) -> Self {
        let memory = MemoryStore::with_page_size(4);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut cluster = Files::new();
        cluster.insert("PG_VERSION".to_owned(), b"15\n".to_vec());
        for number in 0..8 {
            let content = pages(&mut random, 12);
            cluster.insert(format!("base/5/{}", 16_400 + number), content);
        }
        let encoding = Encoding::WRITABLE[random.usize(..Encoding::WRITABLE.len())];
        Fixture {
            dir: tempfile::tempdir().unwrap(),
            store: FaultyStore::new(memory.clone()),
            memory,
            random,
            compression: Compression::new(encoding, None).unwrap(),
            cluster,
            chain: Vec::new(),
            backed_up: Files::new(),
            cancel: CancellationToken::new(),
        }
    }

    /// A full backup and so many deltas.
    async fn of_chain(seed: u64, deltas: usize) -> Self {
        let mut fixture = Fixture::new(seed);
        let claimant = Claimant::on_this_host(CLUSTER, "/data");
        owner::claim(&fixture.memory, &claimant, &notice::channel().0).await.unwrap();
        for _ in 0..=deltas {
            fixture.back_up().await;
            fixture.change();
        }
        fixture
    }

    fn change(&mut self) {
        let names: Vec<String> =
            self.cluster.keys().filter(|name| name.starts_with("base")).cloned().collect();
        for name in names {
            let random = &mut self.random;
            let file = self.cluster.get_mut(&name).unwrap();
            match random.u8(..12) {
                0 => drop(self.cluster.remove(&name)),
                1 => file.truncate(BLOCK_SIZE * random.usize(..=file.len() / BLOCK_SIZE)),
                2 => file.extend(pages(random, 5)),
                // Extended, and not written yet.
                3 => file.resize(file.len() + BLOCK_SIZE * random.usize(..4), 0),
                4..9 => {
                    for page in file.as_chunks_mut::<BLOCK_SIZE>().0 {
                        if random.u8(..4) == 0 {
                            page.fill(random.u8(..));
                        }
                    }
                }
                _ => {}
            }
        }
        let new = format!("base/5/{}", 17_000 + self.random.u32(..1000));
        let content = pages(&mut self.random, 6);
        self.cluster.insert(new, content);
    }

    /// What a backup has of a file that the one before has, too.
    fn stored(&mut self, name: &str) -> Stored {
        let now = &self.cluster[name];
        let Some(before) = self.backed_up.get(name) else { return Stored::Whole(now.clone()) };
        if now.is_empty() || !name.starts_with("base") || self.random.u8(..8) == 0 {
            return Stored::Whole(now.clone());
        }
        let page = |file: &[u8], number: usize| {
            file.get(number * BLOCK_SIZE..(number + 1) * BLOCK_SIZE).map(<[u8]>::to_vec)
        };
        let zeros = Some(vec![0; BLOCK_SIZE]);
        let mut numbers = Vec::new();
        let mut content = Vec::new();
        for number in 0..now.len() / BLOCK_SIZE {
            let (old, new) = (page(before, number), page(now, number));
            let is_new = old.is_none() && (new != zeros || self.random.bool());
            if is_new || old.is_some() && old != new || self.random.u8(..20) == 0 {
                numbers.push(u32::try_from(number).unwrap());
                content.extend(new.unwrap());
            }
        }
        Stored::Pages(Head { file_bytes: now.len() as u64, numbers }, content)
    }

    fn lsn(number: usize) -> Lsn {
        Lsn((number as u64 + 1) << 25 | 0x28)
    }

    /// Backs the cluster up, on top of the last backup.
    async fn back_up(&mut self) {
        let number = self.chain.len();
        let full = format!("base_0000000100000000000000{:02X}", 2 * (number + 1));
        let name = match self.chain.last() {
            None => full,
            Some(parent) => layout::delta_name(&full, parent),
        };
        let mut draft = self.draft(&name);
        draft.say_begun().await.unwrap();
        let paths: Vec<String> = self.cluster.keys().cloned().collect();
        let mut tars = vec![Vec::new(); 3];
        let store = draft.tar_store();
        for path in paths {
            let stored = self.stored(&path);
            tars[self.random.usize(..3)].push((path, stored));
        }
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000 + number as i64).unwrap();
        for (index, files) in tars.into_iter().enumerate() {
            let file_name =
                layout::partition_file_name(index as u32 + 1, self.compression.encoding());
            let push = store.push(file_name, 0, self.cancel.clone(), move |tar| {
                if index == 0 {
                    for path in ["", "base", "base/5", "global", "pg_wal", "pg_notify"] {
                        tar.directory(&entry(path))?;
                    }
                }
                let mut list = Vec::new();
                for (path, stored) in files {
                    let (head, content) = match stored {
                        Stored::Whole(content) => (None, content),
                        Stored::Pages(head, content) => (Some(head), content),
                    };
                    let bytes = match &head {
                        None => content.clone(),
                        Some(head) => [head.to_bytes(), content.clone()].concat(),
                    };
                    let name = member_name(&path);
                    tar.content(&name, 0o600, now.unix_timestamp(), &bytes)?;
                    let size_bytes =
                        head.as_ref().map_or(content.len() as u64, |head| head.file_bytes);
                    let is_incremented = head.is_some();
                    list.push((
                        name,
                        StoredFile {
                            metadata: FileMetadata {
                                is_incremented,
                                mtime: format_time(now),
                                ..FileMetadata::default()
                            },
                            manifest: ManifestFile {
                                path: path.into_bytes(),
                                size_bytes,
                                modified: now,
                                crc32c: (!is_incremented).then(|| crc32c::crc32c(&content)),
                            },
                            member_bytes: bytes.len() as u64,
                        },
                    ));
                }
                Ok(list)
            });
            let tar = push.await.unwrap();
            draft.record(tar);
        }
        let control = control_file::sample(CLUSTER, 1 << 24, Fixture::lsn(number));
        let encoding = self.compression.encoding();
        let small = [
            (layout::pg_control_file_name(encoding), "global/pg_control", "/global/pg_control"),
            (layout::backup_label_file_name(encoding), "backup_label", "backup_label"),
        ];
        for ((file_name, path, name), content) in small.into_iter().zip([control, LABEL.to_vec()]) {
            let push = store.push(file_name, 0, self.cancel.clone(), move |tar| {
                tar.content(name, 0o600, now.unix_timestamp(), &content)?;
                let mtime = format_time(now);
                let metadata = FileMetadata { mtime, ..FileMetadata::default() };
                let manifest = ManifestFile::of_content(path, &content, now);
                let member_bytes = content.len() as u64;
                Ok(vec![(name.to_owned(), StoredFile { metadata, manifest, member_bytes })])
            });
            let tar = push.await.unwrap();
            draft.record(tar);
        }
        let (start_lsn, end_lsn) = (Fixture::lsn(number), Lsn(Fixture::lsn(number).0 + 0x100));
        let parent = self.chain.last().cloned();
        let sentinel = Sentinel {
            delta_from: parent.clone(),
            delta_full_name: parent.as_ref().map(|_| self.chain[0].clone()),
            delta_lsn: parent.as_ref().map(|_| Fixture::lsn(number - 1)),
            delta_count: parent.map(|_| u32::try_from(number).unwrap()),
            lsn: Some(start_lsn),
            finish_lsn: Some(end_lsn),
            pg_version: Some(150_018),
            system_identifier: Some(CLUSTER),
            uncompressed_size: Some(draft.member_bytes),
            start_time: Some(now),
            finish_time: Some(now),
            hostname: Some("db1".to_owned()),
            data_dir: Some("/data".to_owned()),
            is_permanent: true,
            ..draft.sentinel()
        };
        let wal = WalRange { timeline: TimelineId(1), start_lsn, end_lsn };
        let cluster = ClusterFacts { pg_version: 150_018, system_identifier: CLUSTER, wal };
        draft.push_documents(&sentinel, cluster).await.unwrap();
        draft.push_sentinel(&sentinel).await.unwrap();
        self.chain.push(name);
        self.backed_up = self.cluster.clone();
    }

    fn draft(&self, name: &str) -> Draft {
        let begun = Begun {
            hostname: "db1".to_owned(),
            data_directory: "/data".to_owned(),
            started_at: OffsetDateTime::now_utc(),
            ended_at: None,
            process: None,
        };
        let (compression, progress) = (self.compression, Arc::default());
        let cancel = self.cancel.clone();
        Draft::new(self.store(), name.to_owned(), begun, compression, progress, cancel)
    }

    fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.store.clone())
    }

    async fn merge(&self, name: &str) -> Result<String> {
        self.merge_telling(name).await.0
    }

    async fn merge_telling(&self, name: &str) -> (Result<String>, NoticeQueue) {
        let (notices, queue) = notice::channel();
        let request = MergeRequest {
            name: name.to_owned(),
            concurrency: 2,
            compression: self.compression,
            temporary_directory: self.dir.path().to_owned(),
        };
        let cancel = self.cancel.clone();
        let merged = merge(self.store(), request, Arc::default(), notices, cancel).await;
        assert_eq!(self.left_in_temporary_directory(), 0);
        (merged, queue)
    }

    fn left_in_temporary_directory(&self) -> usize {
        let names = fs::read_dir(self.dir.path()).unwrap().map(|it| it.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("wal-e-merge-")).count()
    }

    /// Restores a backup; returns its files, without the manifest, and that.
    async fn restored(&self, name: &str) -> (Files, BackupManifest) {
        let directory = self.dir.path().join(format!("restored_{name}"));
        let request = FetchRequest {
            name: name.to_owned(),
            directory: directory.clone(),
            concurrency: 2,
            tablespaces: TablespacePlaces::default(),
            created: Vec::new(),
            unusable: UnusablePlace::default(),
            wal_directory: None,
            recovery: None,
            archive_mode: ArchiveMode::Preserve,
            ignores_free_space: false,
            resume: false,
        };
        let (notices, _queue) = notice::channel();
        fetch(self.store(), request, Arc::default(), notices, self.cancel.clone()).await.unwrap();
        assert!(directory.join("pg_notify").is_dir());
        let mut files = files(&directory);
        let manifest = BackupManifest::parse(&files.remove("backup_manifest").unwrap()).unwrap();
        (files, manifest)
    }

    async fn keys(&self, prefix: &str) -> Vec<String> {
        let request = ListRequest { prefix: prefix.to_owned(), ..ListRequest::default() };
        let objects = list_all(&self.memory, &request).await.unwrap();
        objects.into_iter().map(|object| object.key.to_string()).collect()
    }

    fn tip(&self) -> &str {
        self.chain.last().unwrap()
    }

    async fn damage(&self, backup: &str, tar: &str) {
        let tar = self.compression.encoding().file_name(tar);
        let key = layout::tar_partition(backup, &tar);
        let bytes = self.memory.get(&key, 0, None).await.unwrap().into_bytes(1 << 30);
        let mut bytes = bytes.await.unwrap().to_vec();
        bytes.truncate(bytes.len() - 20);
        let attributes = Attributes::default();
        let put = self.memory.put(&key, bytes.into(), PutMode::Replace, &attributes);
        let _ = put.await.unwrap();
    }
}

fn entry(path: &str) -> crate::base_backup::walk::Entry {
    crate::base_backup::walk::Entry { path: path.to_owned(), size_bytes: 0, mode: 0o700 }
}

fn pages(random: &mut fastrand::Rng, most: usize) -> Vec<u8> {
    (0..random.usize(1..=most)).flat_map(|_| [random.u8(..); BLOCK_SIZE]).collect()
}

fn files(root: &Path) -> Files {
    let entries = walkdir::WalkDir::new(root).into_iter().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().is_file());
    let path = |place: &Path| place.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    files.map(|entry| (path(entry.path()), fs::read(entry.path()).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merged_backup_is_the_delta_in_another_form() {
    for seed in 0..25 {
        let mut fixture = Fixture::of_chain(seed, 1 + usize::try_from(seed % 5).unwrap()).await;
        if seed % 3 == 0 {
            let keyring = Keyring::new(Some(Key::new([7; 32])), Vec::new(), None);
            let encryption = Encryption { keyring, ..Encryption::default() };
            fixture.memory = fixture.memory.clone().encrypted(encryption);
            fixture.store = FaultyStore::new(fixture.memory.clone());
        }
        let tip = fixture.tip().to_owned();
        let (merged, queue) = fixture.merge_telling("LATEST").await;
        let merged = merged.unwrap();
        assert_eq!(merged, tip.split("_D_").next().unwrap());
        assert!(
            queue.drain().iter().all(|notice| notice.level == notice::Level::Log),
            "seed {seed}"
        );
        let mut expected = fixture.backed_up.clone();
        expected.insert("backup_label".to_owned(), LABEL.to_vec());
        expected.insert(
            "global/pg_control".to_owned(),
            control_file::sample(CLUSTER, 1 << 24, Fixture::lsn(fixture.chain.len() - 1)),
        );
        let (files, manifest) = fixture.restored(&merged).await;
        assert!(files == expected, "seed {seed}");
        let (of_delta, manifest_of_delta) = fixture.restored(&tip).await;
        assert!(of_delta == expected, "seed {seed}");
        assert_eq!(manifest.wal_ranges, manifest_of_delta.wal_ranges);
        assert_eq!(manifest.files.len(), files.len());
        for (path, content) in &files {
            let listed = manifest.file(path).unwrap();
            assert_eq!(listed.crc32c, Some(crc32c::crc32c(content)), "{path}");
            assert_eq!(listed.modified, manifest_of_delta.file(path).unwrap().modified);
        }
        // Without the chain it is as good.
        for backup in &fixture.chain {
            crate::base_backup::delete_objects(&*fixture.store(), backup).await.unwrap();
        }
        let list = crate::catalogue::list(&fixture.memory, &notice::channel().0).await.unwrap();
        assert_eq!(list.len(), 1);
        assert!(!list[0].permanent && list[0].name == merged);
        fs::remove_dir_all(fixture.dir.path().join(format!("restored_{merged}"))).unwrap();
        assert!(fixture.restored(&merged).await.0 == expected, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tars_without_whole_files_get_no_tar_in_the_new_backup() {
    let fixture = Fixture::of_chain(1, 2).await;
    let merged = fixture.merge("LATEST").await.unwrap();
    let (files, _) = fixture.restored(&merged).await;
    let list = fixture.memory.get(&layout::files_metadata(&merged), 0, None).await.unwrap();
    let list: crate::sentinel::FilesMetadata =
        crate::sentinel::parse("x", &list.into_bytes(1 << 30).await.unwrap()).unwrap();
    assert_eq!(list.files.len(), files.len());
    assert!(list.files.values().all(|file| !file.is_incremented && !file.is_skipped));
    let tars = fixture.keys(&layout::tar_partitions(&merged)).await;
    assert_eq!(tars.len(), list.tar_file_sets.len());
    // The first tar of the delta has the directories.
    assert!(list.tar_file_sets.values().filter(|files| files.is_empty()).count() <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_does_not_say_where_each_file_is_gives_all_of_them() {
    let fixture = Fixture::of_chain(13, 2).await;
    for backup in &fixture.chain[..2] {
        let key = layout::files_metadata(backup);
        let list = fixture.memory.get(&key, 0, None).await.unwrap();
        let mut list: crate::sentinel::FilesMetadata =
            crate::sentinel::parse("x", &list.into_bytes(1 << 30).await.unwrap()).unwrap();
        list.tar_file_sets.values_mut().for_each(|names| drop(names.pop()));
        let (json, attributes) = (to_json(&list), Attributes::default());
        let put = fixture.memory.put(&key, json.into(), PutMode::Replace, &attributes);
        let _ = put.await.unwrap();
    }
    let merged = fixture.merge("LATEST").await.unwrap();
    let (files, _) = fixture.restored(&merged).await;
    assert!(fixture.backed_up.iter().all(|(path, content)| files.get(path) == Some(content)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_delta_of_wal_e_is_not_merged() {
    let fixture = Fixture::of_chain(2, 1).await;
    let error = fixture.merge(&fixture.chain[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("is a full one"), "{error}");
    let error = fixture.merge("base_000000010000000000000099").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let manifest = layout::backup_manifest(fixture.tip(), fixture.compression.encoding());
    fixture.memory.delete(&manifest).await.unwrap();
    let error = fixture.merge("LATEST").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("no backup manifest that can be read"), "{error}");
    assert!(
        fixture.keys("").await.iter().all(|key| !key.contains("base_000000010000000000000004/"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_to_a_prefix_that_is_not_known_to_be_the_clusters() {
    let fixture = Fixture::of_chain(12, 1).await;
    fixture.memory.delete(&layout::owner()).await.unwrap();
    let before = fixture.keys("").await;
    let error = fixture.merge("LATEST").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("owner.json") && error.hint().is_some(), "{error}");
    let other = Claimant::on_this_host(crate::postgres::SystemIdentifier(7), "/other");
    let elsewhere = MemoryStore::with_page_size(4);
    owner::claim(&elsewhere, &other, &notice::channel().0).await.unwrap();
    let (key, attributes) = (layout::owner(), Attributes::default());
    let json = elsewhere.get(&key, 0, None).await.unwrap().into_bytes(1 << 20).await.unwrap();
    let put = fixture.memory.put(&key, json, PutMode::CreateOnly, &attributes);
    let _ = put.await.unwrap();
    let error = fixture.merge("LATEST").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.hint().unwrap().contains("two clusters"), "{error}");
    fixture.memory.delete(&layout::owner()).await.unwrap();
    assert_eq!(fixture.keys("").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_left_alone() {
    let fixture = Fixture::of_chain(3, 1).await;
    let merged = fixture.merge("LATEST").await.unwrap();
    let before = fixture.keys("").await;
    let error = fixture.merge(fixture.tip()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("exists already"), "{error}");
    assert_eq!(fixture.keys("").await, before);
    // A backup of this name may be under way elsewhere.
    crate::base_backup::delete_objects(&fixture.memory, &merged).await.unwrap();
    fixture.draft(&merged).say_begun().await.unwrap();
    let error = fixture.merge(fixture.tip()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("may be under way"), "{error}");
    assert!(error.detail().unwrap().contains("\"db1\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_attempt_left_is_removed() {
    let fixture = Fixture::of_chain(4, 1).await;
    let name = layout::full_name(fixture.tip()).to_owned();
    let here = this_process().expect("the system says which process this is");
    let (numbered_by, _) = here.rsplit_once(' ').unwrap();
    // No process has the greatest number.
    for process in [format!("{numbered_by} {}", i32::MAX), here.clone()] {
        let begun = Begun {
            hostname: hostname(),
            data_directory: "/data".to_owned(),
            started_at: OffsetDateTime::now_utc(),
            ended_at: None,
            process: Some(process),
        };
        let left = [
            (layout::begun(&name), to_json(&begun)),
            (layout::tar_partition(&name, "part_077.tar.lz4"), b"half".to_vec()),
        ];
        for (key, content) in left {
            let attributes = Attributes::default();
            let put = fixture.memory.put(&key, content.into(), PutMode::CreateOnly, &attributes);
            let _ = put.await.unwrap();
        }
        assert_eq!(fixture.merge("LATEST").await.unwrap(), name);
        assert!(fixture.keys("").await.iter().all(|key| !key.contains("part_077")));
        crate::base_backup::delete_objects(&fixture.memory, &name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_may_be_making_is_left_alone() {
    let fixture = Fixture::of_chain(4, 1).await;
    let name = layout::full_name(fixture.tip()).to_owned();
    let here = this_process().unwrap();
    let (numbered_by, _) = here.rsplit_once(' ').unwrap();
    // One that runs, one of another container or boot, and what cannot be understood.
    let processes = [format!("{numbered_by} 1"), format!("x{numbered_by} 1"), "7".to_owned()];
    for process in processes {
        let begun = Begun {
            hostname: hostname(),
            data_directory: "/data".to_owned(),
            started_at: OffsetDateTime::now_utc(),
            ended_at: None,
            process: Some(process),
        };
        let (key, attributes) = (layout::begun(&name), Attributes::default());
        let json = to_json(&begun).into();
        let put = fixture.memory.put(&key, json, PutMode::Replace, &attributes);
        let _ = put.await.unwrap();
        let error = fixture.merge("LATEST").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_became_complete_meanwhile_is_no_left_over() {
    let fixture = Fixture::of_chain(4, 1).await;
    let merged = fixture.merge("LATEST").await.unwrap();
    let before = fixture.keys("").await;
    // The process that made it is this one, which has ended for all that its name says.
    let error = name::make_free(&fixture.memory, &merged).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(fixture.keys("").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_verification_found_damaged_is_not_merged() {
    let fixture = Fixture::of_chain(10, 2).await;
    let key = layout::verification(&fixture.chain[1], false);
    let json =
        br#"{"verified_at":"2026-01-01T00:00:00Z","failures":1,"first_failure":"wal: a gap"}"#;
    let attributes = Attributes::default();
    let put = fixture.memory.put(&key, json.to_vec().into(), PutMode::CreateOnly, &attributes);
    let _ = put.await.unwrap();
    let error = fixture.merge("LATEST").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(&fixture.chain[1]), "{error}");
    assert!(error.message().contains("wal: a gap"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_damaged_pages_is_not_forgotten() {
    let fixture = Fixture::of_chain(11, 1).await;
    let key = layout::files_metadata(fixture.tip());
    let list = async |name: &str| {
        let object = fixture.memory.get(&layout::files_metadata(name), 0, None).await.unwrap();
        let json = object.into_bytes(1 << 30).await.unwrap();
        crate::sentinel::parse::<crate::sentinel::FilesMetadata>("x", &json).unwrap()
    };
    let mut changed = list(fixture.tip()).await;
    let damage =
        crate::sentinel::CorruptBlocks { corrupt_blocks_count: 2, some_corrupt_blocks: vec![3, 9] };
    changed.files.get_mut("/PG_VERSION").unwrap().corrupt_blocks = Some(damage.clone());
    let attributes = Attributes::default();
    let put = fixture.memory.put(&key, to_json(&changed).into(), PutMode::Replace, &attributes);
    let _ = put.await.unwrap();
    let merged = list(&fixture.merge("LATEST").await.unwrap()).await;
    assert_eq!(merged.files["/PG_VERSION"].corrupt_blocks, Some(damage));
    let others = merged.files.values().filter(|file| file.corrupt_blocks.is_some());
    assert_eq!(others.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_chain_is_named_and_nothing_becomes_a_backup() {
    for (number, tar) in [(0, "part_001.tar"), (1, "part_002.tar"), (2, "pg_control.tar")] {
        let fixture = Fixture::of_chain(5, 2).await;
        let backup = fixture.chain[number].clone();
        fixture.damage(&backup, tar).await;
        let error = fixture.merge("LATEST").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.message().contains(&backup) && error.message().contains(tar), "{error}");
        let merged = layout::full_name(fixture.tip()).to_owned();
        let list = crate::catalogue::list(&fixture.memory, &notice::channel().0).await.unwrap();
        assert!(list.iter().all(|backup| backup.name != merged));
        // It is known to have been given up.
        let begun = crate::catalogue::read_begun(&fixture.memory, &layout::begun(&merged)).await;
        assert!(begun.unwrap().unwrap().ended_at.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_anywhere_gets_no_backup_and_the_next_attempt_succeeds() {
    let puts = {
        let fixture = Fixture::of_chain(6, 2).await;
        let before = fixture.store.calls(Operation::Put);
        fixture.merge("LATEST").await.unwrap();
        fixture.store.calls(Operation::Put) - before
    };
    for number in 1..=puts {
        let mut fixture = Fixture::of_chain(6, 2).await;
        fixture.store = FaultyStore::new(fixture.memory.clone()).with(
            Operation::Put,
            When::Call(number),
            Fault::Refuse(ErrorKind::Denied),
        );
        let error = fixture.merge("LATEST").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        let merged = layout::full_name(fixture.tip()).to_owned();
        assert!(fixture.memory.head(&layout::sentinel(&merged)).await.unwrap().is_none());
        fixture.merge("LATEST").await.unwrap();
        let (files, _) = fixture.restored(&merged).await;
        assert!(fixture.backed_up.iter().all(|(path, content)| files.get(path) == Some(content)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_deleted_meanwhile_is_not_a_backup_that_is_not_there() {
    let gets = {
        let fixture = Fixture::of_chain(9, 1).await;
        let before = fixture.store.calls(Operation::Get);
        fixture.merge("LATEST").await.unwrap();
        fixture.store.calls(Operation::Get) - before
    };
    let mut fixture = Fixture::of_chain(9, 1).await;
    // The last one that is read is the tar of the label.
    fixture.store = FaultyStore::new(fixture.memory.clone()).with(
        Operation::Get,
        When::Call(gets),
        Fault::Refuse(ErrorKind::NotFound),
    );
    let error = fixture.merge("LATEST").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.message().contains("backup_label.tar"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_merge_leaves_no_backup_and_no_temporary_files() {
    let fixture = Fixture::of_chain(7, 2).await;
    fixture.cancel.cancel();
    let error = fixture.merge("LATEST").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_latest_backup_is_merged() {
    let fixture = Fixture::of_chain(8, 2).await;
    let error = fixture.merge(&fixture.chain[1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("is not the latest one"), "{error}");
    assert!(error.message().contains(fixture.tip()), "{error}");
}

#[test]
fn a_temporary_directory_that_is_not_there_is_named() {
    let missing = PathBuf::from("/nowhere/at/all");
    let error = Spool::new(&missing).unwrap_err();
    assert!(error.message().contains("/nowhere/at/all"), "{error}");
}
