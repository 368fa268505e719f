//! The checksums of requests, files and pages.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use wal_e_core::postgres::{BLOCK_SIZE, page};
use xxhash_rust::xxh3::xxh3_128;

pub fn bench(criterion: &mut Criterion) {
    let content = super::segment();
    let mut group = criterion.benchmark_group("checksum of 16 MB");
    group.throughput(Throughput::Bytes(content.len() as u64));
    group.bench_function("CRC-32C", |bencher| {
        bencher.iter(|| crc32c::crc32c(black_box(&content)));
    });
    group.bench_function("XXH3, 128 bits", |bencher| {
        bencher.iter(|| xxh3_128(black_box(&content)));
    });
    let (pages, _) = content.as_chunks::<BLOCK_SIZE>();
    group.bench_function("pages", |bencher| {
        bencher.iter(|| {
            (0..)
                .zip(pages)
                .map(|(block, bytes)| u32::from(page::checksum(bytes, block)))
                .sum::<u32>()
        });
    });
    group.finish();
}
