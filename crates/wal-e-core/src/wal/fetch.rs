//! One WAL file out of the store.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use super::locate;
use crate::codec::{Decompressor, Encoding};
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::postgres::{SegmentSize, WalFileKind, WalFileName};
use crate::store::{ListRequest, ObjectReader, ObjectStore};
use crate::tasks::blocking;
use crate::transfer::{DownloadReader, download};

/// Writes the archived WAL file `name` to `destination` and returns its size in
/// bytes. The name appears only when the whole file is verified and on disk.
///
/// An LZ4 object takes one request; for any other encoding the archive is listed.
/// Damage to an object that is not compressed shows only where the checksum of
/// its content was kept with it, as [`Pusher`](super::Pusher) does.
///
/// # Errors
/// * [`ErrorKind::NotFound`]: the archive does not have it.
/// * [`ErrorKind::Config`]: the archive has no WAL at all: a wrong prefix, or a
///   file system that is not mounted. To a server that recovers, this must not
///   look like the end of the WAL. Also when the file is there in an encoding
///   that cannot be read.
/// * [`ErrorKind::Corrupt`]: the object is damaged; nothing is left at `destination`.
///
/// After a kill, a file named like `destination` with `.wal-e-tmp-` and a number
/// after it may be left; later calls for the same destination remove it.
pub async fn fetch(
    store: Arc<dyn ObjectStore>,
    name: &WalFileName,
    destination: &Path,
) -> Result<u64> {
    let (object, encoding) = open(&*store, name).await?;
    let url = store.url(object.info.key.as_str());
    let expected = object.info.attributes.content_xxh128.clone();
    let reader = download(object);
    let (kind, destination) = (name.kind(), destination.to_owned());
    blocking("fetching a WAL file", move || {
        let temporary = Temporary::beside(&destination);
        let bytes = write(reader, encoding, &temporary.path, kind, expected.as_deref(), &url)?;
        fs::rename(&temporary.path, &destination)
            .map_err(|error| Error::file("rename a file to", &destination, &error))?;
        sync_directory_of(&destination)?;
        Ok(bytes)
    })
    .await
}

/// The object of a WAL file, and its encoding.
pub(super) async fn open(
    store: &dyn ObjectStore,
    name: &WalFileName,
) -> Result<(ObjectReader, Encoding)> {
    let likely = Encoding::default();
    let not_there = match store.get(&layout::wal_file(name, likely), 0, None).await {
        Err(error) if error.kind() == ErrorKind::NotFound => error,
        result => return Ok((result?, likely)),
    };
    if let Some(located) = locate(store, name).await? {
        let encoding = located.encoding.readable(&store.url(located.key.as_str()))?;
        return Ok((store.get(&located.key, 0, None).await?, encoding));
    }
    if has_wal(store).await? {
        return Err(not_there);
    }
    Err(Error::new(
        ErrorKind::Config,
        format!("there is no WAL in \"{}\"", store.url(&layout::wal())),
    )
    .with_hint("Check the prefix, and that the file system of a \"file://\" prefix is mounted."))
}

async fn has_wal(store: &dyn ObjectStore) -> Result<bool> {
    let request = ListRequest { prefix: layout::wal(), ..ListRequest::default() };
    Ok(!store.list(&request, None).await?.objects.is_empty())
}

fn write(
    reader: DownloadReader,
    encoding: Encoding,
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
    let mut reader = Decompressor::new(reader, encoding).map_err(read_failed)?;
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

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_directory_of(path: &Path) -> Result<()> {
    let directory = directory_of(path);
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Error::file("sync directory", directory, &error))
}

/// A file that is removed unless it has been renamed. Each process has its own:
/// one that outlived its server may still write when the next one asks.
struct Temporary {
    path: PathBuf,
}

/// A temporary file that has not been written to for so long is nobody's.
const STALE_AFTER: Duration = Duration::from_secs(60 * 60);

impl Temporary {
    fn beside(destination: &Path) -> Self {
        let mut beginning = OsString::from(destination.file_name().unwrap_or_default());
        beginning.push(".wal-e-tmp-");
        let directory = directory_of(destination);
        remove_stale(directory, &beginning);
        let mut name = beginning;
        name.push(format!("{}-{:016x}", std::process::id(), fastrand::u64(..)));
        Temporary { path: directory.join(name) }
    }
}

/// Tidying up: a failure is left for the next time.
fn remove_stale(directory: &Path, beginning: &OsStr) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let is_ours =
            entry.file_name().as_encoded_bytes().starts_with(beginning.as_encoded_bytes());
        let is_old = || {
            let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok()?;
            Some(modified.elapsed().ok()? > STALE_AFTER)
        };
        if is_ours && is_old() == Some(true) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already after a rename.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
