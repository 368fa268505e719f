//! The backups that one restore needs: the one that is asked for and, when it is
//! a delta, those that it builds on, down to a full one.

use std::collections::HashSet;
use std::path::Path;

use super::selection::{Selection, Take, listed_path};
use crate::catalogue::stored_backup::{StoredBackup, Tar};
use crate::catalogue::tar_set::says_where_each_file_is;
use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::store::ObjectStore;

/// What a restore reads, oldest backup first. A newer backup's files and pages
/// replace those of older ones.
#[derive(Debug)]
pub(crate) struct Chain {
    /// Never empty; the last one is the backup that is asked for.
    levels: Vec<Level>,
}

/// One backup of a chain.
#[derive(Debug)]
pub(crate) struct Level {
    /// What is stored of it.
    pub(crate) backup: StoredBackup,
    /// What is taken of it.
    pub(crate) selection: Selection,
    /// The tars, by file name, that have files that are taken whole, as its list says; `None`
    /// when it does not say.
    with_whole_files: Option<HashSet<String>>,
}

impl Chain {
    /// Reads what the store has of the backup `name`, or `LATEST`, and of those
    /// that it builds on.
    ///
    /// # Errors
    /// Those of [`StoredBackup::find`], and [`ErrorKind::Corrupt`] when a backup of
    /// the chain is missing, or is not the one that the delta was made on.
    pub(crate) async fn find(store: &dyn ObjectStore, name: &str) -> Result<Chain> {
        let tip = StoredBackup::find(store, name).await?;
        Chain::of(store, tip).await
    }

    /// As [`Chain::find`], for a backup that has been read.
    pub(crate) async fn of(store: &dyn ObjectStore, tip: StoredBackup) -> Result<Chain> {
        let is_delta = tip.sentinel.delta_from.is_some();
        if is_delta && tip.files.files.is_empty() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("base backup \"{}\" is a delta backup without a list of files", tip.name),
            )
            .with_detail("Without the list it is unknown which files come from the backup that it builds on.")
            .with_hint(format!("Restore a full backup; {} shows them.", Word::BackupList)));
        }
        let selection = Selection::of_tip(&tip.files, is_delta)?;
        let mut levels = vec![Level::new(tip, selection)];
        while let Some(parent) = parent(&levels)? {
            let child = &levels[levels.len() - 1];
            let backup =
                StoredBackup::read(store, &parent).await.map_err(|error| match error.kind() {
                    ErrorKind::NotFound => gone(&child.backup.name, &parent),
                    _ => error,
                })?;
            check_parent(&child.backup, &backup)?;
            let is_delta = backup.sentinel.delta_from.is_some();
            let selection = child.selection.of_parent(&backup.files, is_delta, &parent)?;
            levels.push(Level::new(backup, selection));
        }
        levels.reverse();
        Ok(Chain { levels })
    }

    /// The backup that is asked for.
    pub(crate) fn tip(&self) -> &StoredBackup {
        &self.levels[self.levels.len() - 1].backup
    }

    /// All of it, oldest first.
    pub(crate) fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// As [`Chain::levels`].
    pub(crate) fn into_levels(self) -> Vec<Level> {
        self.levels
    }

    /// Stored bytes of all tars that are read.
    pub(crate) fn bytes(&self) -> u64 {
        let parts = self.levels.iter().flat_map(|level| level.tars());
        parts.chain(self.tip().own_tars()).map(|tar| tar.object.size_bytes).sum()
    }

    /// Bytes of the files of all backups, as they say themselves; `None` when one
    /// does not say.
    pub(crate) fn file_bytes(&self) -> Option<u64> {
        let mut sizes = self.levels.iter().map(|level| level.backup.file_bytes());
        sizes.try_fold(0_u64, |sum, size| sum.checked_add(size?))
    }
}

impl Level {
    /// The list of files has become the selection; it is large, and there may be many.
    fn new(mut backup: StoredBackup, selection: Selection) -> Self {
        let files = std::mem::take(&mut backup.files);
        let is_whole = |name: &String| {
            listed_path(name)
                .is_ok_and(|path| selection.take(Path::new(&path)) == Some(Take::Whole))
        };
        let with_whole_files = says_where_each_file_is(&files).then(|| {
            let whole =
                files.tar_file_sets.into_iter().filter(|(_, names)| names.iter().any(is_whole));
            whole.map(|(tar, _)| tar).collect()
        });
        Level { backup, selection, with_whole_files }
    }

    /// Whether files may be taken whole from this tar.
    pub(crate) fn may_have_whole_files(&self, tar: &Tar) -> bool {
        self.with_whole_files.as_ref().is_none_or(|tars| tars.contains(tar.file_name()))
    }

    /// The partitions that are read: none when nothing of this backup is needed.
    pub(crate) fn tars(&self) -> &[Tar] {
        match self.selection.is_empty() {
            true => &[],
            false => &self.backup.partitions,
        }
    }
}

/// Whether a sentinel may name a backup so: it becomes part of keys.
pub(crate) fn is_name(parent: &str) -> bool {
    layout::timeline_of_backup(parent).is_some() && !parent.contains('/')
}

/// The name of the backup that the oldest one so far builds on.
fn parent(levels: &[Level]) -> Result<Option<String>> {
    let child = &levels[levels.len() - 1].backup;
    let Some(parent) = &child.sentinel.delta_from else { return Ok(None) };
    let repeated = levels.iter().any(|level| level.backup.name == *parent);
    if !is_name(parent) || repeated {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "the sentinel of base backup \"{}\" is damaged: it is a delta of \"{parent}\"",
                child.name
            ),
        )
        .with_hint(format!("Restore another base backup; {} shows them.", Word::BackupList)));
    }
    Ok(Some(parent.clone()))
}

/// A backup of that name may be another one than the delta was made on.
fn check_parent(child: &StoredBackup, parent: &StoredBackup) -> Result<()> {
    let differ = |what: &str, expected: String, found: String| {
        Error::new(
            ErrorKind::Corrupt,
            format!(
                "base backup \"{}\" is a delta of a different backup than the stored \"{}\"",
                child.name, parent.name
            ),
        )
        .with_detail(format!("The {what} should be {expected} but is {found}."))
        .with_hint(format!("Restore another base backup; {} shows them.", Word::BackupList))
    };
    if let (Some(expected), Some(found)) = (child.sentinel.delta_lsn, parent.sentinel.lsn)
        && expected != found
    {
        return Err(differ("start LSN", expected.to_string(), found.to_string()));
    }
    if let (Some(expected), Some(found)) =
        (child.sentinel.system_identifier, parent.sentinel.system_identifier)
        && expected != found
    {
        return Err(differ("system identifier", expected.to_string(), found.to_string()));
    }
    Ok(())
}

fn gone(child: &str, parent: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("base backup \"{child}\" cannot be restored: there is no base backup \"{parent}\""),
    )
    .with_detail(format!(
        "\"{child}\" is a delta backup: the data that did not change since then is in \"{parent}\"."
    ))
    .with_hint(format!("Restore another base backup; {} shows them.", Word::BackupList))
}
