//! Uploads in parts of large WAL files that a process has left open.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::error::Result;
use crate::notice::Notices;
use crate::store::ObjectStore;
use crate::tasks::blocking;
use crate::transfer::{Open, UploadNote};

/// The note of open uploads, which is taken with the first file that is sent in parts.
#[derive(Debug)]
pub(super) struct OpenUploads {
    path: Option<PathBuf>,
    held: Mutex<Option<Arc<UploadNote>>>,
    notices: Notices,
}

impl OpenUploads {
    /// The note at `path`, if one is to be kept. Nothing is done yet.
    pub(super) fn new(path: Option<PathBuf>, notices: Notices) -> Self {
        OpenUploads { path, held: Mutex::default(), notices }
    }

    /// The note, after ending what a process that was killed has left in it. Should this be
    /// a copy of the file system of a server that lives, one upload of that server fails,
    /// and is tried again there. `None` while another process has the note: one that ends,
    /// or a program that archives at the same time.
    pub(super) async fn note(&self, store: &dyn ObjectStore) -> Result<Option<Arc<UploadNote>>> {
        let Some(path) = self.path.clone() else { return Ok(None) };
        let mut held = self.held.lock().await;
        if held.is_none() {
            let claim = move || UploadNote::claim(&path, None);
            match blocking("taking the note of open uploads", claim).await {
                Ok(claimed) => *held = claimed.map(Arc::new),
                Err(error) => {
                    self.notices.debug(format!("uploads in parts are not noted: {error}"));
                }
            }
            if let Some(note) = &*held {
                self.end_left(store, note).await;
            }
        }
        Ok(held.clone())
    }

    /// Ends the uploads of a process that was killed, as far as the store lets it.
    async fn end_left(&self, store: &dyn ObjectStore, note: &UploadNote) {
        for open in note.left().map(|(_, left)| left).into_iter().flatten() {
            let Open::Upload { key, id } = open else { continue };
            match store.abort_upload(key, id).await {
                Ok(()) => note.remove(open),
                Err(error) => {
                    let left = "an upload of a process that was killed may be left";
                    return self.notices.warning(format!("{left}: {error}"));
                }
            }
        }
    }
}
