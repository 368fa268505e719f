//! What the file system says of objects' files. Of those of a page it is asked by several
//! threads: an old archive has a million.

use std::fs::Metadata;
use std::io;
use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, open, statat};
use time::OffsetDateTime;

use crate::error::{Error, Result};
use crate::layout::ObjectKey;
use crate::store::{Attributes, ObjectInfo};

/// To begin a thread takes as long as to look at so many files.
const LEAST_FOR_A_THREAD: usize = 250;

/// More threads than these wait for each other in the file system.
const MOST_THREADS: usize = 4;

/// A regular file, as the file system has it.
struct Facts {
    inode: u64,
    bytes: u64,
    modified_ns: i128,
}

impl Facts {
    fn object(self, key: ObjectKey) -> ObjectInfo {
        let Facts { inode, bytes, modified_ns } = self;
        ObjectInfo {
            key,
            size_bytes: bytes,
            last_modified: OffsetDateTime::from_unix_timestamp_nanos(modified_ns)
                .unwrap_or(OffsetDateTime::UNIX_EPOCH),
            etag: Some(format!("{inode:x}-{modified_ns:x}-{bytes:x}")),
            storage_class: None,
            attributes: Attributes::default(),
        }
    }
}

/// The object in a regular file.
pub(super) fn object_info(key: ObjectKey, metadata: &Metadata) -> ObjectInfo {
    let modified_ns = nanoseconds(metadata.mtime(), metadata.mtime_nsec());
    Facts { inode: metadata.ino(), bytes: metadata.len(), modified_ns }.object(key)
}

/// The objects of these keys, in the same order; those that are not there, and what is no
/// regular file, are left out.
pub(super) fn objects(root: &Path, keys: &[String]) -> Result<Vec<ObjectInfo>> {
    // Not opened to be read: to look at files below it takes less permission.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match open(root, flags, Mode::empty()).map_err(io::Error::from) {
        Ok(directory) => directory,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("open directory", root, &error)),
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = (keys.len() / LEAST_FOR_A_THREAD).min(cores).clamp(1, MOST_THREADS);
    let look = |keys: &[String]| -> Result<Vec<ObjectInfo>> {
        keys.iter().filter_map(|key| object(root, directory.as_fd(), key).transpose()).collect()
    };
    let (own, others) = keys.split_at(keys.len().div_ceil(threads));
    thread::scope(|scope| {
        let others = others.chunks(own.len().max(1));
        let others: Vec<_> = others.map(|keys| scope.spawn(move || look(keys))).collect();
        let mut objects = look(own)?;
        for other in others {
            match other.join() {
                Ok(found) => objects.append(&mut found?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(objects)
    })
}

fn object(root: &Path, directory: BorrowedFd<'_>, key: &str) -> Result<Option<ObjectInfo>> {
    let stat: Stat = match statat(directory, key, AtFlags::empty()) {
        Ok(stat) => stat,
        Err(errno) => {
            let error = io::Error::from(errno);
            return match is_missing(&error) {
                true => Ok(None),
                false => Err(Error::file("examine", &root.join(key), &error)),
            };
        }
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let facts = Facts {
        inode: stat.st_ino,
        bytes: u64::try_from(stat.st_size).unwrap_or(0),
        modified_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec as i64),
    };
    Ok(ObjectKey::from_listing(key).map(|key| facts.object(key)))
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

/// Whether there is no file of that name; also when a directory on the way to it is
/// a file.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
