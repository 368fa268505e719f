use time::macros::datetime;

use super::*;

const NOON: OffsetDateTime = datetime!(2026-11-23 12:00:00.123456 UTC);

fn header(rmgr: u8, info: u8) -> RecordHeader {
    RecordHeader { total_bytes: 0, xid: 700, previous: Lsn(0), info, rmgr, crc: 0 }
}

fn noon() -> [u8; 8] {
    let microseconds = (NOON - POSTGRES_EPOCH).whole_microseconds();
    i64::try_from(microseconds).unwrap().to_ne_bytes()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn an_ordinary_commit_has_its_time_and_transaction() {
    let mut data = vec![ORIGIN, 1, 0, TOPLEVEL_XID, 1, 2, 3, 4, DATA_SHORT, 8];
    data.extend(noon());
    let kind = RecordKind::read(&header(RMGR_XACT, XACT_COMMIT), &data, 0xD110);
    let expected = RecordKind::TransactionEnd { xid: Some(700), time: NOON, committed: true };
    assert_eq!(kind, expected);
    let kind = RecordKind::read(&header(RMGR_XACT, XACT_ABORT), &data, 0xD110);
    assert!(matches!(kind, RecordKind::TransactionEnd { committed: false, .. }));
}

#[test]
fn a_prepared_transaction_is_found_after_all_other_parts() {
    for (magic, stats_words) in [(0xD110_u16, 3), (MAGIC_17, 3), (0xD118, 4)] {
        let mut data = vec![DATA_LONG, 0, 0, 0, 0];
        data.extend(noon());
        data.extend(words(&[0x11F, 1, 2])); // all parts; database, tablespace
        data.extend(words(&[2, 701, 702])); // subtransactions
        data.extend(words(&[1, 1, 2, 3])); // relations
        data.extend(words(&[1]));
        data.extend(words(&vec![9; stats_words]));
        data.extend(words(&[2, 1, 1, 1, 1, 2, 2, 2, 2])); // invalidations
        data.extend(words(&[4242]));
        let info = XACT_COMMIT_PREPARED | XACT_HAS_INFO;
        let kind = RecordKind::read(&header(RMGR_XACT, info), &data, magic);
        let expected = RecordKind::TransactionEnd { xid: Some(4242), time: NOON, committed: true };
        assert_eq!(kind, expected);
        // Cut anywhere, it is never another number.
        for length in 13..data.len() {
            let kind = RecordKind::read(&header(RMGR_XACT, info), &data[..length], magic);
            let expected = RecordKind::TransactionEnd { xid: None, time: NOON, committed: true };
            assert_eq!(kind, expected, "{length}");
        }
    }
}

#[test]
fn a_restore_point_and_the_end_of_a_backup_are_read() {
    let mut data = vec![DATA_SHORT, 72];
    data.extend(noon());
    data.extend(b"before the mistake");
    data.resize(74, 0);
    let kind = RecordKind::read(&header(RMGR_XLOG, XLOG_RESTORE_POINT), &data, 0xD110);
    let name = "before the mistake".to_owned();
    assert_eq!(kind, RecordKind::RestorePoint { name, time: NOON });
    let mut data = vec![DATA_SHORT, 8];
    data.extend(0x200_0028_u64.to_ne_bytes());
    let kind = RecordKind::read(&header(RMGR_XLOG, XLOG_BACKUP_END), &data, 0xD110);
    assert_eq!(kind, RecordKind::BackupEnd { start: Lsn(0x200_0028) });
}

#[test]
fn what_replay_needs_beyond_the_data_directory_is_read() {
    let mut data = vec![DATA_SHORT, 26];
    data.extend(words(&[300, 8, 10, 0, 64, 1, 0x0001]));
    data.truncate(28);
    let kind = RecordKind::read(&header(RMGR_XLOG, XLOG_PARAMETER_CHANGE), &data, 0xD118);
    let required = RequiredSettings {
        max_connections: 300,
        max_worker_processes: 8,
        max_wal_senders: 10,
        max_prepared_transactions: 0,
        max_locks_per_transaction: 64,
    };
    let expected = ParameterChange { required, wal_level_is_minimal: false };
    assert_eq!(kind, RecordKind::ParameterChange(expected));
    for (path, location) in [("/mnt/b\u{fc}ro\0", "/mnt/b\u{fc}ro"), ("\0", "")] {
        let mut data = vec![DATA_LONG, 0, 0, 0, 0];
        data.extend(words(&[16_385]));
        data.extend(path.as_bytes());
        let kind = RecordKind::read(&header(RMGR_TABLESPACE, 0), &data, 0xD110);
        let location = PathBuf::from(location);
        assert_eq!(kind, RecordKind::TablespaceCreate { oid: 16_385, location });
    }
    let mut data = vec![DATA_SHORT, 4];
    data.extend(words(&[16_385]));
    let kind = RecordKind::read(&header(RMGR_TABLESPACE, 0x10), &data, 0xD110);
    assert_eq!(kind, RecordKind::TablespaceDrop { oid: 16_385 });
}

#[test]
fn a_checkpoint_tells_where_replay_begins() {
    let mut data = vec![DATA_SHORT, 88];
    data.extend(0x300_0028_u64.to_ne_bytes());
    data.extend(words(&[2, 1]));
    data.resize(2 + CHECKPOINT_TIME, 0);
    let time = datetime!(2026-11-23 12:00 UTC);
    data.extend(time.unix_timestamp().to_ne_bytes());
    for (info, shutdown) in [(XLOG_CHECKPOINT_SHUTDOWN, true), (XLOG_CHECKPOINT_ONLINE, false)] {
        let kind = RecordKind::read(&header(RMGR_XLOG, info), &data, 0xD118);
        let (redo, timeline) = (Lsn(0x300_0028), TimelineId(2));
        assert_eq!(kind, RecordKind::Checkpoint { redo, timeline, shutdown, time });
    }
}

#[test]
fn the_beginning_of_a_timeline_has_its_time() {
    let mut data = vec![DATA_SHORT, 16];
    data.extend(noon());
    data.extend(words(&[2, 1]));
    let kind = RecordKind::read(&header(RMGR_XLOG, XLOG_END_OF_RECOVERY), &data, 0xD110);
    assert_eq!(kind, RecordKind::EndOfRecovery { time: NOON });
}

#[test]
fn what_makes_no_sense_says_nothing() {
    for data in [&[][..], &[0], &[255], &[255, 8, 1], &[254, 1, 2], &[253, 1], &[252, 1, 1]] {
        for info in 0..=255 {
            for rmgr in [RMGR_XLOG, RMGR_XACT, RMGR_TABLESPACE, 2] {
                let kind = RecordKind::read(&header(rmgr, info), data, 0xD118);
                assert_eq!(kind, RecordKind::Other);
            }
        }
    }
    let mut far = vec![DATA_SHORT, 8];
    far.extend(i64::MIN.to_ne_bytes());
    assert_eq!(RecordKind::read(&header(RMGR_XACT, 0), &far, 0xD110), RecordKind::Other);
}
