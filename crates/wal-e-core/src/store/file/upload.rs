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
use crate::rate_limit::RateLimit;
use crate::store::{MultipartUpload, PutMode, PutOutcome};

#[derive(Debug)]
pub(super) struct FileUpload {
    root: Arc<Root>,
    key: ObjectKey,
    mode: PutMode,
    /// `None` once the upload has ended. Dropping the upload drops the last
    /// reference, and that removes the file.
    progress: Arc<Mutex<Option<Progress>>>,
    rate_limit: Option<Arc<RateLimit>>,
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
        rate_limit: Option<Arc<RateLimit>>,
    ) -> FileUpload {
        let progress = Progress { temporary: Arc::new(temporary), parts: BTreeMap::new() };
        FileUpload { root, key, mode, progress: Arc::new(Mutex::new(Some(progress))), rate_limit }
    }

    /// Writes a part as fast as the rate limit allows.
    async fn write(
        &self,
        temporary: &Arc<TemporaryFile>,
        offset: u64,
        mut rest: Bytes,
    ) -> Result<()> {
        let mut at = offset;
        while !rest.is_empty() {
            let length = match &self.rate_limit {
                Some(rate_limit) => rate_limit.take(rest.len()).await,
                None => rest.len(),
            };
            let piece = rest.split_to(length);
            let (root, key) = (Arc::clone(&self.root), self.key.clone());
            let temporary = Arc::clone(temporary);
            blocking(move || root.write(&temporary, &key, at, &piece)).await?;
            at += length as u64;
        }
        Ok(())
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
        let length = body.len() as u64;
        self.write(&temporary, offset, body).await?;
        if let Some(progress) = &mut *lock(&self.progress) {
            progress.parts.insert(number, (offset, length));
        }
        Ok(())
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
