//! One WAL file compressed and sent.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::Xxh3;

use super::mapping::Mapping;
use super::{Pusher, open};
use crate::archived::{ContentChecksum, Encoder};
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::postgres::WalFileName;
use crate::store::{Attributes, PutMode, PutOutcome};
use crate::tasks::{blocking, or_cancelled};
use crate::transfer::{Upload, upload};
use crate::wal::READ_BYTES;

/// The size of the parts in which larger files are sent while they are read.
const PART_SIZE_BYTES: usize = 8 * 1024 * 1024;

/// A file that was sent.
pub(super) struct Sent {
    pub(super) outcome: PutOutcome,
    /// How much was sent.
    pub(super) bytes: u64,
    pub(super) checksum: ContentChecksum,
}

impl Pusher {
    /// The checksum that is kept with the object.
    pub(super) async fn checksum(&self, path: &Path, bytes: u64) -> Result<ContentChecksum> {
        let path = path.to_owned();
        let compressed = Arc::clone(&self.compressed);
        blocking("reading a WAL file", move || {
            let read = copy(&path, bytes, io::sink(), &mut None, &compressed);
            read.map(|(checksum, _)| checksum)
        })
        .await
    }

    /// Compresses the file in memory and sends it by one request.
    pub(super) async fn send_whole(
        &self,
        name: &WalFileName,
        path: &Path,
        bytes: u64,
    ) -> Result<Sent> {
        let place = Arc::clone(&self.compressors).acquire_owned().await;
        let room = self.bodies.room().await;
        let mut buffer = self.bodies.buffer(usize::try_from(bytes).unwrap_or(0) + READ_BYTES);
        let (path, compression) = (path.to_owned(), self.options.compression);
        let encryption = self.store.encryption();
        let compressed = Arc::clone(&self.compressed);
        let mut mapping = Mapping::begin(self.options.maps.as_ref(), name, bytes, &self.notices);
        let compressing = blocking("compressing a WAL file", move || {
            let (content, mapping) = (buffer.content(), &mut mapping);
            let encoder = Encoder::new(content, compression, &encryption)?;
            let (checksum, _) = encode(&path, bytes, encoder, mapping, &compressed)?;
            // Given back when the work ends and there is room for what it made, not when it is
            // no longer waited for.
            Ok((checksum, buffer.into_bytes(), place, room))
        });
        let sending = async {
            let (checksum, body, place, room) = compressing.await?;
            let bytes = body.len() as u64;
            let _room = self.bodies.fit(room, body.len()).await;
            drop(place);
            let key = layout::wal_file(name, self.options.compression.encoding());
            let attributes = self.attributes(checksum);
            let _upload = self.uploads.acquire().await;
            let outcome = self.store.put(&key, body, PutMode::CreateOnly, &attributes).await?;
            Ok(Sent { outcome, bytes, checksum })
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::cancelled()),
            sent = sending => sent,
        }
    }

    /// Sends the file in parts while it is compressed. Its checksum has to be
    /// known before the first part is sent, so it is read twice.
    pub(super) async fn send_in_parts(
        &self,
        name: &WalFileName,
        path: &Path,
        bytes: u64,
    ) -> Result<Sent> {
        let _place = self.compressors.acquire().await;
        let checksum = self.checksum(path, bytes).await?;
        let _upload = self.uploads.acquire().await;
        let compression = self.options.compression;
        let key = layout::wal_file(name, compression.encoding());
        let request = Upload {
            attributes: self.attributes(checksum),
            part_size_bytes: PART_SIZE_BYTES,
            note: or_cancelled(&self.cancel, self.open_uploads.note(&*self.store)).await?,
            ..Upload::create_only(key, self.cancel.clone())
        };
        let path = path.to_owned();
        let encryption = self.store.encryption();
        let compressed = Arc::clone(&self.compressed);
        let mut mapping = Mapping::begin(self.options.maps.as_ref(), name, bytes, &self.notices);
        let uploaded = upload(Arc::clone(&self.store), request, move |writer| {
            let encoder = Encoder::new(writer, compression, &encryption)?;
            let (after, _) = encode(&path, bytes, encoder, &mut mapping, &compressed)?;
            if after == checksum { Ok(()) } else { Err(changed(&path)) }
        })
        .await?;
        Ok(Sent { outcome: uploaded.outcome, bytes: uploaded.bytes, checksum })
    }

    fn attributes(&self, checksum: ContentChecksum) -> Attributes {
        let kept = checksum.to_keep(self.store.encryption().keyring.writing());
        Attributes { content_xxh128: Some(kept), upload_id: None }
    }
}

/// Writes the file into `encoder`; returns the checksum of its content, and what the encoder wrote
/// into. Keeps what `mapping` has made of it.
fn encode<W: Write>(
    path: &Path,
    bytes: u64,
    encoder: Encoder<W>,
    mapping: &mut Option<Mapping>,
    progress: &AtomicU64,
) -> Result<(ContentChecksum, W)> {
    let (checksum, encoder) = copy(path, bytes, encoder, mapping, progress)?;
    let sink = encoder.finish()?;
    if let Some(mapping) = mapping.take() {
        mapping.keep();
    }
    Ok((checksum, sink))
}

/// Copies the file, which has `bytes`, into `sink`; returns the checksum of its
/// content, and `sink`. `mapping` sees the bytes, and `progress` counts them.
fn copy<W: Write>(
    path: &Path,
    bytes: u64,
    mut sink: W,
    mapping: &mut Option<Mapping>,
    progress: &AtomicU64,
) -> Result<(ContentChecksum, W)> {
    let mut file = open(path)?;
    let mut state = Xxh3::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut copied = 0;
    loop {
        let length = file.read(&mut buffer).map_err(|e| Error::file("read file", path, &e))?;
        if length == 0 {
            break;
        }
        state.update(&buffer[..length]);
        if let Some(mapping) = mapping {
            mapping.feed(&buffer[..length]);
        }
        sink.write_all(&buffer[..length])
            .map_err(|source| Error::from_io("could not compress WAL", source))?;
        copied += length as u64;
        progress.fetch_add(length as u64, Ordering::Relaxed);
    }
    if copied != bytes {
        return Err(changed(path));
    }
    Ok((ContentChecksum(state.digest128()), sink))
}

fn changed(path: &Path) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("file \"{}\" changed while it was archived", path.display()),
    )
}
