//! Whether a base backup without a sentinel is still being taken.

use std::path::Path;

use time::{Duration, OffsetDateTime};

use crate::base_backup::killed_backups;
use crate::catalogue::read_begun;
use crate::error::Result;
use crate::layout;
use crate::owner::hostname;
use crate::store::ObjectStore;

/// A backup that has stored something this lately may still be under way. One of wal_e stores
/// something every ten minutes; the others at least for each tar.
const MAY_BE_UNDER_WAY: Duration = Duration::days(1);

/// Whether the backup, whose newest object was stored at `newest`, may still be under way. It
/// is not when it said that it was given up, or was taken on this host by a process that was
/// killed.
///
/// # Errors
/// Those of the store.
pub(super) async fn is_under_way(
    store: &dyn ObjectStore,
    backup: &str,
    newest: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<bool> {
    if newest < now.checked_sub(MAY_BE_UNDER_WAY).unwrap_or(now) {
        return Ok(false);
    }
    let Some(begun) = read_begun(store, &layout::begun(backup)).await? else { return Ok(true) };
    let is_killed = || {
        let killed = killed_backups(Path::new(&begun.data_directory));
        begun.hostname == hostname() && killed.iter().any(|it| it == backup)
    };
    Ok(begun.ended_at.is_none() && !is_killed())
}
