//! One object read and checked as a WAL file.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use super::FetchOptions;
use crate::archived::{ArchivedObject, Content, damaged, read_failed};
use crate::catalogue::locate::KeyEnding;
use crate::codec::Encoding;
use crate::error::{Error, Result};
use crate::layout::ObjectKey;
use crate::postgres::WalFileName;
use crate::store::ObjectStore;
use crate::tasks::blocking;
use crate::wal::READ_BYTES;
use crate::wal::temporary::Temporary;

/// A WAL file that was read and is what it should be.
pub(in crate::wal) struct Sound {
    pub content: Content,
    pub ending: KeyEnding,
    /// Where it was written to, on disk.
    pub file: Option<Temporary>,
    /// All of it, if it was to be kept in memory.
    pub bytes: Vec<u8>,
}

/// Where the content of a WAL file goes while it is checked.
#[derive(Debug, Clone, Copy)]
pub(in crate::wal) enum Sink<'a> {
    /// Nowhere: it is only checked.
    Nowhere,
    /// Into this file.
    File(&'a Path),
    /// Into memory, of which it may take so many bytes.
    Memory(u64),
}

/// Reads one object into `into`, and checks that it is the WAL file `name`. After an
/// error a file is not there.
pub(in crate::wal) async fn read_object(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    encoding: Encoding,
    name: &WalFileName,
    options: &FetchOptions,
    into: Sink<'_>,
) -> Result<Sound> {
    let object = ArchivedObject::open_until(store, key, encoding, &options.cancel).await?;
    let ending = KeyEnding::of(key, name).unwrap_or_default();
    let name = name.clone();
    let (path, mut kept_bytes) = match into {
        Sink::Nowhere => (None, Kept::default()),
        Sink::File(path) => (Some(path.to_owned()), Kept::default()),
        Sink::Memory(limit) => (None, Kept { limit, bytes: Vec::new() }),
    };
    let system_identifier = options.system_identifier;
    blocking("reading a WAL file", move || {
        let mut file = path.map(Temporary::create).transpose()?;
        let url = object.url().to_owned();
        let checksum = object.content_xxh128().map(str::to_owned);
        let content = pass(object, file.as_mut(), &mut kept_bytes)?;
        content.check(&name, system_identifier, checksum.as_deref(), &url)?;
        if let Some((temporary, file)) = &file {
            file.sync_all().map_err(|error| Error::file("sync file", temporary.path(), &error))?;
        }
        let file = file.map(|(temporary, _)| temporary);
        Ok(Sound { content, ending, file, bytes: kept_bytes.bytes })
    })
    .await
}

/// What is kept in memory of a file.
#[derive(Default)]
pub(super) struct Kept {
    limit: u64,
    bytes: Vec<u8>,
}

/// Passes the content of an object on to `file` and `kept`, as far as it can be a WAL file.
pub(super) fn pass(
    object: ArchivedObject,
    mut file: Option<&mut (Temporary, File)>,
    kept: &mut Kept,
) -> Result<Content> {
    let url = object.url().to_owned();
    let failed = |source| read_failed(&url, source);
    let mut reader = object.content().map_err(failed)?;
    let mut content = Content::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = reader.read(&mut buffer).map_err(failed)?;
        content.update(&buffer[..length]);
        if length == 0 || content.is_too_large() {
            return Ok(content);
        }
        if kept.limit > 0 {
            if content.bytes() > kept.limit {
                return Err(damaged(&url, "it is larger than the segments of its cluster"));
            }
            kept.bytes.extend_from_slice(&buffer[..length]);
        }
        if let Some((temporary, file)) = &mut file {
            file.write_all(&buffer[..length])
                .map_err(|error| Error::file("write file", temporary.path(), &error))?;
        }
    }
}
