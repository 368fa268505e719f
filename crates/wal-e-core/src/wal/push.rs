//! One WAL file into the store.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3;

use crate::codec::{Compression, Compressor, Decompressor, Encoding};
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::postgres::{SegmentSize, WalFileKind, WalFileName};
use crate::store::{Attributes, ObjectStore, PutOutcome};
use crate::tasks::blocking;
use crate::transfer::{Upload, download, upload};

/// How a WAL file is read, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// Part size for WAL: most segments of the usual 16 MB compress to less, and
/// then need one request.
const PART_SIZE_BYTES: usize = 8 * 1024 * 1024;

/// What became of a WAL file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// It is stored now.
    Stored,
    /// It was stored before, with the same content.
    AlreadyThere,
}

/// A WAL file that is in the store, confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Whether this call stored it.
    pub outcome: PushOutcome,
    /// Size of the file in bytes.
    pub bytes_read: u64,
    /// Bytes that were sent to the store.
    pub bytes_stored: u64,
}

/// Stores the WAL file at `path` under `name`, compressed, and returns once the
/// store has confirmed it. An object of that name is never replaced: the same
/// content is success, a different one an error.
///
/// # Errors
/// * [`ErrorKind::Conflict`]: the archive has a different file of that name.
/// * [`ErrorKind::Corrupt`]: the file is not what its name says, it changed
///   while it was read, or the archive has a damaged object of that name.
/// * [`ErrorKind::Io`], and the store's own kinds.
///
/// # Cancel safety
/// Dropping the future leaves either the whole object or none, and perhaps the
/// parts of an upload that only the store's clean-up removes.
pub async fn push(store: Arc<dyn ObjectStore>, name: &WalFileName, path: &Path) -> Result<Pushed> {
    let kind = name.kind();
    let (bytes_read, checksum) = blocking("reading a WAL file", {
        let path = path.to_owned();
        move || {
            let (bytes, digest) =
                digest(open(&path)?, &path, Xxh3::new(), |state, bytes| state.update(bytes))?;
            check_size(kind, bytes, &path)?;
            Ok((bytes, format!("{:032x}", digest.digest128())))
        }
    })
    .await?;

    let request = Upload {
        attributes: Attributes { content_xxh128: Some(checksum.clone()), upload_id: None },
        part_size_bytes: PART_SIZE_BYTES,
        ..Upload::create_only(layout::wal_file(name, Encoding::Lz4), CancellationToken::new())
    };
    let uploaded = upload(Arc::clone(&store), request, {
        let (path, checksum) = (path.to_owned(), checksum.clone());
        move |writer| {
            let lost = |source: io::Error| Error::from_io("could not compress WAL", source);
            let mut writer = Compressor::new(writer, Compression::default()).map_err(lost)?;
            let mut again = Xxh3::new();
            let mut file = open(&path)?;
            let mut buffer = vec![0; READ_BYTES];
            loop {
                let length =
                    file.read(&mut buffer).map_err(|e| Error::file("read file", &path, &e))?;
                if length == 0 {
                    break;
                }
                again.update(&buffer[..length]);
                writer.write_all(&buffer[..length]).map_err(lost)?;
            }
            writer.finish().map_err(lost)?;
            if format!("{:032x}", again.digest128()) != checksum {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("file \"{}\" changed while it was archived", path.display()),
                ));
            }
            Ok(())
        }
    })
    .await?;

    match uploaded.outcome {
        PutOutcome::Stored => {
            Ok(Pushed { outcome: PushOutcome::Stored, bytes_read, bytes_stored: uploaded.bytes })
        }
        PutOutcome::AlreadyExists => {
            compare_with_archived(&store, name, path, &checksum).await?;
            Ok(Pushed { outcome: PushOutcome::AlreadyThere, bytes_read, bytes_stored: 0 })
        }
    }
}

/// Succeeds when the archived file of that name has the same content. The
/// checksum kept with the object tells without reading it; a store that keeps
/// none, or a checksum that differs, makes it read.
async fn compare_with_archived(
    store: &Arc<dyn ObjectStore>,
    name: &WalFileName,
    path: &Path,
    checksum: &str,
) -> Result<()> {
    let key = layout::wal_file(name, Encoding::Lz4);
    let url = store.url(key.as_str());
    if let Some(info) = store.head(&key).await?
        && info.attributes.content_xxh128.as_deref() == Some(checksum)
    {
        return Ok(());
    }
    let archived = download(store.get(&key, 0, None).await?);
    let path = path.to_owned();
    blocking("comparing a WAL file", move || {
        let damaged = |source: io::Error| {
            let error = Error::from_io("could not decompress", source);
            if error.kind() != ErrorKind::Corrupt {
                return error;
            }
            Error::new(ErrorKind::Corrupt, format!("archived object \"{url}\" is damaged"))
                .with_detail(format!("It cannot be compared with the new file: {}.", error.message()))
                .with_hint(
                    "Keep a copy of the object and remove it from the archive; the server will archive the file again.",
                )
        };
        let archived = Decompressor::new(archived, Encoding::Lz4).map_err(damaged)?;
        let mut archived_sha256 = Sha256::new();
        copy(archived, |bytes| archived_sha256.update(bytes)).map_err(damaged)?;
        let (_, local_sha256) = digest(open(&path)?, &path, Sha256::new(), |state, bytes| state.update(bytes))?;
        let (local, archived) = (hex(&local_sha256.finalize()), hex(&archived_sha256.finalize()));
        if local == archived {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!("a different file is archived as \"{url}\" already"),
        )
        .with_detail(format!(
            "The file to archive, \"{}\", has SHA-256 {local}; the archived one has {archived}.",
            path.display()
        ))
        .with_hint(
            "Another cluster, or a copy of this one on the same timeline, archives to the same prefix. Find out which of the two is right; give the other one a prefix of its own.",
        ))
    })
    .await
}

/// Segments have a size that PostgreSQL allows; the other files are small and not empty.
fn check_size(kind: WalFileKind, bytes: u64, path: &Path) -> Result<()> {
    let sound = match kind {
        WalFileKind::Segment | WalFileKind::Partial => SegmentSize::new(bytes).is_some(),
        WalFileKind::BackupHistory | WalFileKind::TimelineHistory => bytes > 0,
    };
    if sound {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Corrupt,
        format!(
            "file \"{}\" has {bytes} bytes, which is not the size of a WAL file",
            path.display()
        ),
    ))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| Error::file("open file", path, &error))
}

/// Feeds all of `file` to `state`; returns how many bytes it had.
fn digest<S>(file: File, path: &Path, mut state: S, update: fn(&mut S, &[u8])) -> Result<(u64, S)> {
    let bytes = copy(file, |bytes| update(&mut state, bytes))
        .map_err(|error| Error::file("read file", path, &error))?;
    Ok((bytes, state))
}

fn copy(mut reader: impl Read, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    loop {
        let length = reader.read(&mut buffer)?;
        if length == 0 {
            return Ok(bytes);
        }
        take(&buffer[..length]);
        bytes += length as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
