//! A multipart upload: each part is written at its place in one temporary file.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::blocking;
use super::root::Root;
use super::temporary::TemporaryFile;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::store::{MultipartUpload, PutMode, PutOutcome};

#[derive(Debug)]
pub(super) struct FileUpload {
    root: Arc<Root>,
    key: ObjectKey,
    mode: PutMode,
    /// `None` once the upload has ended. Dropping the upload drops the last
    /// reference, and that removes the file.
    progress: Arc<Mutex<Option<Progress>>>,
}

#[derive(Debug)]
struct Progress {
    temporary: Arc<TemporaryFile>,
    /// By number: offset and length of the parts that were written.
    parts: BTreeMap<u32, (u64, u64)>,
}

fn lock(progress: &Mutex<Option<Progress>>) -> MutexGuard<'_, Option<Progress>> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FileUpload {
    pub(super) fn new(
        root: Arc<Root>,
        key: ObjectKey,
        mode: PutMode,
        temporary: TemporaryFile,
    ) -> FileUpload {
        let progress = Progress { temporary: Arc::new(temporary), parts: BTreeMap::new() };
        FileUpload { root, key, mode, progress: Arc::new(Mutex::new(Some(progress))) }
    }

    fn ended(&self) -> Error {
        Error::new(
            ErrorKind::NotFound,
            format!("the upload of \"{}\" has ended", self.root.url(self.key.as_str())),
        )
    }
}

#[async_trait]
impl MultipartUpload for FileUpload {
    fn id(&self) -> Option<&str> {
        None
    }

    async fn put_part(&self, number: u32, offset: u64, body: Bytes) -> Result<()> {
        let temporary = match &*lock(&self.progress) {
            Some(progress) => Arc::clone(&progress.temporary),
            None => return Err(self.ended()),
        };
        let (root, key, progress) =
            (Arc::clone(&self.root), self.key.clone(), Arc::clone(&self.progress));
        blocking(move || {
            root.write(&temporary, &key, offset, &body)?;
            if let Some(progress) = &mut *lock(&progress) {
                progress.parts.insert(number, (offset, body.len() as u64));
            }
            Ok(())
        })
        .await
    }

    async fn complete(&self) -> Result<PutOutcome> {
        let temporary = match &*lock(&self.progress) {
            Some(progress) => {
                check_parts(&progress.parts, &self.root.url(self.key.as_str()))?;
                Arc::clone(&progress.temporary)
            }
            None => return Err(self.ended()),
        };
        let (root, key, mode) = (Arc::clone(&self.root), self.key.clone(), self.mode);
        let outcome = blocking(move || root.publish(&temporary, &key, mode)).await?;
        lock(&self.progress).take();
        Ok(outcome)
    }

    async fn abort(&self) -> Result<()> {
        let ended = lock(&self.progress).take();
        blocking(move || {
            drop(ended);
            Ok(())
        })
        .await
    }
}

/// Refuses parts that leave a gap: the file would have zeros there.
fn check_parts(parts: &BTreeMap<u32, (u64, u64)>, url: &str) -> Result<()> {
    let mut end = 0;
    for (expected, (&number, &(offset, length))) in (1..).zip(parts) {
        if number != expected || offset != end {
            return Err(Error::new(ErrorKind::Bug, format!("the parts of \"{url}\" leave a gap"))
                .with_detail(format!("Part {number} was sent for offset {offset}.")));
        }
        end += length;
    }
    Ok(())
}
