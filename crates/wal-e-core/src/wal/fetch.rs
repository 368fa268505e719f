//! One WAL file out of the store.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::codec::Lz4Reader;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::postgres::{SegmentSize, WalFileKind, WalFileName};
use crate::store::ObjectStore;
use crate::transfer::{DownloadReader, download};

/// Writes the archived WAL file `name` to `destination` and returns its size in
/// bytes. The name appears only when the whole file is verified and on disk.
///
/// # Errors
/// * [`ErrorKind::NotFound`]: the archive does not have it.
/// * [`ErrorKind::Corrupt`]: the object is damaged; nothing is left at `destination`.
///
/// After a kill, a file named like `destination` with `.wal-e-tmp` after it may
/// be left; the next call for the same destination replaces it.
pub async fn fetch(
    store: Arc<dyn ObjectStore>,
    name: &WalFileName,
    destination: &Path,
) -> Result<u64> {
    let key = layout::wal_file(name);
    let url = store.url(key.as_str());
    let object = store.get(&key, 0, None).await?;
    let expected = object.info.attributes.content_xxh128.clone();
    let reader = download(object);
    let (kind, destination) = (name.kind(), destination.to_owned());
    tokio::task::spawn_blocking(move || {
        let temporary = Temporary::beside(&destination);
        let bytes = write(reader, &temporary.path, kind, expected.as_deref(), &url)?;
        fs::rename(&temporary.path, &destination)
            .map_err(|error| Error::file("rename a file to", &destination, &error))?;
        sync_directory_of(&destination)?;
        Ok(bytes)
    })
    .await
    .unwrap_or_else(|panic| {
        Err(Error::new(ErrorKind::Bug, format!("fetching a WAL file failed: {panic}")))
    })
}

fn write(
    reader: DownloadReader,
    path: &Path,
    kind: WalFileKind,
    expected: Option<&str>,
    url: &str,
) -> Result<u64> {
    let damaged = |what: &str| {
        Error::new(ErrorKind::Corrupt, format!("archived object \"{url}\" is damaged: {what}"))
            .with_hint("Restore it from a copy of the archive, or recover to a moment before it.")
    };
    let read_failed = |source| {
        let error = Error::from_io(format!("could not read object \"{url}\""), source);
        if error.kind() == ErrorKind::Corrupt { damaged(error.message()) } else { error }
    };
    let write_failed = |error: &std::io::Error| Error::file("write file", path, error);
    let mut reader = Lz4Reader::new(reader).map_err(read_failed)?;
    let mut file = File::create(path).map_err(|error| Error::file("create file", path, &error))?;
    let mut checksum = Xxh3::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        let length = reader.read(&mut buffer).map_err(read_failed)?;
        if length == 0 {
            break;
        }
        bytes += length as u64;
        if bytes > SegmentSize::LARGEST.bytes() {
            return Err(damaged("it is larger than any WAL segment"));
        }
        checksum.update(&buffer[..length]);
        file.write_all(&buffer[..length]).map_err(|error| write_failed(&error))?;
    }
    if kind == WalFileKind::Segment && SegmentSize::new(bytes).is_none() {
        return Err(damaged(&format!("{bytes} bytes are not the size of a WAL segment")));
    }
    if expected.is_some_and(|expected| expected != format!("{:032x}", checksum.digest128())) {
        return Err(damaged("its content does not have the checksum that was kept with it"));
    }
    file.sync_all().map_err(|error| write_failed(&error))?;
    Ok(bytes)
}

fn sync_directory_of(path: &Path) -> Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Error::file("sync directory", directory, &error))
}

/// A file that is removed unless it has been renamed.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn beside(destination: &Path) -> Self {
        let mut path = OsString::from(destination);
        path.push(".wal-e-tmp");
        Temporary { path: path.into() }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already after a rename.
        let _ = fs::remove_file(&self.path);
    }
}
