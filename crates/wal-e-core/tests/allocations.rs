//! How much memory is asked for to archive one more WAL file, and to fetch one. Each is at most
//! a few buffers: what grows with the size of a file, or is asked for again for each piece of
//! it, is noticed here.
//!
//! One test alone is in this program, since all that it does is counted.

use std::path::Path;
use std::sync::Arc;

use wal_e_core::codec::Compression;
use wal_e_core::config::{FileConfig, StoreConfig, StorePlace};
use wal_e_core::notice;
use wal_e_core::owner::Claimant;
use wal_e_core::postgres::{SegmentSize, SystemIdentifier, WalFileName};
use wal_e_core::store::{self, ObjectStore, retry::Patience};
use wal_e_core::wal::{self, Archiving, FetchOptions, Pipeline, PushOutcome};

mod made_wal;

use made_wal::{SEGMENT_BYTES, SYSTEM_IDENTIFIER};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// What may be asked for.
struct Limit {
    blocks: u64,
    bytes: u64,
}

/// 73 blocks of 17,833,034 bytes, and what a thread that begins meanwhile takes. Of these are
/// 17,039,360 bytes room for the whole segment, of which only what the compressed bytes take is
/// ever touched; the rest are a block of a frame, compressed and not, and what is read at a time.
const ARCHIVED: Limit = Limit { blocks: 90, bytes: 17_950_000 };

/// 152 to 172 blocks, as threads wait for each other, of 5,242,765 bytes. Each piece of the stored
/// bytes has 256 kB of its own.
const FETCHED: Limit = Limit { blocks: 250, bytes: 5_400_000 };

#[test]
fn archiving_and_fetching_a_segment_takes_a_few_buffers() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let pg_wal = directory.path().join("pg_wal");
    let archive = directory.path().join("archive");
    for made in [&pg_wal, &archive] {
        std::fs::create_dir(made).expect("a directory can be made");
    }
    let mut names = Vec::new();
    for (name, content) in made_wal::segments(2) {
        std::fs::write(pg_wal.join(&name), content).expect("a file can be written");
        names.push(name.parse::<WalFileName>().expect("it is a name"));
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = open(&archive).await;
        let pipeline = pipeline(&store, &pg_wal).await;
        let fetched = directory.path().join("fetched");
        // The first of each makes what is made once: threads, above all.
        archive_one(&pipeline, &names[0]).await;
        fetch_one(&*store, &names[0], &fetched).await;

        let _profiler = dhat::Profiler::builder().testing().build();
        let before = dhat::HeapStats::get();
        archive_one(&pipeline, &names[1]).await;
        let between = dhat::HeapStats::get();
        fetch_one(&*store, &names[1], &fetched).await;
        let after = dhat::HeapStats::get();
        assert_within(&ARCHIVED, "archiving", &before, &between);
        assert_within(&FETCHED, "fetching", &between, &after);
    });
}

/// If it fails, `dhat-heap.json` in the directory of the package shows where the memory was
/// asked for: <https://nnethercote.github.io/dh_view/dh_view.html>.
#[expect(clippy::print_stdout, reason = "with --nocapture it is the measurement")]
fn assert_within(limit: &Limit, what: &str, before: &dhat::HeapStats, after: &dhat::HeapStats) {
    let blocks = after.total_blocks - before.total_blocks;
    let bytes = after.total_bytes - before.total_bytes;
    println!("{what} a segment: {blocks} allocations, {bytes} bytes");
    let limits = (limit.blocks, limit.bytes);
    dhat::assert!(
        blocks <= limit.blocks && bytes <= limit.bytes,
        "{what} a segment took {blocks} allocations of {bytes} bytes; at most {limits:?} are expected"
    );
}

async fn open(directory: &Path) -> Arc<dyn ObjectStore> {
    let config =
        StoreConfig::from(StorePlace::File(FileConfig { directory: directory.to_owned() }));
    let opened = store::open(&config, Patience::none(), notice::channel().0).await;
    opened.expect("the directory is there")
}

async fn pipeline(store: &Arc<dyn ObjectStore>, pg_wal: &Path) -> Pipeline {
    let claimant = Claimant::on_this_host(SystemIdentifier(SYSTEM_IDENTIFIER), String::new())
        .with_segment_size(SegmentSize::new(SEGMENT_BYTES as u64));
    let archiving = Archiving {
        wal_directory: pg_wal.to_owned(),
        compression: Compression::default(),
        uploads: 1,
        standby: false,
        notes_changed_blocks: false,
    };
    let opened =
        wal::open(Arc::clone(store), Some(&claimant), &archiving, notice::channel().0).await;
    opened.expect("the archive is empty")
}

async fn archive_one(pipeline: &Pipeline, name: &WalFileName) {
    let pushed = pipeline.push(name).await.expect("it is archived");
    assert_eq!(pushed.outcome, PushOutcome::Stored);
    assert_eq!(pushed.bytes_read, SEGMENT_BYTES as u64);
}

async fn fetch_one(store: &dyn ObjectStore, name: &WalFileName, destination: &Path) {
    let options = FetchOptions {
        system_identifier: Some(SystemIdentifier(SYSTEM_IDENTIFIER)),
        likely: Default::default(),
        segment_size: SegmentSize::new(SEGMENT_BYTES as u64),
        gap_patience: None,
        is_final: false,
        guard: None,
        notices: notice::channel().0,
        cancel: Default::default(),
    };
    let fetched = wal::fetch(store, name, destination, &options).await.expect("it is archived");
    assert_eq!(fetched.bytes, SEGMENT_BYTES as u64);
}
