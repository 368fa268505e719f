//! What is stored next to the tars: metadata, lists of files, manifest, sentinel.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;

use super::{Draft, stored};
use crate::archived::Encoder;
use crate::encryption::{Form, Key};
use crate::error::{Error, Result};
use crate::layout;
use crate::postgres::{BackupManifest, SystemIdentifier, WalRange};
use crate::sentinel::{self, Sentinel};
use crate::store::{Attributes, PutMode};
use crate::transfer::{PartWriter, Upload, Uploaded, upload};

/// What the manifest says of the cluster.
#[derive(Debug, Clone, Copy)]
pub(in crate::base_backup) struct ClusterFacts {
    /// `server_version_num`.
    pub(in crate::base_backup) pg_version: u32,
    pub(in crate::base_backup) system_identifier: SystemIdentifier,
    /// The WAL from the start of the backup to its end.
    pub(in crate::base_backup) wal: WalRange,
}

impl Draft {
    /// Stores what goes with the tars, but for the sentinel.
    ///
    /// # Errors
    /// Those of the store.
    pub(in crate::base_backup) async fn push_documents(
        &mut self,
        sentinel: &Sentinel,
        cluster: ClusterFacts,
    ) -> Result<()> {
        self.put_json(&layout::metadata(&self.name), sentinel::to_json(&sentinel.metadata()))
            .await?;
        self.push_files_metadata().await?;
        self.push_manifest(cluster).await
    }

    /// Stores the sentinel, the last object: then the backup exists.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Conflict`] when a tar is not there any more, and those of the store; there
    /// is no sentinel then.
    pub(in crate::base_backup) async fn push_sentinel(&self, sentinel: &Sentinel) -> Result<()> {
        self.prove_tars().await?;
        self.put_json(&layout::sentinel(&self.name), sentinel::to_json(sentinel)).await
    }

    /// What a sentinel says of how its backup is stored.
    pub(in crate::base_backup) fn sentinel(&self) -> Sentinel {
        let keyring = self.store.encryption().keyring;
        let key = keyring.writing().map(Key::fingerprint);
        let form = if key.is_some() { Form::Libsodium } else { Form::Plain };
        Sentinel {
            encryption: Some(form.to_string()),
            encryption_key: key.map(|key| key.to_string()),
            compressed_size: Some(self.stored_bytes),
            ..Sentinel::full()
        }
    }

    /// Bytes of all its files, whole.
    pub(in crate::base_backup) fn file_bytes(&self) -> u64 {
        self.manifest.iter().map(|file| file.size_bytes).sum()
    }

    async fn push_files_metadata(&mut self) -> Result<()> {
        let files = std::mem::take(&mut self.files);
        self.push_list(layout::files_metadata(&self.name), move |writer| {
            serde_json::to_writer(writer, &files)
                .map_err(|error| list_not_written(io::Error::from(error)))
        })
        .await
    }

    async fn push_manifest(&mut self, cluster: ClusterFacts) -> Result<()> {
        let ClusterFacts { pg_version, system_identifier, wal } = cluster;
        let mut files = std::mem::take(&mut self.manifest);
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let manifest = BackupManifest::new(pg_version, system_identifier, files, vec![wal]);
        let compression = self.compression;
        let encryption = self.store.encryption();
        let key = layout::backup_manifest(&self.name, compression.encoding());
        self.push_list(key, move |writer| {
            let mut buffered = io::BufWriter::new(Encoder::new(writer, compression, &encryption)?);
            manifest.write(&mut buffered).map_err(list_not_written)?;
            let encoder = buffered.into_inner().map_err(io::IntoInnerError::into_error);
            encoder.map_err(list_not_written)?.finish().map(drop)
        })
        .await
    }

    /// Stores what has a line for each file.
    async fn push_list(
        &self,
        key: layout::ObjectKey,
        write: impl FnOnce(&mut io::BufWriter<&mut PartWriter>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let request = Upload::create_only(key.clone(), self.cancel.clone());
        let request = request.noted_in(self.note.clone());
        let uploaded = upload(Arc::clone(&self.store), request, move |writer| {
            let mut buffered = io::BufWriter::new(writer);
            write(&mut buffered)?;
            buffered.flush().map_err(list_not_written)
        })
        .await?;
        stored(&*self.store, &key, &uploaded)
    }

    pub(super) async fn put_json(&self, key: &layout::ObjectKey, json: Vec<u8>) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        // Not interrupted: a sentinel whose fate is unknown would be worse than a wait.
        let attributes = Attributes::default();
        let outcome =
            self.store.put(key, Bytes::from(json), PutMode::CreateOnly, &attributes).await?;
        stored(&*self.store, key, &Uploaded { outcome, bytes: 0, value: () })
    }
}

fn list_not_written(error: io::Error) -> Error {
    Error::from_io("could not write file list", error)
}
