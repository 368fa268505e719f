//! The walk over the records of a segment, and the map of the blocks that they change.

use criterion::{Criterion, Throughput};
use wal_e_core::changed_blocks::SegmentMapper;
use wal_e_core::postgres::{Lsn, SegmentNumber, SegmentSize, TimelineId, WalReader, WalSegment};

pub fn bench(criterion: &mut Criterion) {
    let content = super::segment();
    let start = Lsn(content.len() as u64);
    let mut group = criterion.benchmark_group("WAL");
    group.throughput(Throughput::Bytes(content.len() as u64));
    group.bench_function("records of 16 MB", |bencher| {
        bencher.iter(|| {
            let (mut reader, mut records) = (WalReader::new(start, SegmentSize::DEFAULT), 0_u64);
            for piece in content.chunks(256 * 1024) {
                reader.feed(piece, &mut |_| records += 1);
            }
            assert!(reader.ended().is_none() && records > 10_000, "{records} {reader:?}");
        });
    });
    let segment = WalSegment { timeline: TimelineId(1), number: SegmentNumber(1) };
    group.bench_function("map of 16 MB", |bencher| {
        bencher.iter(|| {
            let mut mapper = SegmentMapper::new(segment, SegmentSize::DEFAULT);
            for piece in content.chunks(256 * 1024) {
                mapper.feed(piece).expect("it is valid");
            }
            mapper.finish().expect("it is whole").to_bytes().len()
        });
    });
    group.finish();
}
