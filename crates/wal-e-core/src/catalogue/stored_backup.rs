//! What the store has of one base backup: its sentinel, its list of files, its tars.

use super::backup_info::read_sentinel;
use super::backups::{refusal_of, resolve};
use super::tar_set::{self, TarSet, file_name, is_copied};
use crate::codec::Encoding;
use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey, TarKind};
use crate::sentinel::{self, FilesMetadata};
use crate::store::{ListRequest, ObjectInfo, ObjectStore, list_all};

/// The largest list of files that is read: some hundred bytes a file.
const LARGEST_FILES_METADATA_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// What the store says of a backup.
#[derive(Debug)]
pub(crate) struct StoredBackup {
    /// Its name.
    pub(crate) name: String,
    /// Its sentinel.
    pub(crate) sentinel: sentinel::Sentinel,
    /// Empty when the backup was made without.
    pub(crate) files: FilesMetadata,
    /// The tars that hold the cluster's files.
    pub(crate) partitions: Vec<Tar>,
    /// The tar of `backup_label` and `tablespace_map`.
    pub(crate) label: Option<Tar>,
    /// The tar of `global/pg_control`; WAL-E keeps it with the other files.
    pub(crate) control: Option<Tar>,
    /// What a killed backup of the same name left among the tars; it is not read.
    pub(crate) left_over: Vec<ObjectInfo>,
}

/// One tar of a backup, encoded as its own name says.
#[derive(Debug, Clone)]
pub(crate) struct Tar {
    /// The object.
    pub(crate) object: ObjectInfo,
    /// How it is encoded.
    pub(crate) encoding: Encoding,
}

impl StoredBackup {
    /// Reads what the store has of the backup `name`, or `LATEST`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown backup, [`ErrorKind::Corrupt`] when
    /// an object of it is missing or damaged, [`ErrorKind::Config`] for what
    /// cannot be read.
    pub(crate) async fn find(store: &dyn ObjectStore, name: &str) -> Result<Self> {
        let name = resolve(store, name).await?;
        match read_sentinel(store, &name).await {
            Err(error) if error.is_unusable_object() => Err(refusal_of(store, &name, error).await),
            sentinel => StoredBackup::with_sentinel(store, name, sentinel?).await,
        }
    }

    /// [`StoredBackup::find`] for a name that is known.
    pub(crate) async fn read(store: &dyn ObjectStore, name: &str) -> Result<Self> {
        let sentinel = read_sentinel(store, name).await?;
        StoredBackup::with_sentinel(store, name.to_owned(), sentinel).await
    }

    async fn with_sentinel(
        store: &dyn ObjectStore,
        name: String,
        mut sentinel: sentinel::Sentinel,
    ) -> Result<Self> {
        let files = read_files_metadata(store, &name, &mut sentinel).await?;
        let request =
            ListRequest { prefix: layout::tar_partitions(&name), ..ListRequest::default() };
        let objects = list_all(store, &request).await?;
        let lost = tar_set::lost(&files, &objects);
        if !lost.is_empty() {
            let keys: Vec<_> = lost.iter().map(|tar| layout::tar_partition(&name, tar)).collect();
            return Err(missing(store, &name, &keys));
        }
        let TarSet { own: objects, left_over } = tar_set::tell_apart(objects, &files);
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
        let encoding = partitions.first().map_or(Encoding::default(), |tar| tar.encoding);
        let needed = match (&partitions[..], &control) {
            ([], _) => Some(layout::partition_file_name(1, encoding)),
            (_, None) if !sentinel.is_wal_e => Some(layout::pg_control_file_name(encoding)),
            _ => None,
        };
        if let Some(tar) = needed {
            return Err(missing(store, &name, &[layout::tar_partition(&name, &tar)]));
        }
        if sentinel.is_wal_e {
            check_numbers(store, &name, &partitions)?;
        }
        Ok(StoredBackup { name, sentinel, files, partitions, label, control, left_over })
    }

    /// Bytes of all its files, as it says itself; `None` when it does not say. Of tars
    /// that WAL-G copied from an older backup its `UncompressedSize` says nothing.
    pub(crate) fn file_bytes(&self) -> Option<u64> {
        let copies = self.partitions.iter().any(|tar| is_copied(&tar.object));
        let packed = self.sentinel.uncompressed_size.filter(|_| !copies);
        packed.max(self.sentinel.data_catalog_size).filter(|bytes| *bytes > 0)
    }

    /// The tars that hold what the server needs to begin: control file and label.
    pub(crate) fn own_tars(&self) -> impl Iterator<Item = &Tar> {
        self.label.iter().chain(&self.control)
    }
}

impl Tar {
    /// Its name within the backup.
    pub(crate) fn file_name(&self) -> &str {
        file_name(&self.object)
    }
}

/// WAL-E has no list of files, but it numbers its tars one after the other, in
/// eight digits from 0: a gap is a tar that is lost. The oldest WAL-G gave backups
/// such names, too, and counted from 001.
fn check_numbers(store: &dyn ObjectStore, backup: &str, tars: &[Tar]) -> Result<()> {
    let number = |tar: &Tar| {
        let digits = tar.file_name().strip_prefix("part_")?.split('.').next()?.to_owned();
        let number: u64 = digits.parse().ok()?;
        Some((number, digits.len()))
    };
    let mut numbers: Vec<(u64, usize)> = tars.iter().filter_map(number).collect();
    numbers.sort_unstable();
    let first = numbers.first().map_or(0, |(_, width)| u64::from(*width != 8));
    for (expected, (found, width)) in (first..).zip(numbers) {
        if found < expected {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("base backup \"{backup}\" has tar {found:0width$} twice"),
            ));
        }
        if found > expected {
            let encoding = tars.first().map_or(Encoding::default(), |tar| tar.encoding);
            let tar = encoding.file_name(format_args!("part_{expected:0width$}.tar"));
            return Err(missing(store, backup, &[layout::tar_partition(backup, &tar)]));
        }
    }
    Ok(())
}

/// What a tar holds, and its encoding.
fn tar_of(store: &dyn ObjectStore, key: &ObjectKey) -> Result<(TarKind, Encoding)> {
    let url = store.url(key.as_str());
    let Some((kind, encoding)) = layout::tar_of(key) else {
        return Err(Error::new(
            ErrorKind::Config,
            format!("object \"{url}\" is stored with the tars of a base backup but is not a tar"),
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
        .with_hint(format!("Restore another base backup; {} shows them.", Word::BackupList))),
    }
}

fn missing(store: &dyn ObjectStore, backup: &str, keys: &[ObjectKey]) -> Error {
    let urls: Vec<String> =
        keys.iter().map(|key| format!("\"{}\"", store.url(key.as_str()))).collect();
    let incomplete = format!("base backup \"{backup}\" is incomplete");
    let error = match &urls[..] {
        [url] => Error::new(ErrorKind::Corrupt, format!("{incomplete}: there is no object {url}")),
        _ => Error::new(
            ErrorKind::Corrupt,
            format!("{incomplete}: {} of its objects are not there", urls.len()),
        )
        .with_detail(format!("These are missing:\n{}", urls.join("\n"))),
    };
    error.with_hint(format!(
        "Put them back from another copy of the archive, if there is one, or restore another base backup; {} shows them.",
        Word::BackupList
    ))
}

/// Empty when the backup was made without one: then all that is stored is taken.
///
/// A backup of WAL-G 2 or this program that should have one and does not is
/// refused, although WAL-G restores it: missing files would go unnoticed.
async fn read_files_metadata(
    store: &dyn ObjectStore,
    backup: &str,
    sentinel: &mut sentinel::Sentinel,
) -> Result<FilesMetadata> {
    if sentinel.files_metadata_disabled || sentinel.is_wal_e {
        return Ok(FilesMetadata::default());
    }
    let inline = std::mem::take(&mut sentinel.inline_files);
    if !inline.files.is_empty() {
        return Ok(inline);
    }
    let optional = sentinel.version.is_none_or(|version| version < 2);
    let key = layout::files_metadata(backup);
    let object = match store.get(&key, 0, None).await {
        Err(error) if error.kind() == ErrorKind::NotFound && optional => {
            return Ok(FilesMetadata::default());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(missing(store, backup, &[key]));
        }
        result => result?,
    };
    let json = object.into_bytes(LARGEST_FILES_METADATA_BYTES).await?;
    sentinel::parse(&store.url(key.as_str()), &json)
}
