//! The way into an archive for a cluster's WAL.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::pipeline::{Pipeline, archived_already};
use super::push::{PushOptions, Pusher};
use crate::changed_blocks::KeptMaps;
use crate::codec::Compression;
use crate::error::Result;
use crate::notice::Notices;
use crate::owner::{self, Claimant};
use crate::store::ObjectStore;
use crate::tasks::Work;

/// Beside the WAL, where PostgreSQL passes over what is not named like a WAL file, and
/// which no base backup holds.
const UPLOAD_NOTE: &str = "wal_e.unfinished_uploads";

/// Which WAL is archived, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archiving {
    /// Where the server keeps its WAL.
    pub wal_directory: PathBuf,
    /// What new files are compressed with.
    pub compression: Compression,
    /// Files sent at the same time; with 1, none is sent ahead.
    pub uploads: usize,
    /// Whether the server is a standby, so that most files are in the archive already.
    pub standby: bool,
    /// Whether it is noted beside the WAL which blocks it changes.
    pub notes_changed_blocks: bool,
}

/// Makes sure that the archive is this cluster's, and finds out what it has.
/// `claimant` is `None` when the cluster is not known, as with a timeline history
/// file outside of a data directory; the owner of the archive is not asked for
/// then.
///
/// # Errors
/// [`crate::ErrorKind::Conflict`] when the archive belongs to another cluster, before
/// anything is written; and the store's own kinds.
pub fn open<'a>(
    store: Arc<dyn ObjectStore>,
    claimant: Option<&'a Claimant>,
    archiving: &'a Archiving,
    notices: Notices,
) -> Work<'a, Result<Pipeline>> {
    Box::pin(async move {
        let note = archiving.wal_directory.join(UPLOAD_NOTE);
        let cancel = CancellationToken::new();
        let pusher = pusher(store, claimant, archiving, Some(note), cancel, notices).await?;
        Ok(Pipeline::new(pusher, &archiving.wal_directory))
    })
}

/// [`open`] beside the archiver of the server, which notes its own uploads. `cancel` ends what
/// is under way.
///
/// # Errors
/// As [`open`].
pub fn open_beside_archiver<'a>(
    store: Arc<dyn ObjectStore>,
    claimant: &'a Claimant,
    archiving: &'a Archiving,
    cancel: CancellationToken,
    notices: Notices,
) -> Work<'a, Result<Pusher>> {
    Box::pin(async move { pusher(store, Some(claimant), archiving, None, cancel, notices).await })
}

async fn pusher(
    store: Arc<dyn ObjectStore>,
    claimant: Option<&Claimant>,
    archiving: &Archiving,
    upload_note: Option<PathBuf>,
    cancel: CancellationToken,
    notices: Notices,
) -> Result<Pusher> {
    let claim = async {
        match claimant {
            Some(claimant) => owner::claim(&*store, claimant, &notices).await,
            None => Ok(()),
        }
    };
    let by_name = store.finds_by_name();
    let listed = async {
        match by_name {
            true => Ok(HashSet::new()),
            false => archived_already(&*store, &archiving.wal_directory).await,
        }
    };
    // All that is only read is asked for at the same time: a call of wal-push
    // does this each time.
    let registered = owner::registered_wal_encodings(&*store);
    let marks = owner::read_encryption_marks(&*store);
    let (claimed, registered, marks, listed) = tokio::join!(claim, registered, marks, listed);
    claimed?;
    owner::agree_on_encryption(&*store, marks?).await?;
    let encoding = archiving.compression.encoding();
    let other_encodings = owner::register_wal_encoding(&*store, encoding, registered?).await?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let options = PushOptions {
        compression: archiving.compression,
        other_encodings,
        system_identifier: claimant.map(|claimant| claimant.system_identifier),
        look_first: archiving.standby || by_name,
        uploads: archiving.uploads,
        compressors: processors.min(archiving.uploads),
        upload_note,
        maps: archiving.notes_changed_blocks.then(|| KeptMaps::beside(&archiving.wal_directory)),
    };
    Ok(Pusher::new(store, options, listed?, cancel, notices))
}
