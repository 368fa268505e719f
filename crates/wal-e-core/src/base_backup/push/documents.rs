//! What is stored next to the tars: metadata, lists of files, manifest, sentinel.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use time::OffsetDateTime;

use super::super::start::BackupStart;
use super::{BackupPush, stored};
use crate::archived::Encoder;
use crate::encryption::{Form, Key};
use crate::error::{Error, Result};
use crate::layout;
use crate::postgres::{BackupManifest, Lsn, WalRange};
use crate::sentinel::{Sentinel, TablespacePlace, TablespaceSpec};
use crate::store::{Attributes, PutMode};
use crate::transfer::{PartWriter, Upload, Uploaded, upload};

impl BackupPush {
    pub(super) async fn push_files_metadata(&mut self) -> Result<()> {
        let files = std::mem::take(&mut self.files);
        self.push_list(layout::files_metadata(&self.name), move |writer| {
            serde_json::to_writer(writer, &files)
                .map_err(|error| list_not_written(io::Error::from(error)))
        })
        .await
    }

    pub(super) async fn push_manifest(&mut self, stop_lsn: Lsn) -> Result<()> {
        let BackupStart { timeline, start_lsn, pg_version, system_identifier, .. } = self.start;
        let mut files = std::mem::take(&mut self.manifest);
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        // A promotion in between would have failed pg_backup_stop.
        let range = WalRange { timeline, start_lsn, end_lsn: stop_lsn };
        let manifest = BackupManifest::new(pg_version, system_identifier, files, vec![range]);
        let compression = self.options.compression;
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

    pub(super) fn sentinel(&self, stop_lsn: Lsn, stopped: OffsetDateTime) -> Sentinel {
        let start = &self.start;
        let data_directory = start.data_directory.display().to_string();
        let spec = (!self.tablespaces.is_empty()).then(|| TablespaceSpec {
            base_prefix: data_directory.clone(),
            tablespaces: self.tablespaces.keys().map(u32::to_string).collect(),
            places: self
                .tablespaces
                .iter()
                .map(|(oid, location)| {
                    let loc = location.display().to_string();
                    (oid.to_string(), TablespacePlace { loc, link: format!("pg_tblspc/{oid}") })
                })
                .collect(),
        });
        let parent = self.delta.as_ref().map(|delta| &delta.parent);
        let read_bytes = self.progress.bytes_read.load(Ordering::Relaxed);
        let file_bytes = || self.manifest.iter().map(|file| file.size_bytes).sum();
        let keyring = self.store.encryption().keyring;
        let key = keyring.writing().map(Key::fingerprint);
        let form = if key.is_some() { Form::Libsodium } else { Form::Plain };
        Sentinel {
            encryption: Some(form.to_string()),
            encryption_key: key.map(|key| key.to_string()),
            delta_from: parent.map(|parent| parent.name.clone()),
            delta_full_name: parent.map(|parent| parent.full_name.clone()),
            delta_lsn: parent.map(|parent| parent.start_lsn),
            delta_count: parent.map(|parent| parent.deltas + 1),
            lsn: Some(start.start_lsn),
            finish_lsn: Some(stop_lsn),
            pg_version: Some(start.pg_version),
            system_identifier: Some(start.system_identifier),
            uncompressed_size: Some(parent.map_or(read_bytes, |_| self.member_bytes)),
            data_catalog_size: parent.map(|_| file_bytes()),
            compressed_size: Some(self.stored_bytes),
            spec,
            start_time: Some(start.start_time),
            finish_time: Some(stopped),
            hostname: Some(start.hostname.clone()),
            data_dir: Some(data_directory),
            wal_directory: self.wal_directory.as_ref().map(|place| place.display().to_string()),
            is_permanent: start.permanent,
            ..Sentinel::full()
        }
    }
}

fn list_not_written(error: io::Error) -> Error {
    Error::from_io("could not write file list", error)
}
