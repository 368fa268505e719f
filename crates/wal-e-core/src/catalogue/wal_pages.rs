//! The names of WAL files, page by page in their order.
//!
//! Segments are numbered, so it can be told from one page where the next ones begin. A store
//! that answers each page by itself is asked for several at the same time: an old archive has a
//! thousand pages, and each takes as long as the way to the server and back.

use std::collections::VecDeque;
use std::future::{poll_fn, ready};
use std::task::Poll;

use futures_util::future::try_join_all;

use crate::error::Result;
use crate::layout;
use crate::postgres::{SegmentNumber, SegmentSize, TimelineId, WalFileName, WalSegment};
use crate::store::{ListPage, ListRequest, ObjectInfo, ObjectStore};
use crate::tasks::Work;

/// Pages that cover fewer segments say nothing of those that follow.
const LEAST_STEP: u64 = 32;

/// How many pages are asked for at the same time, when nothing is known of the archive.
const FIRST_AT_ONCE: usize = 2;

/// Requests for one stretch: one page, and what it did not hold because there are other files
/// between the segments.
const PAGES_OF_STRETCH: usize = 2;

/// A listing of WAL files that is under way.
pub(crate) struct WalPages<'a> {
    store: &'a dyn ObjectStore,
    size: SegmentSize,
    request: ListRequest,
    /// The next page of a store that is asked for one after the other: it is being read while
    /// the one before is looked at.
    ahead: Option<Reading<'a>>,
    /// The last key that is known.
    after: Option<String>,
    /// What was read ahead.
    read: VecDeque<Vec<ObjectInfo>>,
    at_once: usize,
    outlook: Option<Outlook>,
    has_ended: bool,
}

type Reading<'a> = Work<'a, Result<ListPage>>;

/// What is likely to come.
#[derive(Debug, Clone, Copy)]
struct Outlook {
    timeline: TimelineId,
    last: SegmentNumber,
    /// How many segments a page has.
    step: u64,
}

/// Keys after `after` and up to `until`, as one page or a little more.
#[derive(Debug, Clone)]
struct Stretch {
    after: Option<String>,
    until: Option<String>,
}

/// What was read of a stretch.
struct StretchRead {
    objects: Vec<ObjectInfo>,
    /// There is more of it.
    is_cut: bool,
    /// There is nothing after it.
    is_last: bool,
}

impl<'a> WalPages<'a> {
    /// The files that `request` asks for, of an archive whose segments have this size.
    pub(crate) fn new(
        store: &'a dyn ObjectStore,
        size: SegmentSize,
        request: ListRequest,
    ) -> WalPages<'a> {
        WalPages {
            store,
            size,
            after: request.start_after.clone(),
            request,
            ahead: None,
            read: VecDeque::new(),
            at_once: FIRST_AT_ONCE,
            outlook: None,
            has_ended: false,
        }
    }

    /// The next page, which may be empty; `None` after the last.
    ///
    /// # Errors
    /// Those of [`ObjectStore::list`].
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ObjectInfo>>> {
        if self.read.is_empty() && !self.has_ended {
            match self.store.pages_at_once() {
                0 | 1 => self.read_page().await?,
                most => self.read_stretches(most).await?,
            }
        }
        Ok(self.read.pop_front())
    }

    async fn read_page(&mut self) -> Result<()> {
        let reading = self.ahead.take().unwrap_or_else(|| self.reading(None));
        let answer = reading.await?;
        self.has_ended = answer.next.is_none();
        if answer.next.is_some() && self.store.pages_at_once() <= 1 {
            let mut ahead = self.reading(answer.next);
            let begun = poll_fn(|context| Poll::Ready(ahead.as_mut().poll(context)));
            self.ahead = Some(match begun.await {
                Poll::Ready(answer) => Box::pin(ready(answer)),
                Poll::Pending => ahead,
            });
        }
        self.add(answer.objects);
        Ok(())
    }

    fn reading(&self, page: Option<String>) -> Reading<'a> {
        let (store, request) = (self.store, self.request.clone());
        Box::pin(async move { store.list(&request, page).await })
    }

    async fn read_stretches(&mut self, most: usize) -> Result<()> {
        let stretches = self.stretches(most);
        let mut was_right = stretches.len() > 1;
        let (store, request) = (self.store, &self.request);
        let read = stretches.into_iter().map(|stretch| read_stretch(store, request, stretch));
        for stretch in try_join_all(read).await? {
            self.add(stretch.objects);
            self.has_ended = stretch.is_last;
            if stretch.is_last || stretch.is_cut {
                // What was read after it is no page of what follows.
                was_right = false;
                break;
            }
        }
        self.at_once = if was_right { (self.at_once * 2).min(most) } else { FIRST_AT_ONCE };
        Ok(())
    }

    /// What is asked for next. The last of them has no end.
    fn stretches(&self, most: usize) -> Vec<Stretch> {
        let mut after = self.after.clone();
        let mut stretches = Vec::new();
        if let Some(Outlook { timeline, last, step }) = self.outlook {
            for number in 1..self.at_once.min(most) as u64 {
                let number = last.0 + number * step;
                let segment = WalSegment { timeline, number: SegmentNumber(number) };
                let name = WalFileName::segment(segment, self.size);
                let until = Some(layout::before_wal_file(&name));
                if until <= after {
                    // There is no such number: its name has a digit more.
                    break;
                }
                stretches
                    .push(Stretch { after: std::mem::replace(&mut after, until.clone()), until });
            }
        }
        stretches.push(Stretch { after, until: None });
        stretches
    }

    fn add(&mut self, objects: Vec<ObjectInfo>) {
        if let Some(last) = objects.last() {
            self.after = Some(last.key.to_string());
            self.outlook = self.outlook(&objects);
        }
        self.read.push_back(objects);
    }

    fn outlook(&self, page: &[ObjectInfo]) -> Option<Outlook> {
        let segment = |object: &ObjectInfo| {
            let (name, _) = layout::wal_file_of(&object.key)?;
            Some((name.timeline(), name.segment_number(self.size)?))
        };
        let (timeline, last) = page.iter().rev().find_map(segment)?;
        let of_timeline =
            |(its, number): (TimelineId, SegmentNumber)| (its == timeline).then_some(number);
        let first = page.iter().filter_map(segment).find_map(of_timeline)?;
        // A little less, so that one page has all of it and some other files, too.
        let step = last.0.saturating_sub(first.0) * 49 / 50;
        (step >= LEAST_STEP).then_some(Outlook { timeline, last, step })
    }
}

/// Reads what is in a stretch, as far as it goes with a few requests.
async fn read_stretch(
    store: &dyn ObjectStore,
    request: &ListRequest,
    stretch: Stretch,
) -> Result<StretchRead> {
    let Stretch { after, until } = stretch;
    let request = ListRequest { start_after: after, ..request.clone() };
    let (mut objects, mut page) = (Vec::new(), None);
    let most = if until.is_some() { PAGES_OF_STRETCH } else { 1 };
    for pages in 1.. {
        let answer = store.list(&request, page).await?;
        let is_past =
            |object: &ObjectInfo| until.as_deref().is_some_and(|until| object.key.as_str() > until);
        let reaches_past = answer.objects.last().is_some_and(is_past);
        objects.extend(answer.objects.into_iter().take_while(|object| !is_past(object)));
        if reaches_past || answer.next.is_none() {
            return Ok(StretchRead { objects, is_cut: false, is_last: !reaches_past });
        }
        page = answer.next;
        // All of a page may be what is not ours.
        if pages >= most && !objects.is_empty() {
            break;
        }
    }
    Ok(StretchRead { objects, is_cut: until.is_some(), is_last: false })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layout::ObjectKey;
    use crate::store::faulty::{FaultyStore, Operation};
    use crate::store::memory::MemoryStore;
    use crate::store::{Attributes, PutMode, list_all};

    fn request(start_after: Option<&str>) -> ListRequest {
        let start_after = start_after.map(str::to_owned);
        ListRequest { prefix: layout::wal(), start_after, shallow: false }
    }

    async fn fill(store: &MemoryStore, names: impl IntoIterator<Item = String>) {
        for name in names {
            let key = ObjectKey::from_listing(&format!("wal_005/{name}")).unwrap();
            let attributes = Attributes::default();
            let put = store.put(&key, "x".into(), PutMode::Replace, &attributes);
            let _ = put.await.unwrap();
        }
    }

    fn segment(timeline: u32, number: u64) -> String {
        let (timeline, number) = (TimelineId(timeline), SegmentNumber(number));
        WalSegment { timeline, number }.file_name(SegmentSize::DEFAULT)
    }

    async fn keys(store: &dyn ObjectStore, start_after: Option<&str>) -> Vec<ObjectKey> {
        let mut pages = WalPages::new(store, SegmentSize::DEFAULT, request(start_after));
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await.unwrap() {
            keys.extend(page.into_iter().map(|object| object.key));
        }
        keys
    }

    async fn expected(store: &dyn ObjectStore, start_after: Option<&str>) -> Vec<ObjectKey> {
        let objects = list_all(store, &request(start_after)).await.unwrap();
        objects.into_iter().map(|object| object.key).collect()
    }

    #[tokio::test]
    async fn pages_of_a_long_archive_are_asked_for_at_the_same_time() {
        let store = MemoryStore::with_page_size(100).that_answers_pages_at_once(8);
        fill(&store, (0..10_000).map(|number| segment(1, number) + ".lz4")).await;
        let faulty = FaultyStore::new(store.clone());
        assert_eq!(keys(&faulty, None).await, expected(&store, None).await);
        let requests = faulty.calls(Operation::List);
        assert!((103..115).contains(&requests), "{requests} requests");

        let one_by_one = MemoryStore::with_page_size(100);
        fill(&one_by_one, (0..1000).map(|number| segment(1, number))).await;
        let faulty = FaultyStore::new(one_by_one.clone());
        assert_eq!(keys(&faulty, None).await.len(), 1000);
        assert_eq!(faulty.calls(Operation::List), 10);
    }

    #[tokio::test]
    async fn the_largest_names_are_no_trouble() {
        let store = MemoryStore::with_page_size(50).that_answers_pages_at_once(8);
        let most = u64::from(u32::MAX) * 256;
        fill(&store, (most - 200..most + 256).map(|number| segment(u32::MAX, number))).await;
        assert_eq!(keys(&store, None).await, expected(&store, None).await);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn it_is_the_listing_whatever_is_there(
            runs in prop::collection::vec((1_u32..4, 0_u64..3000, 1_u64..300, 1_u64..4), 1..6),
            others in prop::collection::vec((1_u32..5, 0_u64..3000, 0_usize..6), 0..60),
            page_size in 35_usize..120,
            at_once in 2_usize..9,
            start in prop::option::of((1_u32..4, 0_u64..3000)),
        ) {
            let whole = runs.into_iter().flat_map(|(timeline, first, count, step)| {
                (0..count).map(move |n| segment(timeline, first + n * step) + ".lz4")
            });
            let others = others.into_iter().map(|(timeline, number, kind)| {
                let name = segment(timeline, number);
                match kind {
                    0 => format!("{timeline:08X}.history.lz4"),
                    1 => name + ".00000028.backup.lz4",
                    2 => name + ".partial.lz4",
                    3 => name + ".zst",
                    4 => name + "/below",
                    _ => format!("something else {number}"),
                }
            });
            let store = MemoryStore::with_page_size(page_size).that_answers_pages_at_once(at_once);
            let after = start.map(|(timeline, number)| format!("wal_005/{}", segment(timeline, number)));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                fill(&store, whole.chain(others)).await;
                let after = after.as_deref();
                prop_assert_eq!(keys(&store, after).await, expected(&store, after).await);
                Ok(())
            })?;
        }
    }
}
