//! The tar partitions of a base backup: which file goes into which, and several at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::delta::bytes_to_read;
use super::super::member::member_name;
use super::super::tar_stream::{Source, TarStream};
use super::super::walk::Entry;
use super::BackupPush;
use crate::archived::Pieces;
use crate::base_backup::draft::{StoredTar, TarStore};
use crate::error::Result;
use crate::layout;
use crate::tasks::in_slots;

/// No partition is planned smaller than this, in bytes: each costs requests.
const SMALLEST_BYTES: u64 = 16 * 1024 * 1024;

/// How many partitions each of the tasks should get at least, so that the last
/// of them does not work alone for long.
const PARTITIONS_PER_TASK: u64 = 4;

/// The size at which a partition closes: `threshold` for a large cluster,
/// smaller for one that would otherwise not keep all tasks busy.
pub(super) fn target_size_bytes(total: u64, threshold: u64, concurrency: usize) -> u64 {
    let fair = total / (PARTITIONS_PER_TASK * concurrency.max(1) as u64);
    fair.max(SMALLEST_BYTES).min(threshold)
}

/// What a member takes at least, its header: of an incremental backup most have no more.
pub(super) const MEMBER_BYTES: u64 = 1024;

/// Splits `files` into partitions, in order: a partition closes before what is read of
/// its files, as `bytes_to_read` says, would pass `target_bytes`; a file larger than that has one
/// of its own.
pub(super) fn plan(
    files: Vec<Entry>,
    target_bytes: u64,
    bytes_to_read: impl Fn(&Entry) -> u64,
) -> Vec<Vec<Entry>> {
    let mut partitions = Vec::new();
    let mut current: Vec<Entry> = Vec::new();
    let mut size = 0;
    for file in files {
        let bytes = bytes_to_read(&file);
        if !current.is_empty() && size + bytes > target_bytes {
            partitions.push(std::mem::take(&mut current));
            size = 0;
        }
        size += bytes;
        current.push(file);
    }
    if !current.is_empty() {
        partitions.push(current);
    }
    partitions
}

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
            rate_limit: self.options.read_rate_limit.clone(),
            verify_before: self.start.data_checksums.then_some(self.start.start_lsn),
            delta: self.delta.clone(),
            progress: Arc::clone(&self.progress),
            notices: self.notices.clone(),
            // One partition that fails ends the others, each cleaning up.
            cancel: self.draft.cancel.child_token(),
        });
        let mut jobs = Vec::new();
        let mut directories = Some(directories);
        for (index, files) in partitions.into_iter().enumerate() {
            let number = u32::try_from(first + index).expect("fewer partitions than files");
            let (tars, source) = (self.draft.tar_store(), Arc::clone(&source));
            let data_directory = self.start.data_directory.clone();
            // The directories come first of all.
            let directories = directories.take().unwrap_or_default();
            let plan = PartitionPlan { number, directories, files };
            jobs.push(async move { push_partition(&tars, data_directory, plan, source).await });
        }
        let take = |partition| {
            self.progress.partitions_done.fetch_add(1, Ordering::Relaxed);
            self.draft.record(partition);
        };
        in_slots("a tar partition", self.options.concurrency, &source.cancel, jobs, take).await
    }
}

/// What one tar partition is to hold.
struct PartitionPlan {
    number: u32,
    directories: Vec<Entry>,
    files: Vec<Entry>,
}

async fn push_partition(
    tars: &TarStore,
    data_directory: PathBuf,
    plan: PartitionPlan,
    source: Arc<Source>,
) -> Result<StoredTar> {
    let PartitionPlan { number, directories, files } = plan;
    let size = files.iter().map(|file| bytes_to_read(source.delta.as_deref(), file)).sum();
    let file_name = layout::partition_file_name(number, tars.encoding());
    let cancel = source.cancel.clone();
    let fill = move |tar: &mut TarStream<&mut Pieces>| {
        let mut found = Vec::with_capacity(files.len());
        for directory in &directories {
            tar.directory(directory)?;
        }
        for file in &files {
            if let Some(stored) = tar.file(&data_directory, file, &source)? {
                found.push((member_name(&file.path), stored));
            }
        }
        Ok(found)
    };
    tars.push(file_name, size, cancel, fill).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(number: usize, size_bytes: u64) -> Entry {
        Entry { path: format!("base/5/{number}"), size_bytes, mode: 0o600 }
    }

    #[test]
    fn small_clusters_are_split_for_all_tasks_and_large_ones_at_the_threshold() {
        const MB: u64 = 1024 * 1024;
        assert_eq!(target_size_bytes(10 * MB, 1024 * MB, 4), 16 * MB);
        assert_eq!(target_size_bytes(1600 * MB, 1024 * MB, 4), 100 * MB);
        assert_eq!(target_size_bytes(1_000_000 * MB, 1024 * MB, 4), 1024 * MB);
        assert_eq!(target_size_bytes(1600 * MB, 4 * MB, 4), 4 * MB);
    }

    proptest! {
        #[test]
        fn every_file_is_in_exactly_one_partition_and_sizes_are_bounded(
            sizes in proptest::collection::vec(0_u64..2000, 0..200),
            target in 1_u64..3000,
        ) {
            let files: Vec<Entry> =
                sizes.iter().enumerate().map(|(number, size)| entry(number, *size)).collect();
            let partitions = plan(files.clone(), target, |file| file.size_bytes);
            for partition in &partitions {
                let size: u64 = partition.iter().map(|file| file.size_bytes).sum();
                prop_assert!(!partition.is_empty());
                prop_assert!(size <= target || partition.len() == 1);
            }
            prop_assert_eq!(partitions.concat(), files);
        }
    }
}
