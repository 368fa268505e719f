//! The tar partitions of a base backup, several at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::super::tar_stream::{Source, member_name};
use super::super::walk::Entry;
use super::stored_tar::{StoredTar, write_tar};
use super::{BackupPush, stored};
use crate::codec::Compression;
use crate::error::Result;
use crate::layout;
use crate::rate_limit::RateLimit;
use crate::store::ObjectStore;
use crate::tasks::joined;
use crate::transfer::{Upload, UploadNote, upload};

impl BackupPush {
    /// Uploads the directories, in the first partition, and the files. The
    /// partitions are numbered from `first`.
    pub(super) async fn push_partitions(
        &mut self,
        first: usize,
        directories: Vec<Entry>,
        partitions: Vec<Vec<Entry>>,
    ) -> Result<()> {
        let source = Arc::new(Source {
            rate_limit: self.options.read_rate_limit_bytes_per_second.map(RateLimit::new),
            verify_before: self.start.data_checksums.then_some(self.start.start_lsn),
            progress: Arc::clone(&self.progress),
            notices: self.notices.clone(),
            // One partition that fails ends the others, each cleaning up.
            cancel: self.cancel.child_token(),
        });
        let slots = Arc::new(Semaphore::new(self.options.concurrency.max(1)));
        let mut tasks = JoinSet::new();
        let mut directories = Some(directories);
        for (index, files) in partitions.into_iter().enumerate() {
            let number = u32::try_from(first + index).expect("fewer partitions than files");
            let (store, source) = (Arc::clone(&self.store), Arc::clone(&source));
            let (slots, backup) = (Arc::clone(&slots), self.name.clone());
            let data_directory = self.start.data_directory.clone();
            // The directories come first of all.
            let directories = directories.take().unwrap_or_default();
            let (compression, note) = (self.options.compression, self.note.clone());
            tasks.spawn(async move {
                let _slot = slots.acquire_owned().await.expect("the semaphore is never closed");
                let plan = PartitionPlan { number, compression, note, directories, files };
                push_partition(store, &backup, data_directory, plan, source).await
            });
        }
        let mut failure = None;
        while let Some(result) = tasks.join_next().await {
            match joined("a tar partition", result) {
                Ok(partition) => {
                    self.progress.partitions_done.fetch_add(1, Ordering::Relaxed);
                    self.record(partition);
                }
                Err(error) => {
                    source.cancel.cancel();
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

/// What one tar partition is to hold.
struct PartitionPlan {
    number: u32,
    compression: Compression,
    note: Option<Arc<UploadNote>>,
    directories: Vec<Entry>,
    files: Vec<Entry>,
}

async fn push_partition(
    store: Arc<dyn ObjectStore>,
    backup: &str,
    data_directory: PathBuf,
    plan: PartitionPlan,
    source: Arc<Source>,
) -> Result<StoredTar> {
    let PartitionPlan { number, compression, note, directories, files } = plan;
    let file_name = layout::partition_file_name(number, compression.encoding());
    let key = layout::tar_partition(backup, &file_name);
    let size = files.iter().map(|file| file.size_bytes).sum();
    let request = Upload::create_only(key.clone(), source.cancel.clone());
    let request = request.sized_for(size).noted_in(note);
    let uploaded = upload(Arc::clone(&store), request, move |writer| {
        let mut found = Vec::with_capacity(files.len());
        write_tar(writer, compression, |tar| {
            for directory in &directories {
                tar.directory(directory)?;
            }
            for file in &files {
                if let Some(stored) = tar.file(&data_directory, file, &source)? {
                    found.push((member_name(&file.path), stored));
                }
            }
            Ok(())
        })?;
        Ok(found)
    })
    .await?;
    stored(&*store, &key, &uploaded)?;
    Ok(StoredTar { file_name, stored_bytes: uploaded.bytes, files: uploaded.value })
}
