//! To which moments a restore is possible.

use std::sync::Arc;

use super::backups::Backups;
use crate::catalogue::BackupInfo;
use crate::catalogue::wal_listing::WalListing;
use crate::error::Result;
use crate::notice::Notices;
use crate::recovery::{self, Window};
use crate::store::ObjectStore;

/// The stretches of moments to which a restore is possible, oldest first. A base backup whose
/// last verification failed does not count.
///
/// # Errors
/// Those of the store.
pub async fn windows(store: &Arc<dyn ObjectStore>, notices: &Notices) -> Result<Vec<Window>> {
    windows_of(store, &Backups::of(store, notices).await?, None, notices).await
}

/// The same, of base backups that were looked at before, and of WAL that was listed.
pub(super) async fn windows_of(
    store: &Arc<dyn ObjectStore>,
    backups: &Backups,
    listing: Option<WalListing>,
    notices: &Notices,
) -> Result<Vec<Window>> {
    for (name, damage) in &backups.damaged {
        notices.warning(format!(
            "base backup \"{name}\" does not count: its last verification failed: {damage}"
        ));
    }
    let candidates = backups.sound().cloned().collect();
    let readable: Vec<BackupInfo> = backups.readable().cloned().collect();
    recovery::windows(Arc::clone(store), readable, candidates, listing, notices.clone()).await
}
