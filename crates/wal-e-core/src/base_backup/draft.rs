//! The objects of a base backup that is being made: taken of a cluster, or merged of a chain.
//!
//! Their order is a promise: `begun.json`, tars, metadata and manifest, and last the sentinel, once
//! all tars are proved to be there. A failure before it leaves no backup, only garbage under the
//! backup's name.
//!
//! * `begun`: that the backup is being made.
//! * `tars`: how a tar is written, and what is remembered of it.
//! * `documents`: what is stored next to the tars.

pub(super) mod begun;
mod documents;
mod tars;

pub(super) use documents::ClusterFacts;
pub(super) use tars::{StoredTar, TarStore};

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Progress;
use crate::codec::Compression;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::postgres::ManifestFile;
use crate::sentinel::{Begun, FilesMetadata};
use crate::store::{ObjectStore, PutOutcome};
use crate::transfer::{UploadNote, Uploaded};

/// A base backup that is being made.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) store: Arc<dyn ObjectStore>,
    /// The backup's name.
    pub(super) name: String,
    /// How its tars and its manifest are compressed.
    pub(super) compression: Compression,
    /// Where its open uploads are noted.
    pub(super) note: Option<Arc<UploadNote>>,
    /// Ends the uploads.
    pub(super) cancel: CancellationToken,
    pub(super) progress: Arc<Progress>,
    /// What `begun.json` says of it.
    begun: Begun,
    /// Says again and again that the backup is being made.
    renewal: JoinSet<()>,
    /// File names of its tars.
    tars: Vec<String>,
    /// The files in its tars, for the list of files.
    pub(super) files: FilesMetadata,
    /// The same files, for the manifest.
    pub(super) manifest: Vec<ManifestFile>,
    /// Bytes of its tars.
    stored_bytes: u64,
    /// Of all files in the tars, before compression.
    pub(super) member_bytes: u64,
}

impl Draft {
    /// A backup of this name that has nothing yet. Nothing is stored.
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        name: String,
        begun: Begun,
        compression: Compression,
        progress: Arc<Progress>,
        cancel: CancellationToken,
    ) -> Self {
        Draft {
            store,
            name,
            compression,
            note: None,
            cancel,
            progress,
            begun,
            renewal: JoinSet::new(),
            tars: Vec::new(),
            files: FilesMetadata::default(),
            manifest: Vec::new(),
            stored_bytes: 0,
            member_bytes: 0,
        }
    }

    /// Whose open uploads are noted there.
    #[must_use]
    pub(super) fn noted_in(mut self, note: Option<Arc<UploadNote>>) -> Self {
        self.note = note;
        self
    }
}

/// The name was free when the backup began: an object that is there now is
/// another backup's.
fn stored<T>(
    store: &dyn ObjectStore,
    key: &layout::ObjectKey,
    uploaded: &Uploaded<T>,
) -> Result<()> {
    match uploaded.outcome {
        PutOutcome::Stored => Ok(()),
        PutOutcome::AlreadyExists => Err(Error::new(
            ErrorKind::Conflict,
            format!("object \"{}\" exists already", store.url(key.as_str())),
        )
        .with_hint("Another backup of the same name is running. Take this one again later.")),
    }
}
