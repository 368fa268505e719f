//! Which prefixes a cluster has claimed, remembered in its data directory.
//!
//! The archive alone cannot show whether a place is empty or lost: a disk that was
//! not mounted after a reboot leaves its mount point, empty, and what is archived
//! there is gone when the disk is back. So a cluster remembers where it has seen
//! its `owner.json`, and does not start again there by itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable_file;
use crate::postgres::data_directory::KNOWN_PREFIXES;

/// The note of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPrefixes {
    path: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    /// The inode of the note itself. A copy of the data directory has another one: what
    /// the original has claimed is no reason to refuse an empty place to a copy, which
    /// may be on another machine.
    inode: u64,
    prefixes: Vec<String>,
}

impl KnownPrefixes {
    /// The note in a data directory.
    pub fn of(data_directory: &Path) -> Self {
        KnownPrefixes { path: data_directory.join(KNOWN_PREFIXES) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the cluster has claimed `prefix` before. A note that cannot be read
    /// says nothing.
    pub fn contains(&self, prefix: &str) -> bool {
        self.read().prefixes.iter().any(|known| known == prefix)
    }

    /// Adds `prefix`, durably.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn add(&self, prefix: &str) -> io::Result<()> {
        let mut note = self.read();
        if note.prefixes.iter().any(|known| known == prefix) {
            return Ok(());
        }
        note.prefixes.push(prefix.to_owned());
        durable_file::replace(&self.path, |file| {
            note.inode = file.metadata()?.ino();
            serde_json::to_vec(&note).map_err(io::Error::from)
        })
    }

    fn read(&self) -> Note {
        let read = || {
            let file = File::open(&self.path).ok()?;
            let inode = file.metadata().ok()?.ino();
            let note: Note = serde_json::from_reader(io::BufReader::new(file)).ok()?;
            (note.inode == inode).then_some(note)
        };
        read().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn prefixes_are_remembered_in_the_data_directory_and_not_in_a_copy_of_it() {
        let (data, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let known = KnownPrefixes::of(data.path());
        assert!(!known.contains("file:///a"));
        known.add("file:///a").unwrap();
        known.add("s3://b/c").unwrap();
        known.add("file:///a").unwrap();
        assert!(known.contains("file:///a") && known.contains("s3://b/c"));
        assert!(!known.contains("file:///"));
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1);

        let copied = KnownPrefixes::of(copy.path());
        fs::copy(known.path(), copied.path()).unwrap();
        assert!(!copied.contains("file:///a"));
        copied.add("file:///d").unwrap();
        assert!(copied.contains("file:///d") && !copied.contains("file:///a"));
    }

    #[test]
    fn a_damaged_note_says_nothing_and_is_replaced() {
        let data = tempfile::tempdir().unwrap();
        let known = KnownPrefixes::of(data.path());
        fs::write(known.path(), "{\"inode\":").unwrap();
        assert!(!known.contains("file:///a"));
        known.add("file:///a").unwrap();
        assert!(known.contains("file:///a"));
        fs::remove_file(known.path()).unwrap();
        assert!(!known.contains("file:///a"));
    }
}
