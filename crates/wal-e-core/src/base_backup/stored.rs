//! What the store has of one base backup: its sentinel, its list of files, its tars.

use super::list::{read_sentinel, resolve};
use crate::codec::Encoding;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey, TarKind};
use crate::sentinel::{self, FilesMetadata};
use crate::store::{ListRequest, ObjectInfo, ObjectStore, list_all};

/// The largest list of files that is read: some hundred bytes a file.
const LARGEST_FILES_METADATA_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// What the store says of a backup.
#[derive(Debug)]
pub(super) struct StoredBackup {
    /// Its name.
    pub(super) name: String,
    /// Its sentinel.
    pub(super) sentinel: sentinel::Sentinel,
    /// Empty when the backup was made without.
    pub(super) files: FilesMetadata,
    /// The tars that hold the cluster's files.
    pub(super) partitions: Vec<Tar>,
    /// The tar of `backup_label` and `tablespace_map`.
    pub(super) label: Option<Tar>,
    /// The tar of `global/pg_control`.
    pub(super) control: Tar,
}

/// One tar of a backup, encoded as its own name says.
#[derive(Debug, Clone)]
pub(super) struct Tar {
    /// The object.
    pub(super) object: ObjectInfo,
    /// How it is encoded.
    pub(super) encoding: Encoding,
}

impl StoredBackup {
    /// Reads what the store has of the backup `name`, or `LATEST`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown backup, [`ErrorKind::Corrupt`] when
    /// an object of it is missing or damaged, [`ErrorKind::Config`] for what
    /// cannot be read.
    pub(super) async fn find(store: &dyn ObjectStore, name: &str) -> Result<Self> {
        let name = resolve(store, name).await?;
        let sentinel = read_sentinel(store, &name).await?;
        if let Some(parent) = &sentinel.delta_from {
            return Err(Error::new(
                ErrorKind::Config,
                format!("base backup \"{name}\" is a delta of \"{parent}\""),
            )
            .with_detail("Delta backups cannot be restored by this version.")
            .with_hint("Restore a full backup, or use WAL-G for this one."));
        }
        let files = read_files_metadata(store, &name, &sentinel).await?;
        let request =
            ListRequest { prefix: layout::tar_partitions(&name), ..ListRequest::default() };
        let objects = list_all(store, &request).await?;
        for tar in files.tar_file_sets.keys() {
            let key = layout::tar_partition(&name, tar);
            if !objects.iter().any(|object| object.key == key) {
                return Err(missing(store, &name, &key));
            }
        }
        let (mut partitions, mut label, mut control) = (Vec::new(), None, None);
        for object in objects {
            let (kind, encoding) = tar_of(store, &object.key)?;
            let tar = Tar { object, encoding };
            match kind {
                TarKind::Partition => partitions.push(tar),
                TarKind::PgControl => put_once(&mut control, tar, store)?,
                TarKind::BackupLabel => put_once(&mut label, tar, store)?,
            }
        }
        let control = control.ok_or_else(|| {
            let encoding = partitions.first().map_or(Encoding::default(), |tar| tar.encoding);
            let key = layout::tar_partition(&name, &layout::pg_control_file_name(encoding));
            missing(store, &name, &key)
        })?;
        Ok(StoredBackup { name, sentinel, files, partitions, label, control })
    }

    /// Stored bytes of all tars.
    pub(super) fn bytes(&self) -> u64 {
        let own = self.label.iter().chain(std::iter::once(&self.control));
        self.partitions.iter().chain(own).map(|tar| tar.object.size_bytes).sum()
    }

    /// The names of the files that a tar must hold.
    pub(super) fn expected(&self, tar: &Tar) -> Option<Vec<String>> {
        let file_name = tar.object.key.as_str().rsplit('/').next()?;
        self.files.tar_file_sets.get(file_name).cloned()
    }
}

/// What a tar holds, and its encoding.
fn tar_of(store: &dyn ObjectStore, key: &ObjectKey) -> Result<(TarKind, Encoding)> {
    let url = store.url(key.as_str());
    let Some((kind, encoding)) = layout::tar_of(key) else {
        return Err(Error::new(
            ErrorKind::Config,
            format!("object \"{url}\" is among the tars of a base backup and is none"),
        )
        .with_hint("Move it elsewhere: only tars belong there."));
    };
    Ok((kind, encoding.readable(&url)?))
}

/// Of `pg_control` and the label there is one tar: of two, either may be stale.
fn put_once(place: &mut Option<Tar>, tar: Tar, store: &dyn ObjectStore) -> Result<()> {
    match place {
        None => {
            *place = Some(tar);
            Ok(())
        }
        Some(other) => Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "objects \"{}\" and \"{}\" are the same tar of a base backup in two encodings",
                store.url(other.object.key.as_str()),
                store.url(tar.object.key.as_str()),
            ),
        )
        .with_hint("Restore another base backup; \"wal-e backup-list\" shows them.")),
    }
}

fn missing(store: &dyn ObjectStore, backup: &str, key: &ObjectKey) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "base backup \"{backup}\" is incomplete: there is no object \"{}\"",
            store.url(key.as_str())
        ),
    )
    .with_hint("Restore another base backup; \"wal-e backup-list\" shows them.")
}

/// Empty when the backup was made without one: then all that is stored is taken.
async fn read_files_metadata(
    store: &dyn ObjectStore,
    backup: &str,
    sentinel: &sentinel::Sentinel,
) -> Result<FilesMetadata> {
    let optional =
        sentinel.files_metadata_disabled || sentinel.version.is_none_or(|version| version < 2);
    let key = layout::files_metadata(backup);
    let object = match store.get(&key, 0, None).await {
        Err(error) if error.kind() == ErrorKind::NotFound && optional => {
            return Ok(FilesMetadata::default());
        }
        // Without it, nobody would notice files that are missing.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(missing(store, backup, &key));
        }
        result => result?,
    };
    let json = object.into_bytes(LARGEST_FILES_METADATA_BYTES).await?;
    sentinel::parse(&store.url(key.as_str()), &json)
}
