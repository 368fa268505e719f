//! WAL segments that were fetched before the server asked for them.
//!
//! A `restore_command` is a new process for each file. What is fetched ahead lies
//! in a directory inside that of the WAL, where giving it to the server is a
//! rename:
//!
//! ```text
//! pg_wal/.wal-e/prefetch/     belongs to the owner of pg_wal, and to no other user
//!     lock                    locked by the helper for as long as it lives
//!     position                what the server has got last
//!     running/SEGMENT         a mark: it is being fetched, into SEGMENT.part
//!     SEGMENT-MARK            whole, verified, on disk
//! ```
//!
//! The mark is a checksum over the content, the name and the archive: a file that
//! was damaged, is half-written, or came from another archive is never used.
//! One helper ([`prefetch_ahead`]) keeps the directory filled. Nothing here decides
//! whether a segment is in the archive: what cannot be taken is fetched directly.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::tablespace_guard::{Admission, Next, TablespaceGuard};
use super::temporary::Temporary;
use crate::archived::Content;
use crate::catalogue::locate::KeyEnding;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{SegmentSize, SystemIdentifier, WalFileKind, WalFileName};

mod ahead;

pub use ahead::prefetch_ahead;

/// The directory of everything that wal_e keeps beside the WAL of a server that
/// recovers. PostgreSQL passes over what is not named like a WAL file.
const OWN_DIRECTORY: &str = ".wal-e";

/// How often a segment that is being fetched is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// A segment that has not grown for so long is fetched directly instead.
const STALLED_AFTER: Duration = Duration::from_secs(2);

/// The longest that a segment under way is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What the server has got last, for the helper to go on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The segment.
    pub segment: WalFileName,
    /// Its size.
    pub segment_size: SegmentSize,
    /// How many of the following segments are fetched ahead.
    pub depth: u16,
    /// What the key of its object ends with.
    pub ending: KeyEnding,
}

/// What became of an attempt to use a prefetched segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is in place.
    Served(SegmentSize),
    /// It was there and is not what it should be, as the error says; it is removed.
    Unusable(Error),
    /// The server must not get it, as the error says.
    Refused(Error),
    /// It is not there.
    Absent,
}

/// The directory of the segments that were fetched ahead for one server.
#[derive(Debug, Clone)]
pub struct PrefetchDirectory {
    wal_directory: PathBuf,
    archive: String,
}

impl PrefetchDirectory {
    /// The directory inside `wal_directory`, for segments from `archive`: text that
    /// no other archive has. Nothing is made yet.
    pub fn new(wal_directory: &Path, archive: &str) -> Self {
        let archive = format!("{:016x}", xxh3_64(archive.as_bytes()));
        PrefetchDirectory { wal_directory: wal_directory.to_owned(), archive }
    }

    /// Puts the segment `name` in place at `destination`, on the same file system,
    /// if it was fetched ahead. Waits for one that the helper is fetching just now,
    /// as long as it grows. `guard` looks at it before. Blocks.
    pub fn take(
        &self,
        name: &WalFileName,
        destination: &Path,
        system_identifier: Option<SystemIdentifier>,
        guard: Option<&TablespaceGuard>,
    ) -> Taken {
        if name.kind() != WalFileKind::Segment || !self.is_private(&self.path()) {
            return Taken::Absent;
        }
        let mut growth = Growth::new();
        loop {
            let running = self.running(name).exists();
            if let Some(path) = self.find(name) {
                let used = self.use_file(name, &path, destination, system_identifier, guard);
                return match used {
                    Ok(Some(size)) => Taken::Served(size),
                    Ok(None) => Taken::Absent,
                    Err(error) if error.kind() == ErrorKind::Unsafe => Taken::Refused(error),
                    Err(error) => {
                        let _ = fs::remove_file(&path);
                        Taken::Unusable(error)
                    }
                };
            }
            // The mark was looked for first, so the file did not just become whole.
            let bytes = || fs::metadata(self.part(name)).map_or(0, |part| part.len());
            if !running || growth.has_stalled(bytes()) || !self.has_helper() {
                return Taken::Absent;
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Notes how far the server is. A helper that runs sees it soon.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::DiskFull`]: nothing is fetched ahead then.
    pub fn note(&self, position: &Position) -> Result<()> {
        self.create()?;
        let text = format!(
            "{} {} {} {} {}",
            self.archive,
            position.segment,
            position.segment_size.bytes(),
            position.depth,
            position.ending.as_str()
        );
        let path = self.path().join("position");
        let (temporary, mut file) = Temporary::create(Temporary::name_beside(&path))?;
        io::Write::write_all(&mut file, text.as_bytes())
            .and_then(|()| temporary.rename_to(&path))
            .map_err(|error| Error::file("write file", &path, &error))
    }

    /// What was noted last, if it can be read.
    pub fn position(&self) -> Option<Position> {
        self.noted().filter(|(archive, _)| *archive == self.archive).map(|(_, position)| position)
    }

    /// Whether a helper lives and keeps the directory filled.
    pub fn has_helper(&self) -> bool {
        let Ok(file) = File::open(self.path().join("lock")) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Removes what a helper left that was killed. Nothing happens while one lives.
    pub fn remove_leftovers(&self) {
        if self.is_private(&self.path())
            && let Ok(Some(_lock)) = self.lock()
        {
            self.remove();
        }
    }

    fn path(&self) -> PathBuf {
        self.wal_directory.join(OWN_DIRECTORY).join("prefetch")
    }

    fn running(&self, name: &WalFileName) -> PathBuf {
        self.path().join("running").join(name.as_str())
    }

    fn part(&self, name: &WalFileName) -> PathBuf {
        self.path().join("running").join(format!("{name}.part"))
    }

    /// Where a whole segment with this content lies.
    fn place(&self, name: &WalFileName, content: &Content) -> PathBuf {
        self.path().join(format!("{name}-{}", self.mark(name, content)))
    }

    fn mark(&self, name: &WalFileName, content: &Content) -> String {
        let marked = format!("{} {name} {:032x}", self.archive, content.digest());
        format!("{:032x}", xxh3_128(marked.as_bytes()))
    }

    /// The whole segments that are there, as their names say.
    fn whole_files(&self) -> Vec<(WalFileName, PathBuf)> {
        let entries = fs::read_dir(self.path()).into_iter().flatten().flatten();
        let segment = |path: PathBuf| {
            let (name, _) = path.file_name()?.to_str()?.split_once('-')?;
            Some((name.parse().ok()?, path))
        };
        entries.filter_map(|entry| segment(entry.path())).collect()
    }

    fn find(&self, name: &WalFileName) -> Option<PathBuf> {
        let found = self.whole_files().into_iter().find(|(found, _)| found == name);
        found.map(|(_, path)| path)
    }

    /// Checks a file, all of it, and gives it to the server. `None` when the guard wants
    /// to see the next one first, which is not looked for here.
    fn use_file(
        &self,
        name: &WalFileName,
        path: &Path,
        destination: &Path,
        system_identifier: Option<SystemIdentifier>,
        guard: Option<&TablespaceGuard>,
    ) -> Result<Option<SegmentSize>> {
        let failed = |error: &io::Error| Error::file("use prefetched file", path, error);
        let unusable = |what: &str| {
            let message = format!("prefetched file \"{}\" {what}", path.display());
            Error::new(ErrorKind::Corrupt, message)
        };
        if !fs::symlink_metadata(path).map_err(|error| failed(&error))?.is_file() {
            return Err(unusable("is not a regular file"));
        }
        let mut file = File::open(path).map_err(|error| failed(&error))?;
        let mut content = Content::new();
        let mut buffer = vec![0; super::READ_BYTES];
        loop {
            let length = file.read(&mut buffer).map_err(|error| failed(&error))?;
            content.update(&buffer[..length]);
            if length == 0 || content.is_too_large() {
                break;
            }
        }
        if self.place(name, &content) != path {
            return Err(unusable("is damaged or from another archive"));
        }
        content.check(name, system_identifier, None, &path.display().to_string())?;
        let size = SegmentSize::new(content.bytes()).ok_or_else(|| unusable("has a wrong size"))?;
        if let Some(guard) = guard
            && guard.admit(name, path, &Next::NotAsked)? == Admission::NeedsNext
        {
            return Ok(None);
        }
        fs::rename(path, destination).map_err(|error| failed(&error))?;
        Ok(Some(size))
    }

    /// The archive and the position that the file says.
    fn noted(&self) -> Option<(String, Position)> {
        let text = fs::read_to_string(self.path().join("position")).ok()?;
        let mut fields = text.splitn(5, ' ');
        let archive = fields.next()?.to_owned();
        let segment: WalFileName = fields.next()?.parse().ok()?;
        let position = Position {
            segment,
            segment_size: SegmentSize::new(fields.next()?.parse().ok()?)?,
            depth: fields.next()?.parse().ok()?,
            ending: KeyEnding::new(fields.next()?)?,
        };
        (position.segment.kind() == WalFileKind::Segment).then_some((archive, position))
    }

    /// Makes the directories, unless something else is in their place.
    fn create(&self) -> Result<()> {
        let path = self.path();
        let own = self.wal_directory.join(OWN_DIRECTORY);
        for directory in [own, path.clone(), path.join("running")] {
            match DirBuilder::new().mode(0o700).create(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::file("create directory", &directory, &error));
                }
                _ if self.is_private(&directory) => {}
                _ => {
                    let message = format!(
                        "\"{}\" is not a directory that belongs to the server alone",
                        directory.display()
                    );
                    return Err(Error::new(ErrorKind::Config, message)
                        .with_hint("Remove it; WAL is not fetched ahead until then."));
                }
            }
        }
        Ok(())
    }

    /// Whether it is a directory, and not a link to one, in which only the owner of the
    /// WAL can have put something.
    fn is_private(&self, directory: &Path) -> bool {
        let Ok(of_wal) = fs::metadata(&self.wal_directory) else { return false };
        fs::symlink_metadata(directory).is_ok_and(|found| {
            found.is_dir() && found.uid() == of_wal.uid() && found.mode() & 0o022 == 0
        })
    }

    /// The lock, unless another process has it.
    fn lock(&self) -> Result<Option<Lock>> {
        let path = self.path().join("lock");
        let failed = |error: &io::Error| Error::file("lock file", &path, error);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| failed(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { file, path }).filter(Lock::is_in_place)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(&error)),
        }
    }

    /// Removes everything. Only the process with the lock may. A failure is left for the next
    /// helper.
    fn remove(&self) {
        let own = self.wal_directory.join(OWN_DIRECTORY);
        // Another helper may begin anew meanwhile, and must not lose its files.
        let removed = own.join(format!("removed-{:016x}", fastrand::u64(..)));
        let _ = fs::rename(self.path(), removed);
        self.remove_removed();
        let _ = fs::remove_dir(own);
    }

    fn remove_removed(&self) {
        let own = self.wal_directory.join(OWN_DIRECTORY);
        for entry in fs::read_dir(own).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b"removed-") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// The right to fetch ahead, held until it is dropped or the process ends.
#[derive(Debug)]
struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Whether the directory is still the one that was locked.
    fn is_in_place(&self) -> bool {
        let identity = |found: fs::Metadata| (found.dev(), found.ino());
        let locked = self.file.metadata().map(identity).ok();
        locked.is_some() && locked == fs::symlink_metadata(&self.path).map(identity).ok()
    }
}

/// Whether a file still grows.
struct Growth {
    began: Instant,
    bytes: u64,
    grew: Instant,
}

impl Growth {
    fn new() -> Self {
        let now = Instant::now();
        Growth { began: now, bytes: 0, grew: now }
    }

    fn has_stalled(&mut self, bytes: u64) -> bool {
        if bytes > self.bytes {
            (self.bytes, self.grew) = (bytes, Instant::now());
        }
        self.grew.elapsed() > STALLED_AFTER || self.began.elapsed() > LONGEST_WAIT
    }
}

#[cfg(test)]
mod tests;
