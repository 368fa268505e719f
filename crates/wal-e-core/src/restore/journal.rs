//! The note of a restore that is not finished, in its data directory: which
//! backup, where to, and which tars are on disk, each with its files and their
//! sizes.
//!
//! One JSON object per line; the first says what is restored. A line is added once
//! all complete files of a tar are synced, so the note is true even when the process is killed.
//! A line that was cut off does not count.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::catalogue::stored_backup::Tar;
use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::data_directory::UNFINISHED_RESTORE;

/// Changes when the meaning of a note changes.
const FORMAT: u32 = 3;

/// What is restored, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    format: u32,
    /// The backups of the chain, the one that is asked for last.
    pub(super) backups: Vec<String>,
    /// The places of the tablespaces.
    pub(super) tablespaces: BTreeMap<u32, PathBuf>,
    /// Where the WAL is, when it is not in the data directory.
    #[serde(default)]
    pub(super) wal_directory: Option<PathBuf>,
}

impl Subject {
    pub(super) fn new(
        backups: Vec<String>,
        tablespaces: BTreeMap<u32, PathBuf>,
        wal_directory: Option<PathBuf>,
    ) -> Self {
        Subject { format: FORMAT, backups, tablespaces, wal_directory }
    }
}

/// A tar that has been restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DoneTar {
    /// Its backup.
    pub(super) backup: String,
    /// Its name.
    pub(super) tar: String,
    /// Distinguishes the object from others of the same name.
    pub(super) version: String,
    /// Those of its members that are on disk.
    pub(super) members: Members,
    /// Whether there are others as well, so that it is fetched again. Until then the note says
    /// which object it was that gave them.
    pub(super) is_needed_again: bool,
}

/// What a tar has put on disk, by path below the data directory: complete files with their sizes,
/// and directories.
pub(super) type Members = Vec<(String, Option<u64>)>;

/// Distinguishes an object from others of the same name, as far as a listing can.
pub(super) fn version(tar: &Tar) -> String {
    let object = &tar.object;
    let etag = object.etag.as_deref().unwrap_or_default();
    format!("{} {} {etag}", object.size_bytes, object.last_modified.unix_timestamp_nanos())
}

/// The note of the restore that runs.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    /// Begins a note, in place of an older one, with the tars that are on disk already.
    pub(super) fn begin(
        data_directory: &Path,
        subject: &Subject,
        done: &[DoneTar],
    ) -> Result<Self> {
        let path = data_directory.join(UNFINISHED_RESTORE);
        let new = data_directory.join(format!("{UNFINISHED_RESTORE}.new"));
        let failed = |error| Error::file("write file", &path, &error);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(failed)?;
        file.write_all(&line(subject)?).map_err(failed)?;
        for tar in done {
            file.write_all(&line(tar)?).map_err(failed)?;
        }
        file.sync_all()
            .and_then(|()| fs::rename(&new, &path))
            // An older note that came back would call files restored that are not.
            .and_then(|()| File::open(data_directory)?.sync_all())
            .map_err(failed)?;
        Ok(Journal { path, file: Mutex::new(file) })
    }

    /// The files of a tar are on disk.
    pub(super) fn add(&self, tar: &DoneTar) -> Result<()> {
        let line = line(tar)?;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line)
            .and_then(|()| file.sync_data())
            .map_err(|error| Error::file("write file", &self.path, &error))
    }

    /// The restore is finished.
    pub(super) fn remove(&self) -> Result<()> {
        fs::remove_file(&self.path).map_err(|error| Error::file("remove file", &self.path, &error))
    }

    /// What the note in a data directory says.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it does not say what is restored.
    pub(super) fn read(data_directory: &Path) -> Result<(Subject, Vec<DoneTar>)> {
        let path = data_directory.join(UNFINISHED_RESTORE);
        let failed = |error| Error::file("read file", &path, &error);
        let mut lines = BufReader::new(File::open(&path).map_err(failed)?).split(b'\n');
        let first = lines.next().transpose().map_err(failed)?.unwrap_or_default();
        let subject = serde_json::from_slice::<Subject>(&first).ok();
        let Some(subject) = subject.filter(|subject| subject.format == FORMAT) else {
            return Err(Error::new(
                ErrorKind::Config,
                format!("file \"{}\" does not say what was restored", path.display()),
            )
            .with_hint(format!(
                "Remove the contents of the directory, and restore without {}.",
                Word::Resume
            )));
        };
        let mut done = Vec::new();
        for line in lines {
            // Nothing was written after a line that was cut off.
            let Ok(tar) = serde_json::from_slice::<DoneTar>(&line.map_err(failed)?) else { break };
            // One that was fetched again has two lines.
            done.retain(|noted: &DoneTar| (&noted.backup, &noted.tar) != (&tar.backup, &tar.tar));
            done.push(tar);
        }
        Ok((subject, done))
    }
}

fn line<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value).map_err(|error| {
        Error::new(ErrorKind::Config, format!("could not record what is restored: {error}"))
    })?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(tar: &str) -> DoneTar {
        DoneTar {
            backup: "base_1".into(),
            tar: tar.into(),
            version: "v".into(),
            members: vec![("base".into(), None), ("base/1".into(), Some(8192))],
            is_needed_again: true,
        }
    }

    #[test]
    fn a_note_says_what_was_added_and_nothing_of_a_line_that_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let subject = Subject::new(
            vec!["base_1".into()],
            BTreeMap::from([(16384, "/ts\none".into())]),
            Some("/wal".into()),
        );
        let journal = Journal::begin(dir.path(), &subject, &[]).unwrap();
        journal.add(&done("part_001.tar")).unwrap();
        journal.add(&done("part_002.tar")).unwrap();
        // Fetched again by a resumed restore.
        journal.add(&done("part_001.tar")).unwrap();
        let all = (subject.clone(), vec![done("part_002.tar"), done("part_001.tar")]);
        assert_eq!(Journal::read(dir.path()).unwrap(), all);
        let path = dir.path().join(UNFINISHED_RESTORE);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let cut = [done("part_001.tar"), done("part_002.tar")];
        assert_eq!(Journal::read(dir.path()).unwrap().1, cut);

        let kept = [done("part_001.tar")];
        let journal = Journal::begin(dir.path(), &subject, &kept).unwrap();
        journal.add(&done("part_003.tar")).unwrap();
        assert_eq!(Journal::read(dir.path()).unwrap().1.len(), 2);
        journal.remove().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_note_without_a_subject_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for content in ["", "x", "{}", r#"{"format":1,"backups":[],"tablespaces":{}}"#] {
            fs::write(dir.path().join(UNFINISHED_RESTORE), content).unwrap();
            assert_eq!(Journal::read(dir.path()).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
