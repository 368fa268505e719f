//! Whether a file in the archive is the one that is to be archived.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::READ_BYTES;
use crate::archived::{ArchivedObject, ContentChecksum};
use crate::codec::{Encoding, named};
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::postgres::WalFileName;
use crate::store::ObjectStore;
use crate::tasks::blocking;

/// Succeeds when the archived file of that name has the content of the file at
/// `path`, whose checksum is `checksum`. The one kept with the object shows
/// it without reading the object; a store that keeps none, or one that differs, makes it read.
///
/// # Errors
/// [`ErrorKind::Conflict`] when they differ, [`ErrorKind::Corrupt`] when the
/// archived object is damaged, and the store's own kinds.
pub(crate) async fn compare_with_archived(
    store: &Arc<dyn ObjectStore>,
    name: &WalFileName,
    encoding: Encoding,
    path: &Path,
    checksum: ContentChecksum,
) -> Result<()> {
    let key = layout::wal_file(name, encoding);
    let url = store.url(key.as_str());
    if let Some(info) = store.head(&key).await?
        && let Some(kept) = info.attributes.content_xxh128
        && checksum.is(&kept, &store.encryption().keyring)
    {
        return Ok(());
    }
    let archived = ArchivedObject::open(&**store, &key, encoding).await?;
    let path = path.to_owned();
    blocking("comparing a WAL file", move || {
        let archived = archived
            .content()
            .and_then(sha256)
            .map_err(|source| damaged(&url, source))?;
        let local = File::open(&path)
            .and_then(sha256)
            .map_err(|error| Error::file("read file", &path, &error))?;
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

fn damaged(url: &str, source: io::Error) -> Error {
    let error = Error::from_io("could not decompress", source);
    if error.kind() != ErrorKind::Corrupt {
        return named(url, error);
    }
    Error::new(ErrorKind::Corrupt, format!("archived object \"{url}\" is damaged"))
        .with_detail(format!("It cannot be compared with the new file: {}.", error.message()))
        .with_hint(
            "Keep a copy of the object and remove it from the archive; the server will archive the file again.",
        )
}

/// In hexadecimal digits.
fn sha256(mut reader: impl Read) -> io::Result<String> {
    let mut state = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = reader.read(&mut buffer)?;
        if length == 0 {
            return Ok(state.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        state.update(&buffer[..length]);
    }
}
