//! Timeline histories out of the store.

use super::locate::{Located, locate_all};
use crate::archived::{ArchivedObject, Content};
use crate::error::{Error, ErrorKind, Result};
use crate::notice::Notices;
use crate::postgres::timeline_history::LARGEST_HISTORY_BYTES;
use crate::postgres::{TimelineHistory, TimelineId, WalFileName};
use crate::store::ObjectStore;

/// The history of a timeline; `None` when the archive does not have its file. When an
/// object is damaged and the archive has the file in another encoding, too, that one
/// is taken, and a notice says so.
///
/// # Errors
/// Those of the store, [`ErrorKind::Corrupt`] for a damaged file, and
/// [`ErrorKind::Config`] for one in an encoding that cannot be read. Never
/// [`ErrorKind::NotFound`].
pub async fn history(
    store: &dyn ObjectStore,
    timeline: TimelineId,
    notices: &Notices,
) -> Result<Option<TimelineHistory>> {
    let name = WalFileName::history(timeline);
    let mut damage: Option<Error> = None;
    for located in locate_all(store, &name).await? {
        let read = read(store, &located, &name).await;
        match read.and_then(|content| TimelineHistory::parse(name.as_str(), timeline, &content)) {
            Ok(history) => {
                if let Some(error) = damage {
                    let instead = store.url(located.key.as_str());
                    notices.warning(format!("{error}; read \"{instead}\" instead"));
                }
                return Ok(Some(history));
            }
            // It has just been removed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.is_unusable_object() => {
                damage.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    damage.map_or(Ok(None), Err)
}

/// The content of a history file, at most one byte more than any has.
async fn read(store: &dyn ObjectStore, located: &Located, name: &WalFileName) -> Result<Vec<u8>> {
    let url = store.url(located.key.as_str());
    let encoding = located.encoding.readable(&url)?;
    let object = ArchivedObject::open(store, &located.key, encoding).await?;
    let checksum = object.content_xxh128().map(str::to_owned);
    let bytes = object.read_at_most(LARGEST_HISTORY_BYTES + 1).await?;
    if bytes.len() as u64 <= LARGEST_HISTORY_BYTES {
        Content::of(&bytes).check(name, None, checksum.as_deref(), &url)?;
    }
    Ok(bytes)
}
