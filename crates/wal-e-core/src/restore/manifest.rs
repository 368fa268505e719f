//! The backup manifest of a stored backup: what restored files must be, and its
//! way into the restored cluster.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use time::OffsetDateTime;

use super::destination::remove_file;
use crate::archived::{ArchivedObject, damaged};
use crate::codec::StoredEncoding;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::notice::Notices;
use crate::postgres::data_directory::{BACKUP_MANIFEST, TABLESPACE_MAP};
use crate::postgres::{BackupManifest, ManifestFile};
use crate::store::{ListRequest, ObjectStore, list_all};
use crate::tasks::blocking;

/// The largest manifest that is read, decoded: some two hundred bytes a file.
const LARGEST_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// The object that has the manifest of a backup.
#[derive(Debug)]
pub(crate) struct StoredManifest {
    key: ObjectKey,
    encoding: StoredEncoding,
    /// Its URL.
    pub(crate) url: String,
}

impl StoredManifest {
    /// Looks for it, under its name in every encoding; `None` when there is none. Backups of
    /// WAL-G and WAL-E have none.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn find(store: &dyn ObjectStore, backup: &str) -> Result<Option<Self>> {
        let prefix = layout::backup_manifest_beginning(backup);
        let objects = list_all(store, &ListRequest { prefix, ..ListRequest::default() }).await?;
        let named = objects.into_iter().filter_map(|object| {
            let encoding = layout::encoding_of_backup_manifest(&object.key, backup)?;
            let url = store.url(object.key.as_str());
            Some(StoredManifest { key: object.key, encoding, url })
        });
        Ok(named.min_by_key(|stored| matches!(stored.encoding, StoredEncoding::Foreign(_))))
    }

    /// Its content, as `pg_verifybackup` reads it.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for a damaged one, [`ErrorKind::Config`] for one that only
    /// another program can read, and those of the store.
    pub(crate) async fn content(&self, store: &dyn ObjectStore) -> Result<Vec<u8>> {
        let encoding = self.encoding.readable(&self.url)?;
        let object = ArchivedObject::open(store, &self.key, encoding).await?;
        let content = object.read_at_most(LARGEST_BYTES + 1).await?;
        if content.len() as u64 > LARGEST_BYTES {
            return Err(damaged(&self.url, &format!("it has more than {LARGEST_BYTES} bytes")));
        }
        Ok(content)
    }
}

/// The manifest of a backup that is restored.
#[derive(Debug)]
pub(crate) struct Manifest {
    manifest: BackupManifest,
    /// The files' places in it, in the order of their paths.
    by_path: Vec<usize>,
}

impl Manifest {
    /// Reads the manifest of a stored backup, if it has one.
    ///
    /// A damaged manifest is ignored with a warning: the backup can be restored without
    /// it.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn find(
        store: &dyn ObjectStore,
        backup: &str,
        notices: &Notices,
    ) -> Result<Option<Self>> {
        let Some(stored) = StoredManifest::find(store, backup).await? else { return Ok(None) };
        let parsed = async {
            let content = stored.content(store).await?;
            let parse = move || BackupManifest::parse(&content).map(Manifest::new);
            blocking("reading the backup manifest", parse).await
        };
        match parsed.await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let url = &stored.url;
                notices.warning(format!(
                    "ignoring object \"{url}\": restored files are not compared with it, and no backup_manifest is written: {error}"
                ));
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    pub(crate) fn new(manifest: BackupManifest) -> Self {
        let mut by_path: Vec<usize> = (0..manifest.files.len()).collect();
        by_path.sort_by_key(|index| manifest.files[*index].path.as_slice());
        Manifest { manifest, by_path }
    }

    /// The bytes of all files, of each tablespace and of the data directory (`None`).
    pub(crate) fn bytes_by_tablespace(&self) -> BTreeMap<Option<u32>, u64> {
        let mut bytes = BTreeMap::new();
        for file in &self.manifest.files {
            let below = file.path.strip_prefix(b"pg_tblspc/");
            let oid = below.and_then(|path| path.split(|byte| *byte == b'/').next());
            let oid = oid.and_then(|oid| std::str::from_utf8(oid).ok()?.parse().ok());
            let sum: &mut u64 = bytes.entry(oid).or_default();
            *sum = sum.saturating_add(file.size_bytes);
        }
        bytes
    }

    /// Compares a file from a tar with the entry of its path. A file without an entry
    /// passes. Of a file of which the tar has only pages the checksum is not known.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when they differ.
    pub(crate) fn check(&self, path: &Path, size_bytes: u64, crc32c: Option<u32>) -> Result<()> {
        let path = path.as_os_str().as_bytes();
        let files = &self.manifest.files;
        let found = self.by_path.binary_search_by_key(&path, |index| &files[*index].path);
        let Some(listed) = found.ok().and_then(|place| files.get(*self.by_path.get(place)?)) else {
            return Ok(());
        };
        let differ = |what: String| Err(Error::new(ErrorKind::Corrupt, what));
        if listed.size_bytes != size_bytes {
            return differ(format!(
                "it has {size_bytes} bytes, but {} in the backup manifest",
                listed.size_bytes
            ));
        }
        if let (Some(expected), Some(crc32c)) = (listed.crc32c, crc32c)
            && expected != crc32c
        {
            return differ(format!(
                "it has CRC-32C {crc32c:08x}, but {expected:08x} in the backup manifest"
            ));
        }
        Ok(())
    }

    /// Writes the manifest into the restored `data_directory` and syncs it, for
    /// `pg_verifybackup`. To be called when `tablespace_map` is final: where it
    /// differs from the stored one, the manifest is changed to match.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn place(&self, data_directory: &Path) -> Result<()> {
        let path = data_directory.join(TABLESPACE_MAP);
        let restored = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            result => {
                let content = result.map_err(|error| Error::file("read file", &path, &error))?;
                let now = OffsetDateTime::now_utc();
                Some(ManifestFile::of_content(TABLESPACE_MAP, &content, now))
            }
        };
        let content = |file: &ManifestFile| (file.size_bytes, file.crc32c);
        let path = data_directory.join(BACKUP_MANIFEST);
        if self.manifest.file(TABLESPACE_MAP).map(content) == restored.as_ref().map(content) {
            return write(&path, &self.manifest);
        }
        let mut manifest = self.manifest.clone();
        manifest.replace(TABLESPACE_MAP, restored);
        write(&path, &manifest)
    }
}

fn write(path: &Path, manifest: &BackupManifest) -> Result<()> {
    // An earlier attempt may have left one.
    remove_file(path)?;
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|file| {
            let mut buffered = BufWriter::new(file);
            manifest.write(&mut buffered)?;
            buffered.into_inner()?.sync_all()
        });
    written.map_err(|error| Error::file("write file", path, &error))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use time::macros::datetime;

    use super::*;
    use crate::archived::Encoder;
    use crate::codec::{Compression, Encoding};
    use crate::config::Encryption;
    use crate::notice;
    use crate::postgres::SystemIdentifier;
    use crate::store::memory::MemoryStore;
    use crate::store::{Attributes, PutMode};

    const BACKUP: &str = "base_000000010000000000000002";
    const STORED_MAP: &[u8] = b"16384 /old\n";

    fn stored() -> Vec<u8> {
        let time = datetime!(2026-01-01 0:00 UTC);
        let files = [("PG_VERSION", b"15\n".as_slice()), (TABLESPACE_MAP, STORED_MAP)];
        let files = files.map(|(path, content)| ManifestFile::of_content(path, content, time));
        let mut bytes = Vec::new();
        BackupManifest::new(150_000, SystemIdentifier(1), files.into(), Vec::new())
            .write(&mut bytes)
            .unwrap();
        bytes
    }

    /// Places `manifest` beside a tablespace map; returns what is there then,
    /// and the warnings.
    async fn placed(manifest: Vec<u8>, map: Option<&[u8]>) -> (Option<Vec<u8>>, usize) {
        placed_from(Encoding::None, manifest, map).await
    }

    /// The same for these stored bytes under the name of this encoding.
    async fn placed_from(
        encoding: Encoding,
        stored: Vec<u8>,
        map: Option<&[u8]>,
    ) -> (Option<Vec<u8>>, usize) {
        let store = MemoryStore::with_page_size(10);
        let attributes = Attributes::default();
        let key = layout::backup_manifest(BACKUP, encoding);
        let put = store.put(&key, stored.into(), PutMode::CreateOnly, &attributes);
        let _ = put.await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        if let Some(map) = map {
            fs::write(directory.path().join(TABLESPACE_MAP), map).unwrap();
        }
        let (notices, queue) = notice::channel();
        for _ in ["first", "again"] {
            if let Some(manifest) = Manifest::find(&store, BACKUP, &notices).await.unwrap() {
                manifest.place(directory.path()).unwrap();
            }
        }
        (fs::read(directory.path().join("backup_manifest")).ok(), queue.drain().len())
    }

    #[tokio::test]
    async fn an_unchanged_map_leaves_the_manifest_as_it_is() {
        assert_eq!(placed(stored(), Some(STORED_MAP)).await, (Some(stored()), 0));
    }

    #[tokio::test]
    async fn a_changed_map_is_listed_as_it_is_now() {
        let new = b"16384 /new/place\n";
        for map in [Some(new.as_slice()), None] {
            let (written, warnings) = placed(stored(), map).await;
            let manifest = BackupManifest::parse(&written.unwrap()).unwrap();
            let listed = manifest.file(TABLESPACE_MAP);
            assert_eq!(listed.and_then(|file| file.crc32c), map.map(crc32c::crc32c));
            assert_eq!(listed.map(|file| file.size_bytes), map.map(|map| map.len() as u64));
            assert_eq!(manifest.files.len(), 1 + usize::from(map.is_some()));
            assert_eq!(warnings, 0);
        }
    }

    #[tokio::test]
    async fn a_damaged_manifest_is_left_out_with_a_warning() {
        let mut damaged = stored();
        damaged[100] ^= 1;
        assert_eq!(placed(damaged, Some(STORED_MAP)).await, (None, 2));
    }

    #[tokio::test]
    async fn a_manifest_is_read_in_every_encoding() {
        for encoding in Encoding::WRITABLE {
            let mut encoder = Encoder::new(
                Vec::new(),
                Compression::new(encoding, None).unwrap(),
                &Encryption::default(),
            )
            .unwrap();
            encoder.write_all(&stored()).unwrap();
            let encoded = encoder.finish().unwrap();
            let cut = encoded[..encoded.len() - 5].to_vec();
            let placed = placed_from(encoding, encoded, Some(STORED_MAP)).await;
            assert_eq!(placed, (Some(stored()), 0), "{encoding}");
            let placed = placed_from(encoding, cut, Some(STORED_MAP)).await;
            assert_eq!(placed, (None, 2), "{encoding}");
        }
    }

    #[tokio::test]
    async fn a_manifest_that_can_be_read_comes_before_one_that_cannot() {
        let store = MemoryStore::with_page_size(10);
        let beginning = layout::backup_manifest_beginning(BACKUP);
        for suffix in [".gpg", ".lz4", ".old"] {
            let key = layout::ObjectKey::from_listing(&format!("{beginning}{suffix}")).unwrap();
            let attributes = Attributes::default();
            let put = store.put(&key, Vec::new().into(), PutMode::CreateOnly, &attributes);
            let _ = put.await.unwrap();
            let found = StoredManifest::find(&store, BACKUP).await.unwrap().unwrap();
            let readable = matches!(found.encoding, StoredEncoding::Readable(Encoding::Lz4));
            assert_eq!(readable, suffix != ".gpg");
        }
    }

    #[tokio::test]
    async fn a_backup_without_manifest_gets_none() {
        let (notices, queue) = notice::channel();
        let store = MemoryStore::with_page_size(10);
        assert!(Manifest::find(&store, BACKUP, &notices).await.unwrap().is_none());
        assert!(queue.drain().is_empty());
    }

    #[test]
    fn a_file_that_differs_from_its_entry_is_refused() {
        let manifest = Manifest::new(BackupManifest::parse(&stored()).unwrap());
        let check = |path: &str, content: &[u8]| {
            let crc32c = Some(crc32c::crc32c(content));
            manifest.check(Path::new(path), content.len() as u64, crc32c)
        };
        check("PG_VERSION", b"15\n").unwrap();
        check(TABLESPACE_MAP, STORED_MAP).unwrap();
        check("not/listed", b"anything").unwrap();
        let error = check("PG_VERSION", b"15").unwrap_err();
        assert!(error.message().contains("2 bytes") && error.message().contains('3'), "{error}");
        let error = check("PG_VERSION", b"16\n").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("CRC-32C"), "{error}");
    }
}
