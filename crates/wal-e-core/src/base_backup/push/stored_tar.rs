//! What partitions and small tars have in common: how a tar is written, and what is
//! remembered of it.

use std::sync::atomic::Ordering;

use super::super::tar_stream::{StoredFile, TarStream};
use super::BackupPush;
use crate::archived::{Pieces, encode_aside};
use crate::codec::Compression;
use crate::config::Encryption;
use crate::error::{Error, Result};
use crate::transfer::PartWriter;

/// What one tar turned out to hold.
pub(super) struct StoredTar {
    pub(super) file_name: String,
    pub(super) stored_bytes: u64,
    pub(super) files: Vec<(String, StoredFile)>,
}

impl BackupPush {
    /// Adds a tar to what the documents of the backup will say.
    pub(super) fn record(&mut self, tar: StoredTar) {
        self.stored_bytes += tar.stored_bytes;
        self.progress.bytes_uploaded.store(self.stored_bytes, Ordering::Relaxed);
        let names = tar.files.iter().map(|(name, _)| name.clone()).collect();
        self.files.tar_file_sets.insert(tar.file_name, names);
        for (name, StoredFile { metadata, manifest, member_bytes }) in tar.files {
            self.member_bytes += member_bytes;
            self.files.files.insert(name, metadata);
            self.manifest.push(manifest);
        }
    }
}

/// A compressed and encrypted tar with what `fill` adds.
pub(super) fn write_tar(
    writer: &mut PartWriter,
    compression: Compression,
    encryption: &Encryption,
    fill: impl FnOnce(&mut TarStream<&mut Pieces>) -> Result<()>,
) -> Result<()> {
    encode_aside(writer, compression, encryption, |pieces| {
        let mut tar = TarStream::new(pieces);
        fill(&mut tar)?;
        tar.finish().map_err(|error| Error::from_io("could not compress", error))?;
        Ok(())
    })
}
