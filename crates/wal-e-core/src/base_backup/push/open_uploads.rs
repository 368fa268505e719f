//! Multipart uploads that no process continues: those of backups that were killed, and
//! those that this one may have left open itself.
//!
//! A backup keeps an [`UploadNote`] in the data directory while it runs. The next one
//! ends each upload in it by its number. Beyond those there may be some that began and
//! whose answer was lost: only the store knows them, and is asked for what is open below
//! the backup's name, where it lets these credentials list it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::super::start::{BackupStart, Taker};
use super::BackupPush;
use crate::base_backup::draft::begun;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::Notices;
use crate::postgres::data_directory::UNFINISHED_BACKUP;
use crate::postgres::{LOCK_FILE, ServerStart};
use crate::store::{ListRequest, ObjectStore, list_all};
use crate::transfer::{Open, Origin, UploadNote};

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
) -> Result<Option<Arc<UploadNote>>> {
    let path = note_path(&start.data_directory, start.taker);
    // A role that may only read the cluster can back it up all the same, and a disk that
    // is full wants a backup more than others.
    let unable = |error: &Error| {
        notices.log(format!(
            "{error}; if this backup is killed, the next one does not clean up after it"
        ));
    };
    let server = running_server(&start.data_directory);
    let note = match UploadNote::claim(&path, server) {
        Ok(Some(note)) => note,
        Ok(None) => return Err(another_runs(&path)),
        Err(error) => {
            unable(&error);
            return Ok(None);
        }
    };
    end_left(store, &note, server, notices).await;
    if let Err(error) = note.add(Open::Below(layout::backup_directory(name))) {
        unable(&error);
    }
    // Its lock keeps other backups away, even when the entry could not be written.
    Ok(Some(Arc::new(note)))
}

fn another_runs(note: &Path) -> Error {
    Error::new(ErrorKind::Conflict, "another base backup of this server is running")
        .with_detail(format!("It holds a lock on \"{}\".", note.display()))
}

fn running_server(data_directory: &Path) -> Option<ServerStart> {
    let lock_file = fs::read_to_string(data_directory.join(LOCK_FILE)).ok()?;
    ServerStart::parse(&lock_file)
}

/// Ends the uploads of backups that were killed. Those where it failed stay in the note.
async fn end_left(
    store: &dyn ObjectStore,
    note: &UploadNote,
    server: Option<ServerStart>,
    notices: &Notices,
) {
    let Some((origin, left)) = note.left() else { return };
    for open in left {
        let ended = async {
            if *origin == Origin::SameFile
                && let Some(server) = server
                && has_gone_on(store, open, server.started).await?
            {
                return Ok(());
            }
            end_killed(store, open).await
        };
        match ended.await {
            Ok(()) => note.remove(open),
            // It would be refused the next time, too; what is known by its number is ended.
            Err(error) if is_refused_listing(open, &error) => note.remove(open),
            Err(error) => {
                notices.warning(format!(
                    "multipart uploads of a base backup that was killed may remain: {error}"
                ));
                // The others would take as long to fail.
                if error.is_transient() {
                    return;
                }
            }
        }
    }
}

async fn end(store: &dyn ObjectStore, open: &Open) -> Result<()> {
    match open {
        Open::Upload { key, id } => store.abort_upload(key, id).await,
        Open::Below(directory) => store.abort_uploads(directory).await,
    }
}

/// Ends the uploads of a backup that was killed, and says that it was given up.
async fn end_killed(store: &dyn ObjectStore, open: &Open) -> Result<()> {
    if let Open::Below(directory) = open
        && let Some(backup) = layout::backup_of_directory(directory)
    {
        begun::end_killed(store, backup).await?;
    }
    end(store, open).await
}

/// The base backups of the server of `data_directory` whose processes were killed, as far as
/// that can be seen there.
pub fn killed_backups(data_directory: &Path) -> Vec<String> {
    let notes = [Taker::Server, Taker::Program].map(|taker| note_path(data_directory, taker));
    let left = notes.iter().flat_map(|note| UploadNote::abandoned(note));
    left.filter_map(|open| match open {
        Open::Below(directory) => layout::backup_of_directory(&directory).map(str::to_owned),
        Open::Upload { .. } => None,
    })
    .collect()
}

fn note_path(data_directory: &Path, taker: Taker) -> PathBuf {
    let taker = match taker {
        Taker::Server => "server",
        Taker::Program => "program",
    };
    data_directory.join(format!("{UNFINISHED_BACKUP}.{taker}"))
}

fn is_refused_listing(open: &Open, error: &Error) -> bool {
    matches!(open, Open::Below(_)) && error.kind() == ErrorKind::Denied
}

/// Whether the backup that an upload belongs to has stored something since this server
/// started: then the server is a copy of the one whose backup runs, on a copy of the whole
/// file system. An original that has stored nothing since loses the upload, and with
/// it the backup.
async fn has_gone_on(
    store: &dyn ObjectStore,
    open: &Open,
    server_start: OffsetDateTime,
) -> Result<bool> {
    let directory = match open {
        Open::Below(directory) => Some(directory.clone()),
        Open::Upload { key, .. } => layout::backup_directory_of(key),
    };
    let Some(directory) = directory else { return Ok(false) };
    let request = ListRequest { prefix: directory, ..ListRequest::default() };
    let objects = list_all(store, &request).await?;
    // It is known to the second.
    let started = server_start + Duration::from_secs(1);
    Ok(objects.iter().any(|object| object.last_modified > started))
}

impl BackupPush {
    /// Ends what uploads the complete backup left open, and takes it out of the note.
    /// It stays there when the store could not be asked in time.
    pub(super) async fn end_own_uploads(&mut self) {
        // An upload that began and whose answer was lost is known to the store only.
        let own = Open::Below(layout::backup_directory(&self.draft.name));
        let cleaned = tokio::time::timeout(CLEAN_UP_TIME, end(&*self.draft.store, &own)).await;
        let Some(note) = self.draft.note.take() else { return };
        match cleaned {
            Ok(Ok(())) => note.remove(&own),
            Ok(Err(error)) if is_refused_listing(&own, &error) => {
                note.remove(&own);
                self.notices.log(format!(
                    "{error}; if the answer to the start of a multipart upload is lost, the upload stays until the bucket's lifecycle rules end it"
                ));
            }
            Ok(Err(_)) | Err(_) => {}
        }
        note.close();
    }
}
