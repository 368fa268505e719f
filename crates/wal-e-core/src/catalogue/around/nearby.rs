//! What lies around the place of a WAL file, by asking for names.
//!
//! A store of files can only list by reading a whole directory, which takes a second for
//! a million of them, and a standby at the end of the WAL asks every few seconds. So such a
//! store is asked for the names that there may be: the file in each encoding, the segments
//! after it, and the histories of the next timelines. What lies further off, and is not
//! met by chance, only a listing shows.

use super::Surroundings;
use crate::catalogue::asked::newer_timelines;
use crate::catalogue::locate::{locate, locate_all};
use crate::error::Result;
use crate::layout;
use crate::postgres::{
    SegmentNumber, SegmentSize, TimelineId, WalFileKind, WalFileName, WalSegment,
};
use crate::store::ObjectStore;

/// How many of the next segments are asked for one by one.
const NEXT_SEGMENTS: u64 = 16;

/// Then every distance that is twice the last one, up to 2 to the power of this: of a gap
/// before at least as many segments as it has itself, one of these is met.
const FURTHEST_POWER: u32 = 24;

/// How many of the next timelines are asked for: they are counted without gaps.
const NEXT_TIMELINES: usize = 16;

/// How many segments before the file are asked for.
const EARLIER_SEGMENTS: u64 = 16;

/// What a look at single names shows.
pub(super) enum Nearby {
    /// As a listing would have shown.
    Seen(Surroundings),
    /// There is a later segment far away: a listing shows the next one.
    FarAhead,
    /// Nothing comes after the file, as far as was looked.
    Nothing(Surroundings),
}

/// Looks for a WAL file in every encoding, and around it. `size` is that of the cluster's
/// segments, where it is known.
pub(super) async fn look_nearby(
    store: &dyn ObjectStore,
    name: &WalFileName,
    size: Option<SegmentSize>,
) -> Result<Nearby> {
    let mut seen =
        Surroundings { found: locate_all(store, name).await?, ..Surroundings::default() };
    let size = size.or_else(|| likely_size(name));
    let number = size.and_then(|size| Some((name.segment_number(size)?, size)));
    let (Some((number, size)), WalFileKind::Segment) = (number, name.kind()) else {
        seen.has_wal = !seen.found.is_empty() || !store.is_empty(&layout::wal()).await?;
        return Ok(Nearby::Seen(seen));
    };
    let place = Place { store, timeline: name.timeline(), number, size };
    for distance in 1..=NEXT_SEGMENTS {
        seen.later = place.after(distance).await?;
        if seen.later.is_some() {
            seen.has_wal = true;
            return Ok(Nearby::Seen(seen));
        }
    }
    for power in NEXT_SEGMENTS.ilog2() + 1..=FURTHEST_POWER {
        if place.after(1 << power).await?.is_some() {
            return Ok(Nearby::FarAhead);
        }
    }
    for distance in 1..=EARLIER_SEGMENTS {
        seen.earlier = place.before(distance).await?.is_some();
        if seen.earlier {
            break;
        }
    }
    seen.newer = place.newer_timeline().await?;
    seen.has_wal = seen.earlier
        || !seen.found.is_empty()
        || seen.newer.is_some()
        || !store.is_empty(&layout::wal()).await?;
    Ok(match seen.has_wal {
        true => Nearby::Nothing(seen),
        false => Nearby::Seen(seen),
    })
}

/// The size of segments that has such a name: nearly every cluster has the default.
fn likely_size(name: &WalFileName) -> Option<SegmentSize> {
    [SegmentSize::DEFAULT, SegmentSize::SMALLEST]
        .into_iter()
        .find(|size| name.segment_number(*size).is_some())
}

struct Place<'a> {
    store: &'a dyn ObjectStore,
    timeline: TimelineId,
    number: SegmentNumber,
    size: SegmentSize,
}

impl Place<'_> {
    async fn after(&self, distance: u64) -> Result<Option<WalFileName>> {
        self.at(self.number.0.checked_add(distance)).await
    }

    async fn before(&self, distance: u64) -> Result<Option<WalFileName>> {
        self.at(self.number.0.checked_sub(distance)).await
    }

    /// The next newer timeline that has a history.
    async fn newer_timeline(&self) -> Result<Option<TimelineId>> {
        for newer in newer_timelines(self.timeline).take(NEXT_TIMELINES) {
            if locate(self.store, &WalFileName::history(newer)).await?.is_some() {
                return Ok(Some(newer));
            }
        }
        Ok(None)
    }

    /// The segment of this number, whole or partial, if the archive has it.
    async fn at(&self, number: Option<u64>) -> Result<Option<WalFileName>> {
        let in_log = |number: &u64| number.checked_mul(self.size.bytes()).is_some();
        let Some(number) = number.filter(in_log).map(SegmentNumber) else { return Ok(None) };
        let segment = WalSegment { timeline: self.timeline, number };
        let whole = WalFileName::segment(segment, self.size);
        for name in [WalFileName::partial(segment, self.size), whole] {
            if locate(self.store, &name).await?.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::around::look_around;
    use crate::layout::ObjectKey;
    use crate::store::faulty::{FaultyStore, Operation};
    use crate::store::memory::MemoryStore;
    use crate::store::{Attributes, PutMode};

    const A1: &str = "0000000100000000000000A1";

    async fn archive(keys: &[&str]) -> FaultyStore<MemoryStore> {
        let store = FaultyStore::new(MemoryStore::new().that_finds_by_name());
        for key in keys {
            let key = ObjectKey::from_listing(key).unwrap();
            let attributes = Attributes::default();
            let _ = store.put(&key, "x".into(), PutMode::Replace, &attributes).await.unwrap();
        }
        store
    }

    /// What is seen around A1, and how often something was listed.
    async fn around(keys: &[&str], everywhere: bool) -> (Surroundings, u64) {
        let store = archive(keys).await;
        let seen = look_around(&store, &A1.parse().unwrap(), None, everywhere).await.unwrap();
        (seen, store.calls(Operation::List))
    }

    #[tokio::test]
    async fn every_encoding_is_found_without_a_listing() {
        for suffix in ["", ".", ".lz4", ".zst", ".lzo", ".lzma", ".br", ".gz", ".lz4.gpg", ".gpg"] {
            let key = format!("wal_005/{A1}{suffix}");
            let (seen, listings) = around(&[&key], true).await;
            let found: Vec<&str> = seen.found.iter().map(|found| found.key.as_str()).collect();
            assert_eq!((found, seen.has_wal, listings), (vec![key.as_str()], true, 0), "{suffix}");
        }
    }

    #[tokio::test]
    async fn the_end_of_the_wal_is_found_without_a_listing_unless_all_is_asked_for() {
        let before = "wal_005/0000000100000000000000A0.zst";
        let (seen, listings) = around(&[before], false).await;
        let expected = Surroundings { earlier: true, has_wal: true, ..Surroundings::default() };
        assert_eq!((&seen, listings), (&expected, 0));
        assert_eq!(around(&[before], true).await, (expected, 1));
        let (seen, _) = around(&["basebackups_005/x"], false).await;
        assert_eq!(seen, Surroundings::default());
    }

    #[tokio::test]
    async fn later_segments_near_and_far_are_found() {
        let before = "wal_005/0000000100000000000000A0.lz4";
        for (keys, later, listings) in [
            (vec![before, "wal_005/0000000100000000000000A2.zst"], "0000000100000000000000A2", 0),
            (vec![before, "wal_005/0000000100000000000000B1"], "0000000100000000000000B1", 0),
            (
                vec![before, "wal_005/0000000100000000000000A2.partial.lz4"],
                "0000000100000000000000A2.partial",
                0,
            ),
            (
                vec!["wal_005/0000000100000000000000C1", "wal_005/0000000100000000000000B5"],
                "0000000100000000000000B5",
                1,
            ),
        ] {
            let (seen, listed) = around(&keys, false).await;
            assert_eq!(seen.later.map(|name| name.to_string()).as_deref(), Some(later));
            assert_eq!(listed, listings, "{later}");
        }
    }

    #[tokio::test]
    async fn newer_timelines_are_found_by_their_histories() {
        for (history, newer) in [("00000002", Some(2)), ("0000000A", Some(10)), ("00000001", None)]
        {
            let key = format!("wal_005/{history}.history.lz4");
            let (seen, listings) = around(&[&key], false).await;
            assert_eq!((seen.newer, listings), (newer.map(TimelineId), 0), "{history}");
        }
    }
}
