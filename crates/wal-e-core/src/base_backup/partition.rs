//! Which file goes into which tar partition.

use super::walk::Entry;

/// No partition is planned smaller than this, in bytes: each costs requests.
const SMALLEST_BYTES: u64 = 16 * 1024 * 1024;

/// How many partitions each of the tasks should get at least, so that the last
/// of them does not work alone for long.
const PARTITIONS_PER_TASK: u64 = 4;

/// The size at which a partition closes: `threshold` for a large cluster,
/// smaller for one that would otherwise not keep all tasks busy.
pub fn target_size_bytes(total: u64, threshold: u64, concurrency: usize) -> u64 {
    let fair = total / (PARTITIONS_PER_TASK * concurrency.max(1) as u64);
    fair.max(SMALLEST_BYTES).min(threshold)
}

/// Splits `files` into partitions, in order: a partition closes before it would
/// pass `target_bytes`; a file larger than that has one of its own.
pub fn plan(files: Vec<Entry>, target_bytes: u64) -> Vec<Vec<Entry>> {
    let mut partitions = Vec::new();
    let mut current: Vec<Entry> = Vec::new();
    let mut size = 0;
    for file in files {
        if !current.is_empty() && size + file.size_bytes > target_bytes {
            partitions.push(std::mem::take(&mut current));
            size = 0;
        }
        size += file.size_bytes;
        current.push(file);
    }
    if !current.is_empty() {
        partitions.push(current);
    }
    partitions
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
            let partitions = plan(files.clone(), target);
            for partition in &partitions {
                let size: u64 = partition.iter().map(|file| file.size_bytes).sum();
                prop_assert!(!partition.is_empty());
                prop_assert!(size <= target || partition.len() == 1);
            }
            prop_assert_eq!(partitions.concat(), files);
        }
    }
}
