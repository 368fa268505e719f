//! The files of a base backup into a tar: read, their pages and files summed up, and uploaded to
//! memory. They are not compressed, which would take most of the time.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use wal_e_core::base_backup::{BackupPush, BackupStart, PushOptions, Taker};
use wal_e_core::codec::{Compression, Encoding};
use wal_e_core::config::Exclusions;
use wal_e_core::notice;
use wal_e_core::postgres::{BLOCK_SIZE, Lsn, SegmentSize, SystemIdentifier, TimelineId, page};
use wal_e_core::store::memory::MemoryStore;

use crate::made_wal::SYSTEM_IDENTIFIER;

/// Before this, pages were changed; the backup begins with it.
const START: Lsn = Lsn(0x0200_0028);

const FILES: u32 = 8;
const PAGES_PER_FILE: u32 = 512;

pub fn bench(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory can be made");
    make_cluster(directory.path()).expect("files can be written");
    let runtime = super::runtime();
    let mut group = criterion.benchmark_group("base backup");
    group.throughput(Throughput::Bytes(
        u64::from(FILES) * u64::from(PAGES_PER_FILE) * BLOCK_SIZE as u64,
    ));
    group.bench_function("tar of 32 MB", |bencher| {
        let begin = || runtime.block_on(begin(directory.path()));
        let push = |mut backup: BackupPush| {
            runtime.block_on(backup.push_files()).expect("the files can be stored");
            backup
        };
        bencher.iter_batched(begin, push, BatchSize::PerIteration);
    });
    group.finish();
}

async fn begin(data_directory: &Path) -> BackupPush {
    let start = BackupStart {
        start_lsn: START,
        timeline: TimelineId(1),
        segment_size: SegmentSize::DEFAULT,
        data_directory: data_directory.to_owned(),
        log_directory: None,
        pg_version: 150_000,
        system_identifier: SystemIdentifier(SYSTEM_IDENTIFIER),
        start_time: OffsetDateTime::UNIX_EPOCH,
        data_checksums: true,
        logs_hints: true,
        summarizes_wal: false,
        server_started_at: OffsetDateTime::UNIX_EPOCH,
        permanent: false,
        hostname: "localhost".to_owned(),
        taker: Taker::Program,
    };
    let options = PushOptions {
        concurrency: 1,
        tar_size_threshold_bytes: 1 << 30,
        compression: Compression::new(Encoding::None, None).expect("it has no levels"),
        read_rate_limit: None,
        exclude: Exclusions::default(),
        incremental: None,
    };
    let (store, progress) = (Arc::new(MemoryStore::new()), Arc::default());
    let (notices, _queue) = notice::channel();
    let begun =
        BackupPush::begin(store, start, options, progress, notices, CancellationToken::new());
    begun.await.expect("the archive is empty")
}

/// What a base backup asks of a data directory, and tables whose pages have checksums.
fn make_cluster(directory: &Path) -> std::io::Result<()> {
    for name in ["base/5", "global", "pg_wal/archive_status", "pg_tblspc"] {
        fs::create_dir_all(directory.join(name))?;
    }
    fs::write(directory.join("PG_VERSION"), "15\n")?;
    fs::write(directory.join("global/pg_control"), control_file())?;
    let content = super::segment();
    let (pages, _) = content.as_chunks::<BLOCK_SIZE>();
    for number in 0..FILES {
        let mut file = Vec::new();
        for (block, page) in (0..PAGES_PER_FILE).zip(pages) {
            let mut page = *page;
            // Its LSN comes before the backup, and something is on it.
            page[..8].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
            page[14..16].copy_from_slice(&100_u16.to_le_bytes());
            let checksum = page::checksum(&page, block);
            page[8..10].copy_from_slice(&checksum.to_le_bytes());
            file.extend(page);
        }
        fs::write(directory.join(format!("base/5/{}", 16_384 + number)), file)?;
    }
    Ok(())
}

/// As much of a control file as its checksum asks for, in the layout of PostgreSQL 15.
fn control_file() -> Vec<u8> {
    let mut bytes = vec![0; BLOCK_SIZE];
    bytes[..8].copy_from_slice(&SYSTEM_IDENTIFIER.to_ne_bytes());
    bytes[8..12].copy_from_slice(&1300_u32.to_ne_bytes());
    let crc = crc32c::crc32c(&bytes[..288]);
    bytes[288..292].copy_from_slice(&crc.to_ne_bytes());
    bytes
}
