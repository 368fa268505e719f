//! What one call of `wal-push` stored ahead, for the next ones to know.
//!
//! An `archive_command` is a new process for each file. What it sends ahead is
//! noted in a directory beside the WAL, so that the next calls can answer
//! without asking the store. A note only saves time: one that is lost, cannot be
//! written, or does not fit the file any more makes the call archive the file
//! as if there had been none.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::file_identity::FileIdentity;
use crate::postgres::WalFileName;
use crate::postgres::archive_status::is_ready;

/// The directory of the notes, inside that of the WAL files.
const DIRECTORY: &str = "wal_e_confirmed";

/// A note that is older does not count: the longer ago, the more may have
/// happened to the archive.
const LONGEST_LIFE: Duration = Duration::from_secs(3600);

/// The notes of a server.
#[derive(Debug)]
pub struct ConfirmedFiles {
    wal_directory: PathBuf,
    archive: String,
}

impl ConfirmedFiles {
    /// The notes beside the WAL in `wal_directory`, of what `archive` has: text
    /// that no other archive has, on one line.
    pub fn new(wal_directory: &Path, archive: String) -> Self {
        ConfirmedFiles { wal_directory: wal_directory.to_owned(), archive }
    }

    /// Whether the file is noted as stored, as it is now. The note is gone afterwards.
    pub fn take(&self, name: &WalFileName) -> bool {
        let path = self.note(name);
        let Ok(noted) = fs::read_to_string(&path) else { return false };
        let age = fs::metadata(&path).and_then(|note| note.modified()).ok();
        let age = age.and_then(|noted_at| SystemTime::now().duration_since(noted_at).ok());
        // A note that stays could count for a later file of that name.
        let removed = fs::remove_file(&path).is_ok();
        let file = FileIdentity::of(&self.wal_directory.join(name.as_str()));
        removed
            && age.is_some_and(|age| age < LONGEST_LIFE)
            && file.is_some_and(|file| noted == self.text(&file))
    }

    /// Notes files that the archive has confirmed, and forgets those that the
    /// server no longer waits for.
    pub fn note_all(&self, files: &[(WalFileName, FileIdentity)]) {
        if !files.is_empty() {
            // It may be there already, or the disk may be full.
            let _ = fs::create_dir(self.wal_directory.join(DIRECTORY));
        }
        for (name, file) in files {
            let _ = fs::write(self.note(name), self.text(file));
        }
        for entry in
            fs::read_dir(self.wal_directory.join(DIRECTORY)).into_iter().flatten().flatten()
        {
            let name = entry.file_name();
            let name = name.to_str().and_then(|name| name.parse::<WalFileName>().ok());
            if name.is_some_and(|name| !is_ready(&self.wal_directory, &name)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn note(&self, name: &WalFileName) -> PathBuf {
        self.wal_directory.join(DIRECTORY).join(name.as_str())
    }

    /// One line, complete only with its end: a torn note does not count.
    fn text(&self, file: &FileIdentity) -> String {
        let FileIdentity { device, inode, bytes, modified, changed } = file;
        format!("{device} {inode} {bytes} {modified:?} {changed:?} {}\n", self.archive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: &str = "000000010000000000000002";

    fn fixture() -> (tempfile::TempDir, WalFileName, FileIdentity) {
        let dir = tempfile::tempdir().unwrap();
        let name: WalFileName = SEGMENT.parse().unwrap();
        fs::create_dir(dir.path().join("archive_status")).unwrap();
        fs::write(dir.path().join(format!("archive_status/{SEGMENT}.ready")), "").unwrap();
        fs::write(dir.path().join(SEGMENT), "content").unwrap();
        let file = FileIdentity::of(&dir.path().join(SEGMENT)).unwrap();
        (dir, name, file)
    }

    #[test]
    fn a_note_counts_once_and_for_its_archive_only() {
        let (dir, name, file) = fixture();
        let confirmed = ConfirmedFiles::new(dir.path(), "s3://bucket/a".to_owned());
        let elsewhere = ConfirmedFiles::new(dir.path(), "s3://bucket/b".to_owned());
        assert!(!confirmed.take(&name));
        let noted = [(name.clone(), file)];
        confirmed.note_all(&noted);
        assert!(confirmed.take(&name));
        assert!(!confirmed.take(&name));
        confirmed.note_all(&noted);
        assert!(!elsewhere.take(&name));
        assert!(!confirmed.take(&name), "it is gone");
    }

    #[test]
    fn a_note_of_another_file_or_a_torn_one_does_not_count() {
        let (dir, name, file) = fixture();
        let confirmed = ConfirmedFiles::new(dir.path(), "s3://bucket/a".to_owned());
        confirmed.note_all(&[(name.clone(), file.clone())]);
        fs::write(dir.path().join(SEGMENT), "other content").unwrap();
        assert!(!confirmed.take(&name));

        let file = FileIdentity::of(&dir.path().join(SEGMENT)).unwrap();
        confirmed.note_all(&[(name.clone(), file)]);
        let note = dir.path().join(DIRECTORY).join(SEGMENT);
        let text = fs::read_to_string(&note).unwrap();
        fs::write(&note, &text[..text.len() - 1]).unwrap();
        assert!(!confirmed.take(&name));
    }

    #[test]
    fn notes_of_files_that_no_longer_wait_are_removed() {
        let (dir, name, file) = fixture();
        let confirmed = ConfirmedFiles::new(dir.path(), "s3://bucket/a".to_owned());
        confirmed.note_all(&[(name.clone(), file)]);
        fs::remove_file(dir.path().join(format!("archive_status/{SEGMENT}.ready"))).unwrap();
        confirmed.note_all(&[]);
        assert_eq!(fs::read_dir(dir.path().join(DIRECTORY)).unwrap().count(), 0);
    }
}
