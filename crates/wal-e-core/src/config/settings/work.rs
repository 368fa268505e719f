//! How much is done at a time, and what is said of it.

use super::{Description, Flag, Number, TEXT_OF_SERVER, Unit, Value};

/// How many at a time; a server has less to spare than a program that is asked for more.
const fn at_a_time(high: i64, default: i64) -> Value {
    Value::Number(Number { unit: Unit::One, low: 1, high, default: Some(default) })
}

/// Enough for 80 segments a second at 100 ms from the store.
pub(super) const WAL_UPLOAD_CONCURRENCY: Description = Description {
    name: "wal_upload_concurrency",
    purpose: "WAL files that are uploaded at the same time",
    note: "With 1, no file is sent before the server asks for it.",
    remarks: "While one answer is awaited, the files that wait after it are sent. Memory: 40 MB \
              for all that is compressed and sent, so that of WAL that hardly compresses fewer \
              files are sent at a time, and up to 17 MB for each processor more while it begins \
              to compress less; segments larger than 16 MB take 24 MB, and as many are sent as \
              there are processors. The option has the short form `-p`.",
    value: at_a_time(64, 8),
    option: Some(Flag {
        name: "pool-size",
        placeholder: "N",
        form: "files that wait after PATH are sent with it, so that the next calls have little to do. With 1, only PATH",
        commands: &["wal-push"],
        value: Some(at_a_time(256, 8)),
    }),
    ..TEXT_OF_SERVER
};

/// A line for each file, as WAL-E had it: the first thing to look for when something is missing.
pub(super) const LOG_ARCHIVED_FILES: Description = Description {
    name: "log_archived_files",
    purpose: "Whether the server log has a line for each WAL file that was archived",
    note: "With its size, its size in the archive, and how long it took.",
    value: Value::Switch { default: true },
    ..TEXT_OF_SERVER
};

/// Each partition holds a few parts in memory: 4 keeps a network busy and stays under 100 MB.
pub(super) const BACKUP_CONCURRENCY: Description = Description {
    name: "backup_concurrency",
    purpose: "Tar partitions that a base backup uploads, or a verification reads, at the same time",
    remarks: "A verification reads WAL segments in the same number. The option has the short form \
              `-p`; `backup-fetch` has it too, for the tar partitions that a restore reads.",
    value: at_a_time(64, 4),
    option: Some(Flag {
        name: "pool-size",
        placeholder: "N",
        form: "",
        commands: &["backup-push", "backup-verify"],
        value: Some(at_a_time(256, 4)),
    }),
    ..TEXT_OF_SERVER
};

/// Zero means no limit.
const KILOBYTES_A_SECOND: Value = Value::Number(Number {
    unit: Unit::Kilobytes,
    low: 0,
    high: i32::MAX as i64,
    default: Some(0),
});

/// The program's options are in bytes, as WAL-E's were, and are left out for no limit.
const BYTES_A_SECOND: Option<Value> =
    Some(Value::Number(Number { unit: Unit::Bytes, low: 1, high: i64::MAX, default: None }));

/// For the whole backup, however many partitions share it.
pub(super) const BACKUP_READ_RATE_LIMIT: Description = Description {
    name: "backup_read_rate_limit",
    purpose: "How fast a base backup reads data files, for each second",
    note: "For all tar partitions together. Zero means no limit.",
    remarks: "A new value also counts for a backup that runs. The option counts bytes, as WAL-E's \
              did; without it there is no limit.",
    value: KILOBYTES_A_SECOND,
    option: Some(Flag {
        name: "cluster-read-rate-limit",
        placeholder: "BYTES",
        form: "at most this many bytes, all partitions together",
        commands: &["backup-push"],
        value: BYTES_A_SECOND,
    }),
    ..TEXT_OF_SERVER
};

/// For the whole server, whose processes share one line.
pub(super) const UPLOAD_RATE_LIMIT: Description = Description {
    name: "upload_rate_limit",
    purpose: "How fast objects are sent to the archive, for each second",
    note: "For archiving and base backups together. Zero means no limit.",
    remarks: "What counts is the content of objects as it is sent: compressed, and again when it is sent again. \
              While a base backup runs, half of it is the archiver's if it needs it. A new value counts at once, also for uploads \
              that are on their way. A server that stops sends the WAL that is left without a limit, so that the stop \
              need not wait. If wal_e is not in `shared_preload_libraries`, a new value counts from the next WAL file \
              on. The option counts bytes, and is for one process: each `wal-e` has its own limit.",
    value: KILOBYTES_A_SECOND,
    option: Some(Flag {
        name: "upload-rate-limit",
        placeholder: "BYTES",
        form: "at most this many bytes, all uploads together",
        commands: &["backup-push", "backup-merge", "wal-push"],
        value: BYTES_A_SECOND,
    }),
    ..TEXT_OF_SERVER
};

/// Words of WAL-G for the program (`WALG_DELTA_MAX_STEPS`). A restore reads the whole chain.
pub(super) const BACKUP_MAX_DELTAS: Description = Description {
    name: "backup_max_deltas",
    purpose: "Incremental base backups that may follow a full one",
    note: "Of those by schedule, the next one after so many is a full one. Zero means that all of \
           them are full.",
    remarks: "While it is not zero, the archiver notes which blocks the WAL changes, so that incremental base backups \
              need not read all of them; see [incremental base backups](incremental.md). It does not limit \
              `wale_backup_push(incremental => true)`.",
    value: Value::Number(Number { unit: Unit::One, low: 0, high: 1000, default: Some(0) }),
    option: Some(Flag {
        name: "delta-max-steps",
        placeholder: "N",
        form: "with it, an incremental backup is taken unless so many have followed a full one; 0 for a full one",
        commands: &["backup-push"],
        value: Some(Value::Number(Number { unit: Unit::One, low: 0, high: 1000, default: None })),
    }),
    ..TEXT_OF_SERVER
};

/// As WAL-G and WAL-E have it: large enough that a TB is a thousand objects.
pub(super) const TAR_SIZE_THRESHOLD: Description = Description {
    name: "tar_size_threshold",
    purpose: "Size past which a tar partition of a base backup closes",
    value: Value::Number(Number {
        unit: Unit::Megabytes,
        low: 1,
        high: 1024 * 1024,
        default: Some(1024),
    }),
    ..TEXT_OF_SERVER
};

/// Only what a server starts without: a backup that cannot be restored is not a choice.
pub(super) const BACKUP_EXCLUDE: Description = Description {
    name: "backup_exclude",
    purpose: "Files and directories at the top of the data directory that base backups leave out",
    note: "Names separated by commas; \"*\" in a name stands for any characters. What belongs to \
           PostgreSQL cannot be left out.",
    remarks: "For dumps, core files, and whatever else was put there. The server's own logs (`log_directory`) are \
              left out without it.",
    value: Value::Text { empty: "that nothing is left out but what PostgreSQL makes anew" },
    option: Some(Flag {
        name: "exclude",
        placeholder: "NAMES",
        form: "names separated by commas, \"*\" for any characters",
        commands: &["backup-push"],
        value: None,
    }),
    ..TEXT_OF_SERVER
};
