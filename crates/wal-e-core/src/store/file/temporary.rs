//! The temporary file that becomes an object.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::naming::{KnownNaming, Naming};
use crate::store::{PutMode, PutOutcome};

/// How much is written at once: small enough to see a slow disk move.
const PIECE_BYTES: usize = 1024 * 1024;

/// How the names of temporary files begin; listings leave them out.
pub(super) const NAME_PREFIX: &str = ".wal-e-tmp-";

/// An upload that has not written for so long is dead: its process was killed.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A file under a temporary name, which is removed when this value is dropped.
#[derive(Debug)]
pub(super) struct TemporaryFile {
    file: File,
    path: PathBuf,
    /// Set once the temporary name is gone.
    renamed: AtomicBool,
}

impl TemporaryFile {
    /// A new, empty file in `directory`.
    pub(super) fn create(directory: &Path) -> io::Result<TemporaryFile> {
        let name = format!("{NAME_PREFIX}{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = directory.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(TemporaryFile { file, path, renamed: AtomicBool::new(false) })
    }

    /// Where it is until it has its name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `bytes` at `offset`, and counts the pieces.
    pub(super) fn write_at(&self, pieces: &AtomicU64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut at = offset;
        for piece in bytes.chunks(PIECE_BYTES) {
            self.file.write_all_at(piece, at)?;
            at += piece.len() as u64;
            pieces.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes its content durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives it the name `target`, which is not yet durable then.
    pub(super) fn publish(
        &self,
        target: &Path,
        mode: PutMode,
        naming: &KnownNaming,
    ) -> io::Result<PutOutcome> {
        match mode {
            PutMode::Replace => {
                match std::fs::rename(&self.path, target) {
                    Err(error) if !self.is_at(target) => return Err(error),
                    _ => self.renamed.store(true, Ordering::Relaxed),
                }
                Ok(PutOutcome::Stored)
            }
            PutMode::CreateOnly => match naming.name(&self.path, target) {
                Ok(way) => {
                    self.renamed.store(way != Naming::HardLink, Ordering::Relaxed);
                    Ok(PutOutcome::Stored)
                }
                Err(_) if self.is_at(target) => Ok(PutOutcome::Stored),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    Ok(PutOutcome::AlreadyExists)
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Whether this file is what `target` names. A server of files that lost its answer
    /// is asked again by the kernel, and then says of its own work that it is there
    /// already, or that nothing is left to be renamed (link(2), rename(2): "Bugs").
    fn is_at(&self, target: &Path) -> bool {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let found = std::fs::symlink_metadata(target).map(identity);
        found.is_ok_and(|found| self.file.metadata().is_ok_and(|own| identity(own) == found))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.renamed.load(Ordering::Relaxed) {
            // Nothing can be done about a failure here; it is removed as stale later.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes the temporary files in `directory` that were not written to for
/// longer than `limit`. This is tidying up: a failure is left for the next time.
pub(super) fn remove_older_than(directory: &Path, limit: Duration) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(NAME_PREFIX.as_bytes()) {
            continue;
        }
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if age.is_some_and(|age| age > limit) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
