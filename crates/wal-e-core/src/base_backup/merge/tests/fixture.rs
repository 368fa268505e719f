//! A cluster that changes, and a chain of base backups of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::super::*;
use crate::base_backup::member::member_name;
use crate::base_backup::tar_stream::StoredFile;
use crate::codec::Encoding;
use crate::increment::Head;
use crate::layout::ObjectKey;
use crate::notice::{self, NoticeQueue};
use crate::postgres::wal_sample::CLUSTER;
use crate::postgres::{BLOCK_SIZE, BackupManifest, Lsn, ManifestFile, TimelineId, control_file};
use crate::restore::tests::plain_request;
use crate::restore::{FetchRequest, fetch};
use crate::sentinel::{FileMetadata, FilesMetadata, format_time};
use crate::store::faulty::FaultyStore;
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, ListRequest, PutMode, list_all};

pub(super) type Files = BTreeMap<String, Vec<u8>>;

pub(super) const LABEL: &[u8] = b"START WAL LOCATION: 0/2000028\n";

/// What a backup has of a file.
#[derive(Clone)]
enum Stored {
    Whole(Vec<u8>),
    Pages(Head, Vec<u8>),
}

/// A cluster that changes, a chain of backups of it, and a place to restore to.
pub(super) struct Fixture {
    pub(super) dir: tempfile::TempDir,
    pub(super) memory: MemoryStore,
    pub(super) store: FaultyStore<MemoryStore>,
    random: fastrand::Rng,
    pub(super) compression: Compression,
    cluster: Files,
    /// Names of the backups so far.
    pub(super) chain: Vec<String>,
    /// The cluster when the last one was taken.
    pub(super) backed_up: Files,
    pub(super) cancel: CancellationToken,
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
    pub(super) async fn of_chain(seed: u64, deltas: usize) -> Self {
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

    pub(super) fn lsn(number: usize) -> Lsn {
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

    pub(super) fn draft(&self, name: &str) -> Draft {
        let begun = begun("db1", None);
        let (compression, progress) = (self.compression, Arc::default());
        let cancel = self.cancel.clone();
        Draft::new(self.store(), name.to_owned(), begun, compression, progress, cancel)
    }

    pub(super) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.store.clone())
    }

    pub(super) async fn merge(&self, name: &str) -> Result<String> {
        self.merge_telling(name).await.0
    }

    pub(super) async fn merge_telling(&self, name: &str) -> (Result<String>, NoticeQueue) {
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
    pub(super) async fn restored(&self, name: &str) -> (Files, BackupManifest) {
        let directory = self.dir.path().join(format!("restored_{name}"));
        let request = FetchRequest { concurrency: 2, ..plain_request(name, directory.clone()) };
        let (notices, _queue) = notice::channel();
        fetch(self.store(), request, Arc::default(), notices, self.cancel.clone()).await.unwrap();
        assert!(directory.join("pg_notify").is_dir());
        let mut files = files(&directory);
        let manifest = BackupManifest::parse(&files.remove("backup_manifest").unwrap()).unwrap();
        (files, manifest)
    }

    pub(super) async fn keys(&self, prefix: &str) -> Vec<String> {
        let request = ListRequest { prefix: prefix.to_owned(), ..ListRequest::default() };
        let objects = list_all(&self.memory, &request).await.unwrap();
        objects.into_iter().map(|object| object.key.to_string()).collect()
    }

    pub(super) fn tip(&self) -> &str {
        self.chain.last().unwrap()
    }

    pub(super) async fn damage(&self, backup: &str, tar: &str) {
        let tar = self.compression.encoding().file_name(tar);
        let key = layout::tar_partition(backup, &tar);
        let mut bytes = bytes(&self.memory, &key).await;
        bytes.truncate(bytes.len() - 20);
        self.put(&key, bytes).await;
    }

    /// Stores an object, in place of what is there.
    pub(super) async fn put(&self, key: &ObjectKey, content: Vec<u8>) {
        let attributes = Attributes::default();
        let put = self.memory.put(key, content.into(), PutMode::Replace, &attributes);
        let _ = put.await.unwrap();
    }

    /// The list of files of a backup.
    pub(super) async fn list(&self, backup: &str) -> FilesMetadata {
        let json = bytes(&self.memory, &layout::files_metadata(backup)).await;
        crate::sentinel::parse("x", &json).unwrap()
    }
}

pub(super) async fn bytes(store: &MemoryStore, key: &ObjectKey) -> Vec<u8> {
    let object = store.get(key, 0, None).await.unwrap();
    object.into_bytes(1 << 30).await.unwrap().to_vec()
}

pub(super) fn begun(hostname: &str, process: Option<String>) -> Begun {
    Begun {
        hostname: hostname.to_owned(),
        data_directory: "/data".to_owned(),
        started_at: OffsetDateTime::now_utc(),
        ended_at: None,
        process,
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
