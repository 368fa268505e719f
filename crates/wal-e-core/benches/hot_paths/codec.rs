//! Frames of LZ4 and zstd, written and read.

use std::io::{self, Write};

use criterion::{Criterion, Throughput};
use wal_e_core::codec::{Compression, Compressor, Decompressor, Encoding};

/// How WAL files are read and written.
const PIECE_BYTES: usize = 256 * 1024;

pub fn bench(criterion: &mut Criterion) {
    let content = super::segment();
    for encoding in [Encoding::Lz4, Encoding::Zstd] {
        let compression = Compression::new(encoding, None).expect("it has a default level");
        let frame = compress(&content, compression, Vec::new());
        let mut group = criterion.benchmark_group(format!("{encoding} frame of 16 MB"));
        group.throughput(Throughput::Bytes(content.len() as u64));
        let mut buffer = Vec::with_capacity(content.len());
        group.bench_function("write", |bencher| {
            bencher.iter(|| {
                buffer.clear();
                buffer = compress(&content, compression, std::mem::take(&mut buffer));
            });
        });
        let mut piece = vec![0; PIECE_BYTES];
        group.bench_function("read", |bencher| {
            bencher.iter(|| decompress(&frame, encoding, &mut piece));
        });
        group.finish();
    }
}

fn compress(content: &[u8], compression: Compression, into: Vec<u8>) -> Vec<u8> {
    let mut writer = Compressor::new(into, compression).expect("a writer");
    for piece in content.chunks(PIECE_BYTES) {
        writer.write_all(piece).expect("memory takes everything");
    }
    writer.finish().expect("the end of the frame")
}

fn decompress(frame: &[u8], encoding: Encoding, piece: &mut [u8]) {
    let mut reader = Decompressor::new(frame, encoding).expect("a reader");
    while io::Read::read(&mut reader, piece).expect("the frame is sound") > 0 {}
}
