//! One WAL file among the keys of the archive, whatever its encoding.

use std::cmp::Ordering;

use super::nearby::{Nearby, look_nearby};
use crate::codec::{Encoding, StoredEncoding};
use crate::error::Result;
use crate::layout::{self, ObjectKey};
use crate::postgres::{SegmentSize, TimelineId, WalFileKind, WalFileName};
use crate::store::{ListRequest, ObjectStore, list_all};

/// A WAL file that the archive has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Its object.
    pub key: ObjectKey,
    /// How the object is encoded.
    pub encoding: StoredEncoding,
}

impl Located {
    fn of(key: ObjectKey, name: &WalFileName) -> Option<Self> {
        let encoding = layout::encoding_of_wal_file(&key, name)?;
        Some(Located { key, encoding })
    }

    /// Where it stands among the objects of one file: those that can be read come
    /// first, in the order of [`Encoding::ALL`].
    fn rank(&self) -> usize {
        let of_all = Encoding::ALL.len();
        match self.encoding {
            StoredEncoding::Readable(encoding) => {
                Encoding::ALL.iter().position(|known| *known == encoding).unwrap_or(of_all)
            }
            StoredEncoding::Foreign(_) => of_all,
        }
    }
}

/// Looks for a WAL file in every encoding, with one request that lists, or by their names
/// where that is cheaper. An archive holds it in more than one after its compression was
/// changed and the file pushed again; then one that can be read is taken, in the order of [`Encoding::ALL`].
pub async fn locate(store: &dyn ObjectStore, name: &WalFileName) -> Result<Option<Located>> {
    Ok(locate_all(store, name).await?.into_iter().next())
}

/// As [`locate`], but all that there are; the best one first.
pub(crate) async fn locate_all(
    store: &dyn ObjectStore,
    name: &WalFileName,
) -> Result<Vec<Located>> {
    let keys = if store.finds_by_name() {
        store.find(&layout::wal_file_keys(name)).await?
    } else {
        let request =
            ListRequest { prefix: layout::wal_file_beginning(name), ..ListRequest::default() };
        list_all(store, &request).await?.into_iter().map(|object| object.key).collect()
    };
    let mut found: Vec<Located> =
        keys.into_iter().filter_map(|key| Located::of(key, name)).collect();
    found.sort_by_key(Located::rank);
    Ok(found)
}

/// What the archive has at and around the place of a WAL file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// The file in all its encodings; those that can be read come first.
    pub found: Vec<Located>,
    /// The next segment, whole or partial, that the archive has of the timeline.
    pub later: Option<WalFileName>,
    /// The next newer timeline of which the archive has a file. Not looked for once
    /// a later segment was found.
    pub newer: Option<TimelineId>,
    /// Whether an earlier segment of the timeline was seen. Those right before the file are.
    pub earlier: bool,
    /// Whether there is any WAL at all.
    pub has_wal: bool,
}

/// Looks for a WAL file in every encoding, and around it; one request where the
/// archive has the file or others near it.
///
/// A store that finds names faster than it lists them is asked for names alone, unless
/// they show no end of the WAL to be a gap and `everywhere` says that this has to be
/// certain. `size` is that of the cluster's segments.
pub(crate) async fn look_around(
    store: &dyn ObjectStore,
    name: &WalFileName,
    size: Option<SegmentSize>,
    everywhere: bool,
) -> Result<Surroundings> {
    if store.finds_by_name() {
        match look_nearby(store, name, size).await? {
            Nearby::Seen(seen) => return Ok(seen),
            Nearby::Nothing(seen) if !everywhere || !seen.found.is_empty() => return Ok(seen),
            Nearby::Nothing(_) | Nearby::FarAhead => {}
        }
    }
    look_in_listing(store, name).await
}

async fn look_in_listing(store: &dyn ObjectStore, name: &WalFileName) -> Result<Surroundings> {
    let mut seen = Surroundings::default();
    let request = ListRequest {
        prefix: layout::wal(),
        start_after: Some(layout::before_wal_file(name)),
        ..ListRequest::default()
    };
    let mut page = None;
    'pages: loop {
        let answer = store.list(&request, page).await?;
        for object in answer.objects {
            seen.has_wal = true;
            let file = layout::wal_file_of(&object.key).map(|(file, _)| file);
            if let Some(located) = Located::of(object.key, name) {
                seen.found.push(located);
            } else if let Some(file) = file {
                if file.timeline() > name.timeline() {
                    seen.newer = Some(file.timeline());
                    break 'pages;
                }
                // What belongs to a segment alone stands before all other files.
                if name.kind() != WalFileKind::Segment {
                    break 'pages;
                }
                // Names of one timeline sort as their segments do, and those of
                // the file itself before both.
                match order(&file, name) {
                    Some(Ordering::Greater) => {
                        seen.later = Some(file);
                        break 'pages;
                    }
                    Some(Ordering::Less) => seen.earlier = true,
                    Some(Ordering::Equal) | None => {}
                }
            }
        }
        page = answer.next;
        if page.is_none() {
            break;
        }
    }
    seen.found.sort_by_key(Located::rank);
    if !seen.has_wal {
        seen.has_wal = !store.is_empty(&layout::wal()).await?;
    }
    Ok(seen)
}

/// Where `file` stands to the segment `name`, if it is a segment of the same timeline,
/// whole or partial.
fn order(file: &WalFileName, name: &WalFileName) -> Option<Ordering> {
    let is_segment = matches!(file.kind(), WalFileKind::Segment | WalFileKind::Partial);
    let comparable = is_segment && file.timeline() == name.timeline();
    file.as_str().get(..24).filter(|_| comparable).map(|segment| segment.cmp(name.as_str()))
}

/// What follows the names of an archive's WAL files in their keys. Most archives
/// have one for all, so that a file is found with one request where it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEnding {
    text: String,
    encoding: Encoding,
}

impl Default for KeyEnding {
    fn default() -> Self {
        let encoding = Encoding::default();
        KeyEnding { text: encoding.file_name(""), encoding }
    }
}

impl KeyEnding {
    /// The ending `text`: empty, a dot (as WAL-G once wrote), or a dot and an
    /// extension. `None` when it stands for nothing that can be read.
    pub fn new(text: &str) -> Option<Self> {
        match StoredEncoding::from_suffix(text)? {
            StoredEncoding::Readable(encoding) => {
                Some(KeyEnding { text: text.to_owned(), encoding })
            }
            StoredEncoding::Foreign(_) => None,
        }
    }

    /// The ending of a key of the WAL file `name`.
    pub(crate) fn of(key: &ObjectKey, name: &WalFileName) -> Option<Self> {
        Self::new(key.as_str().strip_prefix(&layout::wal_file_beginning(name))?)
    }

    /// The ending as it stands in keys.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key of the WAL file `name` with this ending.
    pub(crate) fn locate(&self, name: &WalFileName) -> Option<(ObjectKey, Encoding)> {
        let key = format!("{}{}", layout::wal_file_beginning(name), self.text);
        Some((ObjectKey::from_listing(&key)?, self.encoding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faulty::{FaultyStore, Operation};
    use crate::store::memory::MemoryStore;
    use crate::store::{Attributes, PutMode};

    async fn archive(keys: &[&str]) -> MemoryStore {
        let store = MemoryStore::with_page_size(2);
        for key in keys {
            let key = ObjectKey::from_listing(key).unwrap();
            let attributes = Attributes::default();
            let _ = store.put(&key, "x".into(), PutMode::Replace, &attributes).await.unwrap();
        }
        store
    }

    async fn around(keys: &[&str], name: &str) -> (Vec<String>, Option<String>, bool) {
        let store = archive(keys).await;
        let seen = look_in_listing(&store, &name.parse().unwrap()).await.unwrap();
        assert!(seen.newer.is_none_or(|newer| newer > TimelineId(1) && seen.later.is_none()));
        let found = seen.found.iter().map(|located| located.key.to_string()).collect();
        (found, seen.later.map(|file| file.to_string()), seen.has_wal)
    }

    const A1: &str = "0000000100000000000000A1";

    #[tokio::test]
    async fn all_encodings_of_a_file_are_found_the_best_one_first() {
        let keys = [
            "wal_005/0000000100000000000000A0.lz4",
            "wal_005/0000000100000000000000A1",
            "wal_005/0000000100000000000000A1.gpg",
            "wal_005/0000000100000000000000A1.00000028.backup.lz4",
            "wal_005/0000000100000000000000A1.partial.lz4",
            "wal_005/0000000100000000000000A1.zst",
            "wal_005/0000000200000000000000A1.zst",
        ];
        let (found, later, has_wal) = around(&keys, A1).await;
        let [zstd, none, foreign] = [keys[5], keys[1], keys[2]];
        assert_eq!(found, [zstd, none, foreign]);
        assert_eq!((later, has_wal), (None, true));
    }

    #[tokio::test]
    async fn later_segments_of_the_timeline_are_told_from_other_files() {
        let before = "wal_005/0000000100000000000000A0.lz4";
        for (other, later) in [
            ("wal_005/0000000100000000000000A2.zst", Some("0000000100000000000000A2")),
            ("wal_005/000000010000000100000000", Some("000000010000000100000000")),
            (
                "wal_005/0000000100000000000000A2.partial.lz4",
                Some("0000000100000000000000A2.partial"),
            ),
            ("wal_005/0000000100000000000000A1.partial.lz4", None),
            ("wal_005/0000000100000000000000A2.00000028.backup.lz4", None),
            ("wal_005/0000000200000000000000A2.lz4", None),
            ("wal_005/00000002.history.lz4", None),
            ("wal_005/README", None),
        ] {
            let (found, seen, has_wal) = around(&[before, other], A1).await;
            assert_eq!((found, seen.as_deref(), has_wal), (vec![], later, true), "{other}");
        }
        let segment = "wal_005/0000000200000000000000A2.lz4";
        assert_eq!(around(&[segment], "00000002.history").await, (vec![], None, true));
    }

    #[tokio::test]
    async fn files_of_newer_timelines_are_seen() {
        let before = "wal_005/0000000100000000000000A0.lz4";
        for (other, newer) in [
            ("wal_005/00000002.history.lz4", Some(2)),
            ("wal_005/00000002.history.gpg", Some(2)),
            ("wal_005/0000000300000000000000A0", Some(3)),
            ("wal_005/0000000100000000000000A2", None),
            ("wal_005/00000001.history", None),
            ("wal_005/README", None),
        ] {
            let store = archive(&[before, other]).await;
            let seen = look_in_listing(&store, &A1.parse().unwrap()).await.unwrap();
            assert_eq!(seen.newer, newer.map(TimelineId), "{other}");
        }
    }

    #[tokio::test]
    async fn earlier_segments_of_the_timeline_are_seen() {
        for (other, earlier) in [
            ("wal_005/0000000100000000000000A0.zst", true),
            ("wal_005/0000000100000000000000A0.partial", true),
            ("wal_005/0000000100000000000000A1.partial", false),
            ("wal_005/0000000100000000000000A0.00000028.backup", false),
            ("wal_005/0000000100000000000000A2", false),
            ("wal_005/0000000000000000000000A0", false),
        ] {
            let store = archive(&[other]).await;
            let seen = look_in_listing(&store, &A1.parse().unwrap()).await.unwrap();
            assert_eq!(seen.earlier, earlier, "{other}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_segment_is_not_looked_for_among_all_segments() {
        let segments: Vec<String> =
            (0..20).map(|number| format!("wal_005/00000002{number:016X}.lz4")).collect();
        let mut keys: Vec<&str> = segments.iter().map(String::as_str).collect();
        let partial = "000000020000000000000003.partial";
        for (name, own) in [
            ("00000002.history", Some("wal_005/00000002.history.zst")),
            ("00000002.history", None),
            (partial, None),
            ("000000020000000000000003.00000028.backup", None),
        ] {
            keys.extend(own);
            let store = FaultyStore::new(archive(&keys).await);
            let seen = look_in_listing(&store, &name.parse().unwrap()).await.unwrap();
            let found: Vec<&str> = seen.found.iter().map(|found| found.key.as_str()).collect();
            assert_eq!((found, seen.has_wal), (Vec::from_iter(own), true), "{name}");
            assert_eq!(store.calls(Operation::List), 1, "{name}");
            keys.truncate(segments.len());
        }
    }

    #[tokio::test]
    async fn an_archive_without_wal_is_told_from_one_with_older_files() {
        let (_, _, has_wal) = around(&["basebackups_005/x"], A1).await;
        assert!(!has_wal);
        let (_, _, has_wal) = around(&["wal_005/000000010000000000000001.lz4"], A1).await;
        assert!(has_wal);
    }

    #[test]
    fn an_ending_leads_to_a_key_and_back() {
        let name: WalFileName = A1.parse().unwrap();
        for text in ["", ".", ".lz4", ".zst"] {
            let ending = KeyEnding::new(text).unwrap();
            let (key, _) = ending.locate(&name).unwrap();
            assert_eq!(key.as_str(), format!("wal_005/{A1}{text}"));
            assert_eq!(KeyEnding::of(&key, &name), Some(ending));
        }
        for text in ["lz4", ".lz4x", ".gpg", "/x", ".partial.lz4", "\n"] {
            assert_eq!(KeyEnding::new(text), None, "{text}");
        }
        assert_eq!(KeyEnding::default().as_str(), ".lz4");
    }
}
