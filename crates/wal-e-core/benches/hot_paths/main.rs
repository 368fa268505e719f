//! Micro-benchmarks of what every byte goes through, so that a regression shows without a
//! cluster: `make microbench`.
//!
//! * `codec`: frames written and read.
//! * `checksums`: CRC-32C, the checksum of WAL files, and that of pages.
//! * `wal_records`: the walk over the pages and records of WAL.
//! * `tar_stream`: the files of a base backup on their way into the tar.
//! * `listing`: the names in an archive on their way into what is known of its WAL.

mod checksums;
mod codec;
mod listing;
#[path = "../../tests/made_wal/mod.rs"]
mod made_wal;
mod tar_stream;
mod wal_records;

use criterion::{Criterion, criterion_group, criterion_main};

criterion_group! {
    name = hot_paths;
    // Each round is tens of milliseconds of work: a few are enough.
    config = Criterion::default().sample_size(20);
    targets = codec::bench, checksums::bench, wal_records::bench, tar_stream::bench, listing::bench
}
criterion_main!(hot_paths);

/// A segment of WAL.
fn segment() -> Vec<u8> {
    made_wal::segments(1).remove(0).1
}

/// What calls asynchronous functions, as the program does.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
