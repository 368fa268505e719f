use time::macros::datetime;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::postgres::TimelineId;

fn backup(name: &str, delta_from: Option<&str>, compressed_bytes: u64) -> BackupInfo {
    BackupInfo {
        name: name.to_owned(),
        stored_at: datetime!(2026-01-02 03:10:00 UTC),
        delta_from: delta_from.map(str::to_owned),
        start_time: None,
        finish_time: None,
        timeline: TimelineId(1),
        start_lsn: None,
        stop_lsn: None,
        pg_version: None,
        system_identifier: None,
        uncompressed_bytes: Some(compressed_bytes * 3),
        compressed_bytes: Some(compressed_bytes),
        cluster_bytes: Some(3000),
        permanent: false,
        hostname: None,
        data_directory: None,
        encryption: None,
        encryption_key: None,
        unreadable: None,
        metadata_unreadable: None,
    }
}

#[test]
fn a_restore_reads_the_whole_chain() {
    let found = chains(vec![
        backup("full", None, 1000),
        backup("first", Some("full"), 10),
        backup("second", Some("first"), 20),
        backup("of_full", Some("full"), 25),
    ]);
    let facts: Vec<_> = found
        .iter()
        .map(|chain| {
            (chain.full_backup.as_deref(), chain.deltas, chain.restore_bytes, chain.saved_bytes)
        })
        .collect();
    assert_eq!(
        facts,
        [
            (Some("full"), 0, Some(1000), Some(0)),
            (Some("full"), 1, Some(1010), Some(2970)),
            (Some("full"), 2, Some(1030), Some(2940)),
            (Some("full"), 1, Some(1025), Some(2925)),
        ]
    );
}

#[test]
fn a_chain_that_is_broken_or_goes_in_a_circle_has_no_full_backup() {
    let unreadable = Some(Error::new(ErrorKind::Corrupt, "it is cut off"));
    let found = chains(vec![
        backup("orphan", Some("gone"), 10),
        BackupInfo { unreadable, ..backup("damaged", None, 10) },
        backup("of_damaged", Some("damaged"), 10),
        backup("a", Some("b"), 10),
        backup("b", Some("a"), 10),
    ]);
    assert!(found.iter().all(|chain| chain.full_backup.is_none() && chain.restore_bytes.is_none()));
}
