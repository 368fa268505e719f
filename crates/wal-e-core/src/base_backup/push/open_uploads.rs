//! Uploads in parts that nobody goes on with: those of backups that were killed, and
//! what this one may have left open itself.

use std::time::Duration;

use super::super::unfinished::Note;
use super::{BackupPush, BackupStart};
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::Notices;
use crate::store::ObjectStore;

/// How long a backup that is complete looks for uploads that it left open.
const CLEAN_UP_TIME: Duration = Duration::from_secs(30);

/// Notes that the backup `name` runs, after ending the uploads of those that were
/// killed. `None` when no note can be kept.
///
/// # Errors
/// [`ErrorKind::Conflict`] when a backup of the same taker runs.
pub(super) async fn claim(
    store: &dyn ObjectStore,
    start: &BackupStart,
    name: &str,
    notices: &Notices,
) -> Result<Option<Note>> {
    // A role that may only read the cluster can back it up all the same, and a disk that
    // is full wants a backup more than others.
    let unable = |error: &Error| {
        notices.log(format!(
            "{error}; should this backup be killed, the next one does not clean up after it"
        ));
    };
    let mut note = match Note::claim(start.taker, &start.data_directory) {
        Ok(note) => note,
        Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::DiskFull) => {
            unable(&error);
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut backups = abort_unfinished(store, note.unfinished(), notices).await;
    backups.push(name.to_owned());
    if let Err(error) = note.write(&backups) {
        unable(&error);
    }
    // Its lock keeps other backups away, whatever it says.
    Ok(Some(note))
}

/// Ends the uploads of backups that were killed; returns those where it failed.
async fn abort_unfinished(
    store: &dyn ObjectStore,
    backups: Vec<String>,
    notices: &Notices,
) -> Vec<String> {
    let mut left = Vec::new();
    for backup in backups {
        if let Err(error) = store.abort_uploads(&layout::backup_directory(&backup)).await {
            notices.warning(format!(
                "unfinished uploads of base backup \"{backup}\" may be left: {error}"
            ));
            left.push(backup);
        }
    }
    left
}

impl BackupPush {
    /// Ends what uploads the complete backup left open, and takes it out of the note.
    /// It stays there when the store could not be asked in time.
    pub(super) async fn end_own_uploads(&mut self) {
        // An upload that began and whose answer was lost is known to the store only.
        let own = layout::backup_directory(&self.name);
        let cleaned = tokio::time::timeout(CLEAN_UP_TIME, self.store.abort_uploads(&own)).await;
        if let (Some(mut note), Ok(Ok(()))) = (self.note.take(), cleaned) {
            let left: Vec<String> =
                note.unfinished().into_iter().filter(|backup| *backup != self.name).collect();
            if left.is_empty() {
                note.remove();
            } else if let Err(error) = note.write(&left) {
                self.notices.log(format!("the note of unfinished base backups stays: {error}"));
            }
        }
    }
}
