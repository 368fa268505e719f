//! A made-up archive of many years.
//!
//! Only its names and its sentinels are as they would be: the segments are empty frames, so
//! that it is found where WAL is, and the WAL itself cannot be read.

use std::fs;

use serde_json::json;

use crate::archive::{Archive, compress};

/// Segments of 16 MB that have one number in the first half of their names.
const SEGMENTS_PER_NAME: u64 = 256;

/// A file has at most so many names on most file systems.
const MOST_LINKS: u64 = 50_000;

fn segment(number: u64) -> String {
    format!("00000001{:08X}{:08X}", number / SEGMENTS_PER_NAME, number % SEGMENTS_PER_NAME)
}

/// Fills an archive with so many WAL segments of timeline 1, and so many base backups.
///
/// # Panics
///
/// When the file system of a directory does not take another name.
pub fn fill(archive: &Archive, segments: u64, backups: u64) {
    let frame = compress(b"");
    let mut source = String::new();
    for index in 0..segments {
        let name = format!("wal_005/{}.lz4", segment(index + 1));
        if archive.is_directory() && !index.is_multiple_of(MOST_LINKS) {
            let path = |name: &str| archive.directory().join(name);
            fs::hard_link(path(&source), path(&name)).expect("the directory takes another name");
        } else {
            archive.replace_object(&name, frame.clone());
            source = name;
        }
    }
    let apart = segments / backups.max(1);
    for index in 0..backups {
        add_backup(archive, index * apart + 1);
    }
}

/// A base backup that begins in a segment, and ends in it.
fn add_backup(archive: &Archive, number: u64) {
    let name = format!("base_{}", segment(number));
    let start = number << 24;
    let sentinel = json!({
        "LSN": start + 0x28, "FinishLSN": start + 0x100, "PgVersion": 150_018,
        "SystemIdentifier": 7_000_000_000_000_000_001_u64, "Version": 2,
        "UncompressedSize": 1_u64 << 30, "CompressedSize": 1_u64 << 28,
        "FinishTime": "2026-01-02T03:04:05Z",
    });
    let metadata = json!({
        "start_lsn": start + 0x28, "finish_lsn": start + 0x100, "is_permanent": false,
        "finish_time": "2026-01-02T03:04:05Z",
    });
    let tar = compress(b"");
    let put = |object: &str, bytes: Vec<u8>| {
        archive.replace_object(&format!("basebackups_005/{name}{object}"), bytes);
    };
    for object in ["tar_partitions/part_001", "tar_partitions/pg_control"] {
        put(&format!("/{object}.tar.lz4"), tar.clone());
    }
    put("/files_metadata.json", b"{}".to_vec());
    put("/metadata.json", metadata.to_string().into_bytes());
    put("_backup_stop_sentinel.json", sentinel.to_string().into_bytes());
}
