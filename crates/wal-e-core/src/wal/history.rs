//! Timeline histories out of the store.

use std::io::Read;

use super::content::Content;
use super::fetch::{is_damage, read_failed};
use crate::catalogue::locate::{Located, locate_all};
use crate::codec::Decompressor;
use crate::error::{Error, ErrorKind, Result};
use crate::notice::Notices;
use crate::postgres::timeline_history::LARGEST_HISTORY_BYTES;
use crate::postgres::{TimelineHistory, TimelineId, WalFileName};
use crate::store::ObjectStore;
use crate::tasks::blocking;
use crate::transfer::download;

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
            Err(error) if is_damage(&error) || error.kind() == ErrorKind::Config => {
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
    let object = store.get(&located.key, 0, None).await?;
    let kept = object.info.attributes.content_xxh128.clone();
    let reader = download(object);
    let name = name.clone();
    blocking("reading a timeline history file", move || {
        let mut bytes = Vec::new();
        Decompressor::new(reader, encoding)
            .and_then(|reader| reader.take(LARGEST_HISTORY_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|source| read_failed(&url, source))?;
        if bytes.len() as u64 <= LARGEST_HISTORY_BYTES {
            Content::of(&bytes).check(&name, None, kept.as_deref(), &url)?;
        }
        Ok(bytes)
    })
    .await
}
