//! The way into an archive, for whoever ships a cluster's WAL.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::pipeline::{Pipeline, archived_already};
use super::push::{PushOptions, Pusher};
use crate::codec::Compression;
use crate::error::Result;
use crate::notice::Notices;
use crate::owner::{self, Claimant};
use crate::store::ObjectStore;

/// Which WAL is archived, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archiving {
    /// The cluster; `None` when it is not known, as with a timeline history
    /// file outside of a data directory. The owner of the archive is not
    /// asked for then.
    pub claimant: Option<Claimant>,
    /// Where the server keeps its WAL.
    pub wal_directory: PathBuf,
    /// What new files are compressed with.
    pub compression: Compression,
    /// Files sent at the same time; with 1, none is sent ahead.
    pub uploads: usize,
    /// Files compressed at the same time.
    pub compressors: usize,
    /// Whether the server is a standby, so that most files are in the archive already.
    pub standby: bool,
}

/// Makes sure that the archive is this cluster's, and finds out what it has.
///
/// # Errors
/// [`crate::ErrorKind::Conflict`] when the archive belongs to another cluster, before
/// anything is written; and the store's own kinds.
pub async fn open(
    store: Arc<dyn ObjectStore>,
    archiving: &Archiving,
    notices: Notices,
) -> Result<Pipeline> {
    let claim = async {
        match &archiving.claimant {
            Some(claimant) => owner::claim(&*store, claimant).await,
            None => Ok(()),
        }
    };
    // All that is only read is asked for at the same time: a call of wal-push
    // does this each time.
    let (claimed, registered, listed) = tokio::join!(
        claim,
        owner::registered_wal_encodings(&*store),
        archived_already(&*store, &archiving.wal_directory),
    );
    claimed?;
    let encoding = archiving.compression.encoding();
    let other_encodings = owner::register_wal_encoding(&*store, encoding, registered?).await?;
    let options = PushOptions {
        compression: archiving.compression,
        other_encodings,
        system_identifier: archiving.claimant.as_ref().map(|claimant| claimant.system_identifier),
        look_first: archiving.standby,
        uploads: archiving.uploads,
        compressors: archiving.compressors,
    };
    let pusher = Pusher::new(store, options, listed?, CancellationToken::new(), notices);
    Ok(Pipeline::new(pusher, &archiving.wal_directory))
}
