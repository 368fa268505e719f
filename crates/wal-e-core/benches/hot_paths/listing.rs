//! The names of a large archive, listed and made into what is known of its WAL.

use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use time::OffsetDateTime;
use wal_e_core::codec::Encoding;
use wal_e_core::coverage::Archive;
use wal_e_core::postgres::{SegmentNumber, SegmentSize, TimelineId, WalFileName, WalSegment};
use wal_e_core::store::memory::MemoryStore;
use wal_e_core::store::{Attributes, ObjectStore, PutMode};
use wal_e_core::{layout, notice};

const SEGMENTS: u64 = 100_000;

pub fn bench(criterion: &mut Criterion) {
    let runtime = super::runtime();
    let store = runtime.block_on(archive());
    let (notices, _queue) = notice::channel();
    let mut group = criterion.benchmark_group("listing");
    group.throughput(Throughput::Elements(SEGMENTS));
    group.bench_function("WAL of 100,000 segments", |bencher| {
        bencher.iter(|| {
            let looked = Archive::of(&store, None, OffsetDateTime::UNIX_EPOCH, &notices);
            runtime.block_on(looked).expect("the archive can be listed")
        });
    });
    group.finish();
}

/// An archive whose objects have only names and sizes.
async fn archive() -> Arc<dyn ObjectStore> {
    let (store, attributes) = (MemoryStore::new(), Attributes::default());
    for number in (1..=SEGMENTS).map(SegmentNumber) {
        let segment = WalSegment { timeline: TimelineId(1), number };
        let name = WalFileName::segment(segment, SegmentSize::DEFAULT);
        let key = layout::wal_file(&name, Encoding::Lz4);
        let body = Bytes::from_static(b"a few bytes");
        let put = store.put(&key, body, PutMode::CreateOnly, &attributes);
        let _ = put.await.expect("memory takes everything");
    }
    Arc::new(store)
}
