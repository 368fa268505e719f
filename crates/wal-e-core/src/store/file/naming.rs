//! How a finished file gets its name without taking another file's place: by the strongest
//! way that the file system has.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// A way to give a file its name, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Naming {
    /// A second name, which the system refuses where the name is taken (link(2)).
    HardLink,
    /// A move, with the same refusal (renameat2(2), `RENAME_NOREPLACE`).
    MoveToFreeName,
    /// A look, and then a move: of two writers at the same moment, one can replace the
    /// other's file.
    LookFirst,
}

impl Naming {
    const ALL: [Naming; 3] = [Naming::HardLink, Naming::MoveToFreeName, Naming::LookFirst];

    /// Gives the file at `from` the name `to`.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when there is a file of that name.
    fn name(self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Naming::HardLink => std::fs::hard_link(from, to),
            Naming::MoveToFreeName => {
                Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
            }
            Naming::LookFirst => match std::fs::symlink_metadata(to) {
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::rename(from, to),
                Err(error) => Err(error),
            },
        }
    }

    /// Whether of several writers exactly one gets the name.
    pub(super) fn is_atomic(self) -> bool {
        self != Naming::LookFirst
    }
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Naming::HardLink => "hard links",
            Naming::MoveToFreeName => "renames that do not replace",
            Naming::LookFirst => "renames after a look, as the file system has nothing better",
        })
    }
}

/// The strongest way that has been found to work in a directory.
#[derive(Debug, Default)]
pub(super) struct KnownNaming(AtomicU8);

impl KnownNaming {
    /// The way that is used.
    pub(super) fn get(&self) -> Naming {
        Naming::ALL[usize::from(self.0.load(Ordering::Relaxed)).min(2)]
    }

    /// Takes no stronger way than this one from now on.
    pub(super) fn set(&self, naming: Naming) {
        self.0.store(naming as u8, Ordering::Relaxed);
    }

    /// Gives the file at `from` the name `to`, and says by which way. What the file system
    /// does not have is not tried again, once a weaker way has shown that it was that.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when there is a file of that name.
    pub(super) fn name(&self, from: &Path, to: &Path) -> io::Result<Naming> {
        let first = self.get();
        for naming in Naming::ALL.into_iter().filter(|naming| *naming >= first) {
            match naming.name(from, to) {
                Err(error) if naming.is_atomic() && is_lacking(&error) => {}
                result => {
                    let works = match &result {
                        Ok(()) => true,
                        Err(error) => error.kind() == io::ErrorKind::AlreadyExists,
                    };
                    if works && naming > first {
                        self.set(naming);
                    }
                    return result.map(|()| naming);
                }
            }
        }
        unreachable!("the weakest way has returned")
    }
}

/// What a file system answers that has no such operation: link(2) and renameat2(2), FUSE,
/// and the file systems of other systems (FAT, SMB, 9P). Where a file can have one name only,
/// some say that it has too many links, or that the names are on different file systems.
fn is_lacking(error: &io::Error) -> bool {
    let lacking =
        [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::MLINK, Errno::XDEV];
    Errno::from_io_error(error).is_some_and(|errno| lacking.contains(&errno))
}

/// Makes the names in a directory durable; false where the file system cannot. PostgreSQL
/// goes on in the same cases (src/common/file_utils.c, `fsync_fname`).
pub(super) fn sync_directory(directory: &Path) -> io::Result<bool> {
    let opened = std::fs::File::open(directory);
    let is_one_of = |error: &io::Error, known: &[Errno]| {
        Errno::from_io_error(error).is_some_and(|errno| known.contains(&errno))
    };
    let opened = match opened {
        Err(error) if is_one_of(&error, &[Errno::ISDIR, Errno::ACCESS]) => return Ok(false),
        opened => opened?,
    };
    match opened.sync_all() {
        Ok(()) => Ok(true),
        Err(error)
            if is_one_of(&error, &[Errno::BADF, Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS]) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_way_takes_the_place_of_another_file() {
        for naming in Naming::ALL {
            let directory = tempfile::tempdir().unwrap();
            let place = |name: &str| directory.path().join(name);
            fs::write(place("a"), "a").unwrap();
            fs::write(place("b"), "b").unwrap();
            naming.name(&place("a"), &place("object")).unwrap();
            let error = naming.name(&place("b"), &place("object")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{naming:?}");
            assert_eq!(fs::read(place("object")).unwrap(), b"a", "{naming:?}");
            assert!(place("b").exists());
        }
    }

    #[test]
    fn a_way_is_given_up_only_when_a_weaker_one_works() {
        let directory = tempfile::tempdir().unwrap();
        let known = KnownNaming::default();
        let missing = directory.path().join("missing");
        let to = directory.path().join("object");
        assert!(known.name(&missing, &to).is_err());
        assert_eq!(known.get(), Naming::HardLink);
        known.set(Naming::LookFirst);
        fs::write(directory.path().join("a"), "a").unwrap();
        assert_eq!(known.name(&directory.path().join("a"), &to).unwrap(), Naming::LookFirst);
    }
}
