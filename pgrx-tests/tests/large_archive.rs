//! An archive of many years is looked at, and deleted from, in little memory.

use wal_e_e2e::archive::Archive;
use wal_e_e2e::large_archive::fill;
use wal_e_e2e::process::peak_memory_of_children;
use wal_e_e2e::wal_e::run_wal_e;

const SEGMENTS: u64 = 250_000;

const BACKUPS: u64 = 100;

/// A program of this size may need so much for itself and its threads.
const BASE_BYTES: u64 = 50 << 20;

/// A name, and what is known of the segment.
const BYTES_PER_SEGMENT: u64 = 70;

fn assert_small(archive: &Archive, commands: &[&[&str]]) {
    for command in commands {
        run_wal_e(archive, command.iter().copied()).success();
        let peak = peak_memory_of_children();
        let most = BASE_BYTES + SEGMENTS * BYTES_PER_SEGMENT;
        assert!(peak < most, "{} took {peak} bytes of memory", command.join(" "));
    }
}

#[test]
fn an_archive_of_many_years_takes_little_memory() {
    let archive = Archive::file();
    fill(&archive, SEGMENTS, BACKUPS);
    assert_small(
        &archive,
        &[
            &["backup-list"],
            &["wal-show"],
            &["wal-verify"],
            &["recovery-window"],
            &["report", "30"],
            &["delete", "retain", "30"],
            &["delete", "--confirm", "retain", "30"],
        ],
    );
    let kept = SEGMENTS * 30 / BACKUPS;
    assert_eq!(archive.wal_objects().len() as u64, kept);
}
