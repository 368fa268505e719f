//! The name of a merged backup, and what an attempt that failed may have left below it.
//!
//! The name is that of the delta without its parent, so that each attempt has the same one.

use time::OffsetDateTime;

use crate::base_backup::under_way::{delete_objects, is_under_way};
use crate::catalogue::read_begun;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::sentinel::format_time;
use crate::store::{ListRequest, ObjectStore, list_all};

/// Makes sure that there is no backup of this name.
///
/// # Errors
/// [`ErrorKind::Conflict`] when there is one; those of the store.
pub(super) async fn refuse_taken(store: &dyn ObjectStore, name: &str) -> Result<()> {
    match store.head(&layout::sentinel(name)).await? {
        None => Ok(()),
        Some(_) => {
            Err(Error::new(ErrorKind::Conflict, format!("base backup \"{name}\" exists already"))
                .with_hint("It has the same data as the delta backup: nothing needs to be done."))
        }
    }
}

/// Deletes what is left of an attempt that was given up.
///
/// # Errors
/// [`ErrorKind::Conflict`] when one may be under way; those of the store.
pub(super) async fn make_free(store: &dyn ObjectStore, name: &str) -> Result<()> {
    let prefix = layout::backup_directory(name);
    let objects = list_all(store, &ListRequest { prefix, ..ListRequest::default() }).await?;
    let Some(newest) = objects.iter().map(|object| object.last_modified).max() else {
        return Ok(());
    };
    if !is_under_way(store, name, newest, OffsetDateTime::now_utc()).await? {
        // Its process may have ended because the backup is complete.
        refuse_taken(store, name).await?;
        return delete_objects(store, name).await.map(drop);
    }
    let begun = read_begun(store, &layout::begun(name)).await?;
    let detail = begun.map(|begun| {
        format!("It began at {} on host \"{}\".", format_time(begun.started_at), begun.hostname)
    });
    Err(Error::new(ErrorKind::Conflict, format!("base backup \"{name}\" may be under way"))
        .with_detail(detail.unwrap_or_else(|| {
            format!("The latest of its objects was stored at {}.", format_time(newest))
        }))
        .with_hint("If its process was killed, what is left of it is deleted a day after its last sign of life: try again then, or before on the host and in the container where it ran, if the host was not started again since."))
}
