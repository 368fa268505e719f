//! To which moments a restore is possible.

use std::sync::Arc;

use super::backups::found_damaged;
use crate::catalogue;
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
    let backups = catalogue::list_sound(&**store, "AUTO", notices).await?;
    let damaged = found_damaged(&**store, &backups).await?;
    for (name, damage) in &damaged {
        notices.warning(format!(
            "base backup \"{name}\" does not count: its last verification failed: {damage}"
        ));
    }
    recovery::windows(Arc::clone(store), backups, &damaged, notices.clone()).await
}
