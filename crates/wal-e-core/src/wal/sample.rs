//! WAL segments and marks as a server would have them, for tests.

use std::fs;
use std::path::{Path, PathBuf};

use crate::postgres::{SegmentSize, SystemIdentifier, WalFileName};

/// The smallest size that PostgreSQL allows.
pub const SEGMENT_BYTES: usize = 1 << 20;

/// The cluster that [`segment`] writes for.
pub const CLUSTER: SystemIdentifier = SystemIdentifier(7_300_000_000_000_000_007);

/// The content of the segment `name`, which depends on `seed`.
pub fn segment(name: &WalFileName, seed: u32) -> Vec<u8> {
    let size = SegmentSize::new(SEGMENT_BYTES as u64).unwrap();
    let start = name.segment_number(size).unwrap().start_lsn(size);
    let mut content: Vec<u8> =
        (0..SEGMENT_BYTES as u32).map(|n| (n.wrapping_mul(seed) >> 11) as u8).collect();
    let mut put = |at: usize, bytes: &[u8]| content[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0xD110_u16.to_ne_bytes());
    put(2, &2_u16.to_ne_bytes());
    put(4, &name.timeline().0.to_ne_bytes());
    put(8, &start.0.to_ne_bytes());
    put(24, &CLUSTER.0.to_ne_bytes());
    put(32, &(SEGMENT_BYTES as u32).to_ne_bytes());
    put(36, &8192_u32.to_ne_bytes());
    content
}

/// A directory of WAL as a server has it.
pub struct WalDirectory(tempfile::TempDir);

impl WalDirectory {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("archive_status")).unwrap();
        WalDirectory(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &WalFileName) -> PathBuf {
        self.path().join(name.as_str())
    }

    /// The segment of a number on timeline 1, which waits to be archived.
    pub fn ready_segment(&self, number: u32) -> WalFileName {
        let name: WalFileName = format!("0000000100000000{number:08X}").parse().unwrap();
        fs::write(self.file(&name), segment(&name, number)).unwrap();
        self.mark_ready(&name);
        name
    }

    pub fn mark_ready(&self, name: &WalFileName) {
        fs::write(self.mark(name, "ready"), "").unwrap();
    }

    /// What the server does when a file is acknowledged.
    pub fn mark_done(&self, name: &WalFileName) {
        fs::rename(self.mark(name, "ready"), self.mark(name, "done")).unwrap();
    }

    fn mark(&self, name: &WalFileName, state: &str) -> PathBuf {
        self.path().join(format!("archive_status/{name}.{state}"))
    }
}
