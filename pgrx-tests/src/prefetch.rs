//! What is fetched ahead for a server that recovers, and who does it.

use std::fs;
use std::path::PathBuf;

use crate::cluster::Cluster;
use crate::wait::wait_for;

impl Cluster {
    /// Where segments that were fetched ahead wait for this server.
    pub fn prefetch_directory(&self) -> PathBuf {
        self.data_directory().join("pg_wal/.wal-e/prefetch")
    }

    /// The process ids of the helpers that fetch ahead for this server.
    pub fn prefetch_helpers(&self) -> Vec<i32> {
        let data = self.data_directory().display().to_string();
        let is_helper = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains("\0wal-prefetch\0") && line.contains(&data))
        };
        let entries = fs::read_dir("/proc").expect("/proc can be read").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(is_helper).collect()
    }

    /// Waits for a helper, and for a segment that it has fetched whole.
    #[track_caller]
    pub fn wait_for_prefetched_segment(&self) {
        wait_for("a segment that was fetched ahead", || {
            let entries = fs::read_dir(self.prefetch_directory()).into_iter().flatten().flatten();
            let whole = entries.filter(|entry| entry.file_name().len() > 24 + 1 + 16);
            whole.count() > 0 && !self.prefetch_helpers().is_empty()
        });
    }

    /// Waits until no process fetches ahead any more and nothing is left of it.
    #[track_caller]
    pub fn wait_for_end_of_prefetch(&self) {
        let own = self.data_directory().join("pg_wal/.wal-e");
        wait_for("the end of prefetching", || self.prefetch_helpers().is_empty() && !own.exists());
        let entries = fs::read_dir(self.data_directory().join("pg_wal")).expect("pg_wal is there");
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(!name.contains("wal-e"), "{name} was left in pg_wal");
        }
    }
}
