//! One listing of the WAL in an archive, for all base backups and timelines that a plan
//! looks at.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use time::OffsetDateTime;

use super::asked::asked_from;
use super::wal_inventory::{Inventory, TimelineWal};
use super::wal_pages::WalPages;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::postgres::{
    SegmentNumber, SegmentSize, TimelineHistory, TimelineId, WalFileKind, WalFileName, WalSegment,
};
use crate::store::{self, ListRequest, ObjectStore};

/// Objects in cold storage that are asked for a byte at the same time, and at most
/// before it is known whether the first of them can be read.
const ASKED_AT_ONCE: usize = 16;

/// What the archive has of all timelines. It grows: each name is listed once.
#[derive(Debug)]
pub struct WalListing {
    store: Arc<dyn ObjectStore>,
    size: SegmentSize,
    timelines: BTreeMap<TimelineId, Listed>,
    /// All timelines are known, and of each at least what is there from here on.
    from: Option<SegmentNumber>,
    /// What the store said of objects that could not be read.
    refusals: BTreeMap<WalSegment, Error>,
}

/// What is known of a timeline.
#[derive(Debug)]
struct Listed {
    from: SegmentNumber,
    wal: Arc<TimelineWal>,
    /// When its history file was stored, if it has one.
    history_stored: Option<OffsetDateTime>,
}

impl Listed {
    fn from(from: SegmentNumber) -> Self {
        Listed { from, wal: Arc::default(), history_stored: None }
    }
}

impl WalListing {
    /// Of an archive whose segments have this size.
    pub fn new(store: Arc<dyn ObjectStore>, size: SegmentSize) -> Self {
        let (timelines, refusals) = (BTreeMap::new(), BTreeMap::new());
        WalListing { store, size, timelines, from: None, refusals }
    }

    /// The size of its segments.
    pub fn segment_size(&self) -> SegmentSize {
        self.size
    }

    /// Lists what is not known yet of the segments from `from` on, of all timelines.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn extend_to(&mut self, from: SegmentNumber) -> Result<()> {
        match self.from {
            Some(known) if known <= from => return Ok(()),
            Some(_) => {
                let timelines: Vec<TimelineId> = self.timelines.keys().copied().collect();
                for timeline in timelines {
                    self.extend_timeline_to(timeline, from).await?;
                }
            }
            None => self.scan(from).await?,
        }
        self.from = Some(from);
        Ok(())
    }

    /// Lists what is not known yet of a timeline's segments from `from` on.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn extend_timeline_to(
        &mut self,
        timeline: TimelineId,
        from: SegmentNumber,
    ) -> Result<()> {
        let Some(listed) = self.timelines.get_mut(&timeline) else { return Ok(()) };
        if listed.from <= from {
            return Ok(());
        }
        let until = listed.from;
        let request = ListRequest {
            prefix: layout::wal_of_timeline(timeline),
            start_after: Some(before(timeline, from, self.size)),
            shallow: true,
        };
        let mut wal = TimelineWal::default();
        let mut pages = WalPages::new(&*self.store, self.size, request);
        'pages: while let Some(objects) = pages.next().await? {
            for object in &objects {
                let Some((name, encoding)) = layout::wal_file_of(&object.key) else { continue };
                let number = name.segment_number(self.size);
                let Some(number) = number.filter(|number| *number >= from) else { continue };
                if number >= until {
                    break 'pages;
                }
                wal.add_object(&name, number, object, &encoding);
            }
        }
        Arc::make_mut(&mut listed.wal).prepend(wal);
        listed.from = from;
        Ok(())
    }

    /// Goes through the names of all WAL files. Of each timeline it passes over the
    /// segments before `from`.
    async fn scan(&mut self, from: SegmentNumber) -> Result<()> {
        // Timeline 1 has no history file that would show it.
        let mut timeline = TimelineId(1);
        self.timelines.insert(timeline, Listed::from(from));
        let mut after = before(timeline, from, self.size);
        'requests: loop {
            let request = ListRequest {
                prefix: layout::wal(),
                start_after: Some(after.clone()),
                shallow: true,
            };
            let mut pages = WalPages::new(&*self.store, self.size, request);
            while let Some(objects) = pages.next().await? {
                for object in &objects {
                    let Some((name, encoding)) = layout::wal_file_of(&object.key) else { continue };
                    let listed =
                        self.timelines.entry(name.timeline()).or_insert_with(|| Listed::from(from));
                    if name.kind() == WalFileKind::TimelineHistory && object.size_bytes > 0 {
                        listed.history_stored.get_or_insert(object.last_modified);
                    }
                    let Some(number) = name.segment_number(self.size) else { continue };
                    if number >= from {
                        Arc::make_mut(&mut listed.wal).add_object(&name, number, object, &encoding);
                    } else if name.timeline() > timeline {
                        timeline = name.timeline();
                        after = before(timeline, from, self.size);
                        continue 'requests;
                    }
                }
            }
            return Ok(());
        }
    }

    /// Whether a segment in cold storage can be read all the same. If so, it counts as there
    /// from now on, and so do those right after it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn try_to_thaw(&mut self, segment: WalSegment) -> Result<bool> {
        let Some(listed) = self.timelines.get_mut(&segment.timeline) else { return Ok(false) };
        if self.refusals.contains_key(&segment) {
            return Ok(false);
        }
        let cold: Vec<_> = listed.wal.cold_from(segment.number).take(ASKED_AT_ONCE).collect();
        if cold.first().is_none_or(|(number, _)| *number != segment.number) {
            return Ok(false);
        }
        let (store, size, timeline) = (&*self.store, self.size, segment.timeline);
        let answers: Vec<(SegmentNumber, Option<Error>)> = stream::iter(cold)
            .map(|(number, cold)| async move {
                let name = WalFileName::segment(WalSegment { timeline, number }, size);
                let key = layout::wal_file(&name, cold.encoding);
                match store::refusal_to_read(store, &key).await {
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok((number, Some(error))),
                    answer => Ok::<_, Error>((number, answer?)),
                }
            })
            .buffered(ASKED_AT_ONCE)
            .try_collect()
            .await?;
        let wal = Arc::make_mut(&mut listed.wal);
        for (number, refusal) in answers {
            match refusal {
                None => wal.thaw(number),
                Some(error) => {
                    self.refusals.insert(WalSegment { timeline, number }, error);
                }
            }
        }
        Ok(wal.has(segment.number))
    }

    /// The timelines of which the archive has any file, and timeline 1.
    pub fn timelines(&self) -> impl Iterator<Item = TimelineId> {
        self.timelines.keys().copied()
    }

    /// What is known of a timeline.
    pub fn wal(&self, timeline: TimelineId) -> Arc<TimelineWal> {
        self.timelines.get(&timeline).map(|listed| Arc::clone(&listed.wal)).unwrap_or_default()
    }

    /// When the history file of a timeline was stored; `None` when the archive does not have it.
    pub fn history_stored(&self, timeline: TimelineId) -> Option<OffsetDateTime> {
        self.timelines.get(&timeline)?.history_stored
    }

    /// What a recovery from segment `start` on can use along `history`.
    pub fn along(&self, history: &TimelineHistory, start: SegmentNumber) -> Inventory {
        asked_from(history, start, self.size)
            .map(|range| (range.timeline, self.wal(range.timeline)))
            .collect()
    }
}

/// What sorts before a segment of a timeline, and after nearly all before it.
fn before(timeline: TimelineId, number: SegmentNumber, size: SegmentSize) -> String {
    layout::before_wal_file(&WalFileName::segment(WalSegment { timeline, number }, size))
}

#[cfg(test)]
mod tests {
    use super::super::wal_inventory::Absence;
    use super::*;
    use crate::store::faulty::{FaultyStore, Operation};
    use crate::store::memory::MemoryStore;
    use crate::store::{Attributes, PutMode};

    const TIMELINE: TimelineId = TimelineId(0x1A);

    async fn wal_of(names: &[&str], from: &[u64]) -> TimelineWal {
        let store = MemoryStore::with_page_size(2);
        for name in names {
            let key = format!("wal_005/{name}");
            let key = layout::ObjectKey::from_listing(&key).unwrap();
            let body = vec![0; name.len()];
            let attributes = Attributes::default();
            let put = store.put(&key, body.into(), PutMode::Replace, &attributes);
            let _ = put.await.unwrap();
        }
        let mut listing = WalListing::new(Arc::new(store), SegmentSize::DEFAULT);
        for from in from {
            listing.extend_to(SegmentNumber(*from)).await.unwrap();
        }
        Arc::unwrap_or_clone(listing.wal(TIMELINE))
    }

    fn ranges(wal: &TimelineWal) -> Vec<(u64, u64)> {
        let runs = wal.runs_from(TIMELINE, SegmentNumber(0)).into_iter();
        runs.map(|run| (run.first.0, run.last.0)).collect()
    }

    const NAMES: [&str; 13] = [
        "00000019000000000000000C.lz4",
        "0000001A.history.lz4",
        "0000001A0000000000000007.lz4",
        "0000001A0000000000000008",
        "0000001A0000000000000008.00000028.backup.lz4",
        "0000001A0000000000000008.zst",
        "0000001A0000000000000009.br",
        "0000001A0000000000000009_delta.lz4",
        "0000001A00000000000000FF.lz4",
        "0000001A0000000100000000.lz4",
        "0000001A0000000100000001.partial.lz4",
        "0000001A0000000100000100.lz4",
        "0000001B0000000100000001.lz4",
    ];

    #[tokio::test]
    async fn segments_of_one_timeline_in_every_encoding_become_ranges() {
        let wal = wal_of(&NAMES, &[0]).await;
        assert_eq!(ranges(&wal), [(7, 9), (255, 256)]);
        assert_eq!(wal.contiguous_from(SegmentNumber(8)), Some(SegmentNumber(9)));
        assert_eq!(wal.contiguous_from(SegmentNumber(10)), None);
        assert_eq!(wal.next_from(SegmentNumber(10)), Some(SegmentNumber(255)));
        assert_eq!(wal.next_from(SegmentNumber(8)), Some(SegmentNumber(8)));
        assert_eq!(wal.next_from(SegmentNumber(257)), None);
        assert!(wal.has(SegmentNumber(256)) && !wal.has(SegmentNumber(6)));
        assert!(wal.has_only_partial(SegmentNumber(257)));
        // 28 + 24 + 27 bytes: of two encodings the first counts.
        assert_eq!(wal.bytes(SegmentNumber(0), SegmentNumber(9)), 79);
        assert_eq!(wal.bytes(SegmentNumber(8), SegmentNumber(8)), 24);
        assert_eq!(wal.bytes(SegmentNumber(9), SegmentNumber(255)), 27 + 28);
        assert_eq!(wal.bytes(SegmentNumber(300), SegmentNumber(400)), 0);
        assert_eq!(wal.bytes(SegmentNumber(9), SegmentNumber(8)), 0);
    }

    #[tokio::test]
    async fn a_listing_grows_by_what_comes_before_it() {
        assert_eq!(ranges(&wal_of(&NAMES, &[9]).await), [(9, 9), (255, 256)]);
        for from in [&[9, 0][..], &[8, 7], &[256, 9, 8, 0], &[400, 0], &[0, 9]] {
            let wal = wal_of(&NAMES, from).await;
            assert_eq!(ranges(&wal), [(7, 9), (255, 256)], "{from:?}");
            assert!(wal.has_only_partial(SegmentNumber(257)), "{from:?}");
            assert_eq!(wal.bytes(SegmentNumber(0), SegmentNumber(9)), 79, "{from:?}");
        }
        assert_eq!(ranges(&wal_of(&[], &[0]).await), []);
    }

    async fn put(store: &MemoryStore, name: &str, bytes: usize) -> layout::ObjectKey {
        let key = layout::ObjectKey::from_listing(&format!("wal_005/{name}")).unwrap();
        let attributes = Attributes::default();
        let put = store.put(&key, vec![0; bytes].into(), PutMode::Replace, &attributes);
        let _ = put.await.unwrap();
        key
    }

    #[tokio::test]
    async fn each_name_is_listed_once_and_what_comes_before_is_passed_over() {
        let store = MemoryStore::new();
        for timeline in 1..=3 {
            for number in 0..256 {
                put(&store, &format!("{timeline:08X}{number:016X}"), 1).await;
            }
        }
        let store = FaultyStore::new(store);
        let mut listing = WalListing::new(Arc::new(store.clone()), SegmentSize::DEFAULT);
        let mut ask = async |from| {
            let before = store.calls(Operation::List);
            listing.extend_to(SegmentNumber(from)).await.unwrap();
            for timeline in 1..=3 {
                let wal = listing.wal(TimelineId(timeline));
                assert_eq!(wal.contiguous_from(SegmentNumber(from)), Some(SegmentNumber(255)));
            }
            store.calls(Operation::List) - before
        };
        // Names of 16 MB segments end with 00 to FF.
        assert_eq!(ask(200).await, 1 + 2);
        assert_eq!(ask(200).await, 0);
        assert_eq!(ask(220).await, 0);
        assert_eq!(ask(100).await, 3);
    }

    #[tokio::test]
    async fn an_empty_object_is_no_segment_unless_there_is_another() {
        let store = MemoryStore::new();
        let name = |number: u64| format!("0000001A{number:016X}");
        put(&store, &format!("{}.lz4", name(1)), 5).await;
        put(&store, &format!("{}.lz4", name(2)), 0).await;
        put(&store, &format!("{}.lz4", name(3)), 0).await;
        put(&store, &format!("{}.zst", name(3)), 5).await;
        let mut listing = WalListing::new(Arc::new(store), SegmentSize::DEFAULT);
        listing.extend_to(SegmentNumber(0)).await.unwrap();
        let wal = listing.wal(TIMELINE);
        assert_eq!(ranges(&wal), [(1, 1), (3, 3)]);
        assert_eq!(wal.absence(SegmentNumber(2)), Absence::Empty);
        assert_eq!(wal.absence(SegmentNumber(4)), Absence::NotThere);
    }

    #[tokio::test]
    async fn what_is_in_cold_storage_is_there_once_it_can_be_read() {
        let store = MemoryStore::new();
        let name = |number: u64| format!("0000001A{number:016X}.lz4");
        for number in 1..=5 {
            let key = put(&store, &name(number), 5).await;
            if number != 3 {
                store.set_storage_class(&key, "GLACIER");
            }
        }
        let faulty = FaultyStore::new(store.clone());
        let mut listing = WalListing::new(Arc::new(faulty.clone()), SegmentSize::DEFAULT);
        listing.extend_to(SegmentNumber(0)).await.unwrap();
        assert_eq!(ranges(&listing.wal(TIMELINE)), [(3, 3)]);
        let segment = |number| WalSegment { timeline: TIMELINE, number: SegmentNumber(number) };
        assert_eq!(listing.wal(TIMELINE).absence(SegmentNumber(2)), Absence::Cold);
        assert!(!listing.try_to_thaw(segment(4)).await.unwrap());
        let asked = faulty.calls(Operation::Get);
        assert!(!listing.try_to_thaw(segment(4)).await.unwrap());
        assert_eq!(faulty.calls(Operation::Get), asked, "it asked again");

        // Restored copies can be read, and are listed as before.
        store.restore_from_cold_storage();
        let mut listing = WalListing::new(Arc::new(faulty), SegmentSize::DEFAULT);
        listing.extend_to(SegmentNumber(0)).await.unwrap();
        assert_eq!(ranges(&listing.wal(TIMELINE)), [(3, 3)]);
        assert!(listing.try_to_thaw(segment(4)).await.unwrap());
        assert_eq!(ranges(&listing.wal(TIMELINE)), [(3, 5)]);
        assert!(listing.try_to_thaw(segment(1)).await.unwrap());
        assert_eq!(ranges(&listing.wal(TIMELINE)), [(1, 5)]);
    }
}
