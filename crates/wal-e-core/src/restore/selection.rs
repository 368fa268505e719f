//! Which files of one backup a restore takes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::member;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::data_directory::{BACKUP_LABEL, CONTROL_FILE, TABLESPACE_MAP};
use crate::sentinel::{FileMetadata, FilesMetadata};

/// How a member becomes a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    /// It is the file.
    Whole,
    /// It holds pages that replace those of the file.
    Pages,
}

impl Take {
    /// What is stored of a listed file; `None` when an older backup has it. In a full backup
    /// the marks of a delta have no meaning, as with WAL-G.
    pub(crate) fn of(file: &FileMetadata, is_delta: bool) -> Option<Take> {
        match (is_delta, file.is_skipped, file.is_incremented) {
            (false, ..) | (true, false, false) => Some(Take::Whole),
            (true, true, _) => None,
            (true, false, true) => Some(Take::Pages),
        }
    }
}

/// Which files of one backup of a chain are taken, and whether they have come.
#[derive(Debug)]
pub(crate) struct Selection {
    /// By path below the data directory; `None` takes everything.
    files: Option<HashMap<String, Wanted>>,
    /// Whether this is the backup that is asked for; its parents only lend files.
    is_tip: bool,
    /// One of its tars cannot be used.
    lacks_a_tar: AtomicBool,
}

#[derive(Debug)]
struct Wanted {
    /// `None`: an older backup has it.
    take: Option<Take>,
    came: AtomicBool,
}

/// These are always taken from the backup that is asked for, listed or not.
const ALWAYS: [&str; 3] = [CONTROL_FILE, BACKUP_LABEL, TABLESPACE_MAP];

impl Selection {
    /// All files of a full backup that has no list of them.
    pub(crate) fn everything() -> Self {
        Selection { files: None, is_tip: true, lacks_a_tar: AtomicBool::new(false) }
    }

    /// The files of the backup that is asked for. A backup without a list has
    /// everything taken.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for names that lead out of the data directory.
    pub(crate) fn of_tip(list: &FilesMetadata, is_delta: bool) -> Result<Self> {
        if list.files.is_empty() {
            return Ok(Selection::everything());
        }
        let files = list.files.iter().map(|(name, file)| {
            let take = Take::of(file, is_delta);
            Ok((listed_path(name)?, Wanted { take, came: AtomicBool::new(false) }))
        });
        let files = Some(files.collect::<Result<_>>()?);
        Ok(Selection { files, is_tip: true, lacks_a_tar: AtomicBool::new(false) })
    }

    /// The files that `self`, of a delta, needs from the backup `parent` that it
    /// builds on.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when `parent` does not have one of them.
    pub(crate) fn of_parent(
        &self,
        list: &FilesMetadata,
        is_delta: bool,
        parent: &str,
    ) -> Result<Selection> {
        let mut listed = HashMap::new();
        for (name, file) in &list.files {
            listed.insert(listed_path(name)?, file);
        }
        let mut files = HashMap::new();
        let own = self.files.iter().flatten();
        for (name, _) in own.filter(|(_, wanted)| wanted.take != Some(Take::Whole)) {
            let take = match listed.get(name) {
                Some(file) => Take::of(file, is_delta),
                // Without a list, its tars will show.
                None if listed.is_empty() && !is_delta => Some(Take::Whole),
                None => {
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        format!(
                            "base backup \"{parent}\" lacks file \"{name}\", which a delta backup needs from it"
                        ),
                    ));
                }
            };
            files.insert(name.clone(), Wanted { take, came: AtomicBool::new(false) });
        }
        Ok(Selection { files: Some(files), is_tip: false, lacks_a_tar: AtomicBool::new(false) })
    }

    /// Whether nothing of this backup is needed.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.as_ref().is_some_and(|files| files.values().all(|file| file.take.is_none()))
    }

    /// Whether directories, links and the control file are taken as well.
    pub(crate) fn is_tip(&self) -> bool {
        self.is_tip
    }

    /// What to do with a file; `None` leaves it out.
    pub(crate) fn take(&self, path: &Path) -> Option<Take> {
        let Some(files) = &self.files else { return Some(Take::Whole) };
        // A list is text, in which WAL-G replaces what of a name is not UTF-8.
        let path = path.to_string_lossy();
        if let Some(wanted) = files.get(path.as_ref()) {
            return wanted.take;
        }
        if self.is_tip && ALWAYS.contains(&path.as_ref()) {
            return Some(Take::Whole);
        }
        None
    }

    /// Whether the backup that is asked for has a list of files, and this one is not on it.
    pub(crate) fn is_unlisted(&self, path: &Path) -> bool {
        let is_listed = |files: &HashMap<_, _>| files.contains_key(path.to_string_lossy().as_ref());
        self.is_tip && self.files.as_ref().is_some_and(|files| !is_listed(files))
    }

    /// A member of any kind came out of a tar. Returns whether it is a listed one
    /// that came before.
    pub(crate) fn came(&self, path: &str) -> bool {
        let wanted = self.files.as_ref().and_then(|files| files.get(path));
        wanted.is_some_and(|wanted| wanted.came.swap(true, Ordering::Relaxed))
    }

    /// The tar in which it came turned out to be damaged.
    pub(crate) fn did_not_come(&self, path: &str) {
        if let Some(wanted) = self.files.as_ref().and_then(|files| files.get(path)) {
            wanted.came.store(false, Ordering::Relaxed);
        }
    }

    /// A tar cannot be used, so missing files need no report of their own.
    pub(crate) fn lacks_a_tar(&self) {
        self.lacks_a_tar.store(true, Ordering::Relaxed);
    }

    /// After all tars, if they were sound: the files that are listed, should have come, and
    /// did not, by their number and the first of them.
    pub(crate) fn missing(&self) -> Option<(usize, &str)> {
        if self.lacks_a_tar.load(Ordering::Relaxed) {
            return None;
        }
        let files = self.files.iter().flatten();
        let missing = files
            .filter(|(_, wanted)| wanted.take.is_some() && !wanted.came.load(Ordering::Relaxed));
        let names: Vec<&str> = missing.map(|(name, _)| name.as_str()).collect();
        Some((names.len(), names.iter().min()?))
    }
}

/// The path below the data directory that a name in a list of files means, as text.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for a name that leads out of the data directory.
pub(crate) fn listed_path(name: &str) -> Result<String> {
    let path = member::relative_path(Path::new(name))?;
    // It came from text.
    Ok(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(files: &[(&str, bool, bool)]) -> FilesMetadata {
        let files = files.iter().map(|(name, is_incremented, is_skipped)| {
            let file = FileMetadata {
                is_incremented: *is_incremented,
                is_skipped: *is_skipped,
                ..FileMetadata::default()
            };
            ((*name).to_owned(), file)
        });
        FilesMetadata { files: files.collect(), ..FilesMetadata::default() }
    }

    fn take(selection: &Selection, path: &str) -> Option<Take> {
        selection.take(Path::new(path))
    }

    #[test]
    fn a_full_backup_has_what_it_lists_taken_and_nothing_else() {
        let selection = Selection::of_tip(
            &list(&[("/base/1/2", false, false), ("PG_VERSION", true, true)]),
            false,
        )
        .unwrap();
        assert_eq!(take(&selection, "base/1/2"), Some(Take::Whole));
        assert_eq!(take(&selection, "PG_VERSION"), Some(Take::Whole));
        assert_eq!(take(&selection, "backup_label"), Some(Take::Whole));
        assert_eq!(take(&selection, "base/1/3"), None);
        assert_eq!(selection.missing(), Some((2, "PG_VERSION")));
        assert!(!selection.came("base/1/2") && selection.came("base/1/2"));
        assert_eq!(selection.missing(), Some((1, "PG_VERSION")));
        selection.came("PG_VERSION");
        assert_eq!(selection.missing(), None);
        selection.did_not_come("base/1/2");
        assert_eq!(selection.missing(), Some((1, "base/1/2")));
        selection.came("base/1/2");
        let everything = Selection::of_tip(&FilesMetadata::default(), false).unwrap();
        assert_eq!(take(&everything, "whatever"), Some(Take::Whole));
        assert_eq!(everything.missing(), None);
        assert!(Selection::of_tip(&list(&[("../x", false, false)]), false).is_err());
    }

    #[test]
    fn a_delta_takes_from_its_parents_what_it_does_not_have() {
        let tip = list(&[
            ("/whole", false, false),
            ("/pages", true, false),
            ("/same", false, true),
            ("/both", true, true),
        ]);
        let tip = Selection::of_tip(&tip, true).unwrap();
        assert_eq!(take(&tip, "whole"), Some(Take::Whole));
        assert_eq!(take(&tip, "pages"), Some(Take::Pages));
        assert_eq!(take(&tip, "same"), None);

        let middle = list(&[
            ("/whole", false, false),
            ("/pages", true, false),
            ("/same", false, false),
            ("/both", false, true),
            ("/dropped", false, false),
        ]);
        let middle = tip.of_parent(&middle, true, "base_1").unwrap();
        assert_eq!(take(&middle, "whole"), None, "the delta has it");
        assert_eq!(take(&middle, "pages"), Some(Take::Pages));
        assert_eq!(take(&middle, "same"), Some(Take::Whole));
        assert_eq!(take(&middle, "both"), None);
        assert_eq!(take(&middle, "dropped"), None);
        assert_eq!(take(&middle, "backup_label"), None, "only the delta's own");

        let full = list(&[("/pages", false, false), ("/both", false, false)]);
        let root = middle.of_parent(&full, false, "base_0").unwrap();
        assert_eq!(take(&root, "pages"), Some(Take::Whole));
        assert_eq!(take(&root, "both"), Some(Take::Whole));
        assert_eq!(take(&root, "same"), None);
        assert!(!root.is_empty());
        let without_list = middle.of_parent(&FilesMetadata::default(), false, "base_0").unwrap();
        assert_eq!(take(&without_list, "both"), Some(Take::Whole));

        let lacking = list(&[("/pages", false, false)]);
        let error = middle.of_parent(&lacking, false, "base_0").unwrap_err();
        assert!(error.message().contains("\"both\"") && error.message().contains("base_0"));
    }
}
