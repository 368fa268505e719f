//! The tars of a base backup: how one is written, and what is remembered of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;

use super::{Draft, stored};
use crate::archived::{Pieces, encode_aside};
use crate::base_backup::tar_stream::{StoredFile, TarStream};
use crate::codec::{Compression, Encoding};
use crate::error::{Error, Result};
use crate::layout;
use crate::store::ObjectStore;
use crate::transfer::{Upload, UploadNote, upload};

/// What one tar turned out to hold.
#[derive(Debug)]
pub(in crate::base_backup) struct StoredTar {
    file_name: String,
    stored_bytes: u64,
    files: Vec<(String, StoredFile)>,
}

/// Stores the tars of one backup.
#[derive(Debug, Clone)]
pub(in crate::base_backup) struct TarStore {
    store: Arc<dyn ObjectStore>,
    backup: String,
    compression: Compression,
    note: Option<Arc<UploadNote>>,
}

impl Draft {
    /// What stores its tars.
    pub(in crate::base_backup) fn tar_store(&self) -> TarStore {
        TarStore {
            store: Arc::clone(&self.store),
            backup: self.name.clone(),
            compression: self.compression,
            note: self.note.clone(),
        }
    }

    /// Adds a tar to what the documents of the backup will say.
    pub(in crate::base_backup) fn record(&mut self, tar: StoredTar) {
        self.stored_bytes += tar.stored_bytes;
        self.progress.bytes_uploaded.store(self.stored_bytes, Ordering::Relaxed);
        let names = tar.files.iter().map(|(name, _)| name.clone()).collect();
        self.tars.push(tar.file_name.clone());
        self.files.tar_file_sets.insert(tar.file_name, names);
        for (name, StoredFile { metadata, manifest, member_bytes }) in tar.files {
            self.member_bytes += member_bytes;
            self.files.files.insert(name, metadata);
            self.manifest.push(manifest);
        }
    }
}

impl TarStore {
    /// How the tars are encoded.
    pub(in crate::base_backup) fn encoding(&self) -> Encoding {
        self.compression.encoding()
    }

    /// Stores the tar of this name, which says how it is encoded. It has what `fill` adds to it,
    /// some `size_bytes` before compression. `fill` returns the files, by their names in the tar;
    /// it runs on a thread of its own.
    ///
    /// # Errors
    /// Those of `fill` and of the store, and [`crate::ErrorKind::Conflict`] when there is a tar
    /// of that name. Nothing is stored then.
    pub(in crate::base_backup) async fn push(
        &self,
        file_name: String,
        size_bytes: u64,
        cancel: CancellationToken,
        fill: impl FnOnce(&mut TarStream<&mut Pieces>) -> Result<Vec<(String, StoredFile)>>
        + Send
        + 'static,
    ) -> Result<StoredTar> {
        let compression = self.compression;
        let encryption = self.store.encryption();
        let key = layout::tar_partition(&self.backup, &file_name);
        let request = Upload::create_only(key.clone(), cancel).sized_for(size_bytes);
        let request = request.noted_in(self.note.clone());
        let uploaded = upload(Arc::clone(&self.store), request, move |writer| {
            encode_aside(writer, compression, &encryption, |pieces| {
                let mut tar = TarStream::new(pieces);
                let files = fill(&mut tar)?;
                tar.finish().map_err(|error| Error::from_io("could not compress", error))?;
                Ok(files)
            })
        })
        .await?;
        stored(&*self.store, &key, &uploaded)?;
        Ok(StoredTar { file_name, stored_bytes: uploaded.bytes, files: uploaded.value })
    }
}
