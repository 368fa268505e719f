//! The backup manifest of a stored backup, and its way into a restored cluster.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;
use time::OffsetDateTime;

use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::Notices;
use crate::postgres::{BackupManifest, ManifestFile};
use crate::store::ObjectStore;
use crate::tasks::blocking;

/// The largest manifest that is read: some two hundred bytes a file.
const LARGEST_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// Of all that a manifest lists, what a restore writes itself.
const TABLESPACE_MAP: &str = "tablespace_map";

/// The manifest of a backup as it is stored; `None` when the backup has none, as
/// those of WAL-G and WAL-E.
pub(super) async fn read(store: &dyn ObjectStore, backup: &str) -> Result<Option<Bytes>> {
    match store.get(&layout::backup_manifest(backup), 0, None).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => Ok(Some(result?.into_bytes(LARGEST_BYTES).await?)),
    }
}

/// Writes the manifest of `backup`, if it has one, into the restored
/// `data_directory` and syncs it, for `pg_verifybackup`. To be called when
/// `tablespace_map` is as it shall be: where that is not the stored one, the
/// manifest is made to say so.
///
/// A damaged manifest is left out with a warning: the backup can be restored
/// without.
///
/// # Errors
/// Those of the store and of the file system.
pub(super) async fn place(
    store: &dyn ObjectStore,
    backup: &str,
    data_directory: &Path,
    notices: &Notices,
) -> Result<()> {
    let Some(stored) = read(store, backup).await? else { return Ok(()) };
    let data_directory = data_directory.to_owned();
    let placed = blocking("writing the backup manifest", move || {
        let manifest = fitting(stored, &data_directory)?;
        write(&data_directory.join("backup_manifest"), &manifest)
    });
    match placed.await {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            let url = store.url(layout::backup_manifest(backup).as_str());
            notices.warning(format!(
                "object \"{url}\" is not used, and there will be no backup_manifest: {error}"
            ));
            Ok(())
        }
        result => result,
    }
}

/// The stored manifest, changed where the restored tablespace map differs.
fn fitting(stored: Bytes, data_directory: &Path) -> Result<Bytes> {
    let mut manifest = BackupManifest::parse(&stored)?;
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
    if manifest.file(TABLESPACE_MAP).map(content) == restored.as_ref().map(content) {
        return Ok(stored);
    }
    manifest.replace(TABLESPACE_MAP, restored);
    let mut changed = Vec::with_capacity(stored.len());
    manifest
        .write(&mut changed)
        .map_err(|error| Error::io("could not format the backup manifest", &error))?;
    Ok(changed.into())
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    // One that an earlier attempt left.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::file("remove file", path, &error));
        }
        _ => {}
    }
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(
        |mut file| {
            file.write_all(content)?;
            file.sync_all()
        },
    );
    written.map_err(|error| Error::file("write file", path, &error))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
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
        let store = MemoryStore::with_page_size(10);
        let attributes = Attributes::default();
        let key = layout::backup_manifest(BACKUP);
        let put = store.put(&key, manifest.into(), PutMode::CreateOnly, &attributes);
        let _ = put.await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        if let Some(map) = map {
            fs::write(directory.path().join(TABLESPACE_MAP), map).unwrap();
        }
        let (notices, queue) = notice::channel();
        for _ in ["first", "again"] {
            place(&store, BACKUP, directory.path(), &notices).await.unwrap();
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
            assert_eq!(listed.map(|file| file.crc32c), map.map(crc32c::crc32c));
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
    async fn a_backup_without_manifest_gets_none() {
        let directory = tempfile::tempdir().unwrap();
        let (notices, queue) = notice::channel();
        let store = MemoryStore::with_page_size(10);
        place(&store, BACKUP, directory.path(), &notices).await.unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(queue.drain().is_empty());
    }
}
