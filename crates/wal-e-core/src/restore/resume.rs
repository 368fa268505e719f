//! What of an interrupted restore can stay.
//!
//! A tar counts as restored when the note says so and all its files are there
//! with their sizes: the note was written after they were synced. All other
//! files are removed, and their tars are fetched again.
//!
//! In a chain, changed pages wait unsynced until the oldest backup gives the rest of their file. So
//! tars with pages are fetched again, and the pages of files that are complete are passed over. What
//! older backups gave stays as long as all tars of the newer ones are the same objects.

use std::collections::HashSet;
use std::path::Path;

use super::chain::Chain;
use super::destination::Destination;
use super::fetch::FetchRequest;
use super::journal::{self, DoneTar, Journal, Members, Subject};
use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::postgres::data_directory::{CONTROL_FILE, UNFINISHED_RESTORE};

/// How an interrupted restore stands.
#[derive(Debug)]
pub(super) enum Interrupted {
    /// These tars are on disk but for those that are needed again, and nothing else is.
    Unfinished(Vec<DoneTar>),
    /// Everything is on disk; only the note is left.
    Finished(Vec<DoneTar>),
}

/// The backup whose restore into `data_directory` was interrupted, if one was.
///
/// # Errors
/// [`ErrorKind::Config`] when the note does not name a backup, and those of the
/// file system.
pub fn interrupted_restore(data_directory: &Path) -> Result<Option<String>> {
    if !data_directory.join(UNFINISHED_RESTORE).is_file() {
        return Ok(None);
    }
    let (mut noted, _) = Journal::read(data_directory)?;
    Ok(noted.backups.pop())
}

/// Checks that an interrupted restore in a data directory, if there is one, is that of
/// `subject`.
///
/// # Errors
/// [`ErrorKind::Config`] when it is another one.
pub(super) fn check(data_directory: &Path, subject: &Subject) -> Result<()> {
    if !data_directory.join(UNFINISHED_RESTORE).is_file() {
        return Ok(());
    }
    let (noted, _) = Journal::read(data_directory)?;
    if noted == *subject { Ok(()) } else { Err(another(data_directory, &noted, subject)) }
}

/// Resumes the interrupted restore in `target`.
///
/// # Errors
/// [`ErrorKind::Config`] when it is another one; nothing is changed then.
pub(super) fn take_up(
    target: &Destination,
    chain: &Chain,
    subject: &Subject,
) -> Result<Interrupted> {
    let (noted, done) = Journal::read(target.data_directory())?;
    if noted != *subject {
        return Err(another(target.data_directory(), &noted, subject));
    }
    let control = target.data_directory().join(CONTROL_FILE);
    if control.symlink_metadata().is_ok_and(|found| found.is_file()) {
        return Ok(Interrupted::Finished(done));
    }
    target.check_marks()?;
    let kept = sound(target, chain, done);
    let whole = kept.iter().filter(|tar| !tar.is_needed_again).flat_map(|tar| &tar.members);
    let files = whole.filter(|(_, size)| size.is_some()).map(|(path, _)| Path::new(path));
    let mut files: HashSet<&Path> = files.collect();
    files.insert(Path::new(UNFINISHED_RESTORE));
    target.remove_files_but(|path| files.contains(path))?;
    Ok(Interrupted::Unfinished(kept))
}

/// The tars that are the same objects as before, with those that are needed again.
fn sound(target: &Destination, chain: &Chain, mut done: Vec<DoneTar>) -> Vec<DoneTar> {
    let mut kept = Vec::new();
    for level in chain.levels().iter().rev() {
        let mut are_all_the_same = true;
        for tar in level.tars() {
            let same = |noted: &DoneTar| {
                noted.backup == level.backup.name
                    && noted.tar == tar.file_name()
                    && noted.version == journal::version(tar)
            };
            let noted = done.iter().position(same).map(|position| done.swap_remove(position));
            let Some(mut noted) = noted else {
                are_all_the_same = false;
                continue;
            };
            noted.is_needed_again |= !is_there(target, &noted.members);
            kept.push(noted);
        }
        if !are_all_the_same {
            break;
        }
    }
    kept
}

/// Whether the members of a tar are on disk.
fn is_there(target: &Destination, members: &Members) -> bool {
    members.iter().all(|(path, size)| {
        let found = target.place(Path::new(path)).symlink_metadata();
        found.is_ok_and(|found| match size {
            None => found.is_dir(),
            Some(size) => found.is_file() && found.len() == *size,
        })
    })
}

fn another(data_directory: &Path, noted: &Subject, asked: &Subject) -> Error {
    let directory = data_directory.display();
    let error = Error::new(
        ErrorKind::Config,
        format!("directory \"{directory}\" holds another restore that was interrupted"),
    );
    let name = |subject: &Subject| subject.backups.last().cloned().unwrap_or_default();
    let or_remove = "or remove the contents of the directory and of its tablespaces.";
    if name(noted) == name(asked) {
        return error.with_detail("It puts tablespaces or WAL into other directories.").with_hint(
            format!("Repeat the interrupted command with {}, {or_remove}", Word::Resume),
        );
    }
    error.with_detail(format!("It is a restore of base backup \"{0}\".", name(noted))).with_hint(format!(
        "To resume it, ask for \"{0}\" by its name, with {1} and the other options as they were; {or_remove}",
        name(noted),
        Word::Resume
    ))
}

/// The keys of tars that are on disk since an earlier run.
pub(super) fn on_disk_before(request: &FetchRequest) -> HashSet<ObjectKey> {
    if !request.resume || !request.directory.join(UNFINISHED_RESTORE).is_file() {
        return HashSet::new();
    }
    // An error in the note is reported when the restore is resumed.
    let Ok((_, done)) = Journal::read(&request.directory) else { return HashSet::new() };
    let key = |tar: DoneTar| layout::tar_partition(&tar.backup, &tar.tar);
    done.into_iter().filter(|tar| !tar.is_needed_again).map(key).collect()
}
