//! How the WAL of each timeline is encrypted, as far as its ends say.

use std::fmt;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::TimelineRow;
use crate::archived;
use crate::catalogue;
use crate::codec::StoredEncoding;
use crate::encryption::Form;
use crate::error::{ErrorKind, Result};
use crate::postgres::WalFileName;
use crate::store::ObjectStore;

/// Timelines that are looked at at the same time.
const LOOKED_AT_AT_ONCE: usize = 4;

/// How the first and the last segment of a timeline are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalEncryption {
    /// Both in this form.
    All(Form),
    /// Each in another form: encryption began, changed or ended between them.
    Mixed,
    /// One of them, or both, cannot be told: no configured key opens it, it is damaged or in cold
    /// storage, or there is none.
    Unknown,
}

impl WalEncryption {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            WalEncryption::All(form) => form.as_str(),
            WalEncryption::Mixed => "mixed",
            WalEncryption::Unknown => "unknown",
        }
    }
}

impl fmt::Display for WalEncryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How the WAL of each of these timelines is encrypted. Names do not say it: the beginning of the
/// first and of the last segment is read.
///
/// # Errors
/// Those of the store that are not about one object.
pub async fn encryption(
    store: &dyn ObjectStore,
    rows: &[TimelineRow],
) -> Result<Vec<WalEncryption>> {
    let rows: Vec<_> = rows.iter().map(|row| of_row(store, row)).collect();
    stream::iter(rows).buffered(LOOKED_AT_AT_ONCE).try_collect().await
}

async fn of_row(store: &dyn ObjectStore, row: &TimelineRow) -> Result<WalEncryption> {
    let (Some(first), Some(last)) = (&row.first_segment, &row.last_segment) else {
        return Ok(WalEncryption::Unknown);
    };
    let first = form(store, first).await?;
    let last = if row.segments > 1 { form(store, last).await? } else { first };
    Ok(match (first, last) {
        (Some(first), Some(last)) if first == last => WalEncryption::All(first),
        (Some(_), Some(_)) => WalEncryption::Mixed,
        _ => WalEncryption::Unknown,
    })
}

async fn form(store: &dyn ObjectStore, segment: &str) -> Result<Option<Form>> {
    let name: WalFileName = segment.parse()?;
    let Some(located) = catalogue::locate(store, &name).await? else { return Ok(None) };
    let StoredEncoding::Readable(encoding) = located.encoding else { return Ok(None) };
    match archived::form(store, &located.key, encoding).await {
        // It may have been deleted since it was listed.
        Err(error) if error.is_unusable_object() || error.kind() == ErrorKind::NotFound => Ok(None),
        form => form,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bytes::Bytes;

    use super::*;
    use crate::archived::Encoder;
    use crate::codec::Compression;
    use crate::config::{Encryption, EncryptionPolicy};
    use crate::coverage::Status;
    use crate::encryption::{Key, Keyring};
    use crate::layout::ObjectKey;
    use crate::postgres::TimelineId;
    use crate::store::memory::MemoryStore;
    use crate::store::{Attributes, PutMode};

    const FIRST: &str = "000000010000000000000002";
    const LAST: &str = "000000010000000000000005";

    fn key(byte: Option<u8>) -> Encryption {
        let keyring = Keyring::new(byte.map(|byte| Key::new([byte; 32])), Vec::new(), None);
        Encryption { policy: EncryptionPolicy::Auto, keyring }
    }

    async fn put(store: &MemoryStore, name: &str, content: impl Into<Bytes>) {
        let key = ObjectKey::from_listing(&format!("wal_005/{name}.lz4")).unwrap();
        let attributes = Attributes::default();
        let put = store.put(&key, content.into(), PutMode::CreateOnly, &attributes);
        let _ = put.await.unwrap();
    }

    fn encoded(byte: Option<u8>) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), Compression::default(), &key(byte)).unwrap();
        encoder.write_all(&[7; 100_000]).unwrap();
        encoder.finish().unwrap()
    }

    fn row(first: &str, last: &str, segments: u64) -> TimelineRow {
        TimelineRow {
            timeline: TimelineId(1),
            parent_timeline: None,
            switch_lsn: None,
            first_segment: Some(first.to_owned()),
            last_segment: Some(last.to_owned()),
            segments,
            missing: 0,
            status: Status::Found,
            lacks_history: false,
        }
    }

    #[tokio::test]
    async fn the_ends_of_a_timeline_say_how_it_is_encrypted() {
        let (plain, with_1, with_2) = (encoded(None), encoded(Some(1)), encoded(Some(2)));
        let openpgp = [&[0xC1, 0xC0, 0x4C, 3][..], &[5; 8], &[1], &[5; 400]].concat();
        for (keys, first, last, expected) in [
            (None, &plain, &plain, "none"),
            (Some(1), &plain, &plain, "none"),
            (Some(1), &with_1, &with_1, "libsodium"),
            (Some(1), &plain, &with_1, "mixed"),
            (Some(1), &with_1, &with_2, "unknown"),
            (None, &with_1, &with_1, "unknown"),
            (None, &openpgp, &openpgp, "openpgp"),
            (Some(1), &openpgp, &with_1, "mixed"),
            (Some(1), &plain, &Vec::new(), "unknown"),
        ] {
            let store = MemoryStore::new();
            put(&store, FIRST, first.clone()).await;
            put(&store, LAST, last.clone()).await;
            let store = store.encrypted(key(keys));
            let rows = [
                row(FIRST, LAST, 4),
                row(FIRST, FIRST, 1),
                row(FIRST, "000000010000000000000009", 2),
            ];
            let said = encryption(&store, &rows).await.unwrap();
            assert_eq!(said[0].as_str(), expected, "{keys:?}");
            assert_eq!(said[2], WalEncryption::Unknown);
        }
    }
}
