//! Whether a file is still the same one.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Identifies a file, as opposed to one that takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileIdentity {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) bytes: u64,
    /// Seconds and nanoseconds of the last change of the content.
    pub(super) modified: (i64, i64),
    /// The same of the last change of the file in any way, which no program can
    /// set back.
    pub(super) changed: (i64, i64),
}

impl FileIdentity {
    /// The identity of the file at `path` as it is now; `None` when it does not exist.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}
