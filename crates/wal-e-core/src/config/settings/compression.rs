//! How new objects are compressed.

use super::{Description, Flag, Number, TEXT_OF_SERVER, Unit, Value};

/// WAL-G's variable for the level, which counts for zstd alone, after the one of
/// [`super::Setting::CompressionLevel`].
pub const ZSTD_LEVEL: &str = "ZSTD_LEVEL";

/// The commands that compress.
const PUSHES: &[&str] = &["backup-push", "backup-merge", "wal-push"];

pub(super) const COMPRESSION: Description = Description {
    name: "compression",
    purpose: "How new objects are compressed",
    note: "Those that are stored already stay as they are, and are read as they are.",
    remarks: "LZ4 costs the least time; zstd makes objects smaller. While it compresses, zstd \
              takes for each object about 6 MB of memory at level 3, 60 MB at level 12 and about \
              100 MB from level 19 on; reading takes 8 MB at most. What is stored with `none` has \
              no checksum of its own: WAL in S3 is still compared with the checksum that is kept \
              next to it, but the tars of a base backup only by `wale_backup_verify()` or, when \
              restored, by `pg_verifybackup`. Choose it where the storage compresses by itself. In \
              the server the default counts as not set: variables are used then.",
    value: Value::Choice { words: &["lz4", "zstd", "none"], default: "lz4" },
    option: Some(Flag {
        name: "compression",
        placeholder: "METHOD",
        form: "lz4, zstd or none",
        commands: PUSHES,
        value: None,
    }),
    variables: &["COMPRESSION_METHOD"],
    ..TEXT_OF_SERVER
};

/// Zero is the method's own default. Which levels there are depends on the method, and a
/// check of one setting cannot know what the other is about to become.
pub(super) const COMPRESSION_LEVEL: Description = Description {
    name: "compression_level",
    purpose: "Level of the compression method",
    note: "-5 to 12 for lz4, 1 to 22 for zstd. Zero means the method's own default.",
    remarks: "The default is LZ4's fast compressor, and level 3 of zstd; `none` has no levels. With \
              a level that the method does not have, archiving fails, and the log says why. For zstd \
              the variable `WALG_ZSTD_LEVEL` counts, too.",
    value: Value::Number(Number { unit: Unit::One, low: -5, high: 22, default: Some(0) }),
    option: Some(Flag {
        name: "compression-level",
        placeholder: "N",
        form: "-5 to 12 for lz4, 1 to 22 for zstd, 0 for its own default",
        commands: PUSHES,
        value: None,
    }),
    variables: &["COMPRESSION_LEVEL"],
    ..TEXT_OF_SERVER
};
