//! The JSON objects that go with a backup's tars, in WAL-G's form
//! (`docs/repository-format.md`).
//!
//! The **sentinel** makes a backup exist. `metadata.json` repeats what matters
//! for listing and deletion; its `is_permanent` is the one that counts.
//! `files_metadata.json` names every file and the tar that holds it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{Lsn, SystemIdentifier};

mod reading;

pub(crate) use reading::lsn_of_wal_e;

/// How WAL-G says that its times are formatted.
const DATE_FORMAT: &str = "%Y-%m-%dT%H:%M:%S.%fZ";

/// A sentinel: written in version 2, read in every form that WAL-G and WAL-E
/// wrote. Every field is optional when it is read.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Sentinel {
    /// Start LSN.
    #[serde(rename = "LSN")]
    pub lsn: Option<Lsn>,
    /// `server_version_num`.
    pub pg_version: Option<u32>,
    /// Stop LSN.
    #[serde(rename = "FinishLSN")]
    pub finish_lsn: Option<Lsn>,
    /// The cluster.
    pub system_identifier: Option<SystemIdentifier>,
    /// Bytes of the files.
    pub uncompressed_size: Option<u64>,
    /// Bytes of the tars as stored.
    pub compressed_size: Option<u64>,
    /// Bytes of all files of the cluster, where WAL-G says so: `uncompressed_size` counts
    /// only those that it packed itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_catalog_size: Option<u64>,
    /// The tablespaces, when there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<TablespaceSpec>,
    /// OrioleDB's checkpoint; always null here, and always written.
    pub chkp_num: Option<u32>,
    /// Name of the backup that a delta builds on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta_from: Option<String>,
    /// Start LSN of the backup that a delta builds on.
    #[serde(rename = "DeltaLSN", skip_serializing_if = "Option::is_none")]
    pub delta_lsn: Option<Lsn>,
    /// Name of the full backup with which the chain of a delta begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta_full_name: Option<String>,
    /// How many deltas the chain has, this one included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta_count: Option<u32>,
    /// There is no `files_metadata.json`, by choice.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub files_metadata_disabled: bool,
    /// 2.
    pub version: Option<u32>,
    /// When the backup began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub start_time: Option<OffsetDateTime>,
    /// When it was complete.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finish_time: Option<OffsetDateTime>,
    /// Format of the times, for people.
    pub date_fmt: Option<String>,
    /// Host that it was taken on.
    pub hostname: Option<String>,
    /// Data directory that it was taken of.
    pub data_dir: Option<String>,
    /// Where `pg_wal` was, when it was a link. WAL-G has no such key, and passes it over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_directory: Option<String>,
    /// How its tars and its manifest are encrypted, by the word of [`Form`]: `None` where
    /// wal_e 1.0, WAL-G or WAL-E wrote it. WAL-G has no such key, and passes it over.
    ///
    /// [`Form`]: crate::encryption::Form
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// The fingerprint of the key with which they are. Nor has WAL-G this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<String>,
    /// The delta backup of which it was made, with those that that one built on. Nor has WAL-G
    /// this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merged_from: Option<String>,
    /// As of the time it was taken; `metadata.json` decides.
    pub is_permanent: bool,
    /// What `files_metadata.json` says since: WAL-G 1 kept it here.
    #[serde(skip)]
    pub inline_files: FilesMetadata,
    /// WAL-E wrote it.
    #[serde(skip)]
    pub is_wal_e: bool,
}

/// `metadata.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // The same fields as in the sentinel.
pub struct Metadata {
    #[serde(with = "time::serde::rfc3339::option")]
    pub start_time: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub finish_time: Option<OffsetDateTime>,
    pub date_fmt: Option<String>,
    pub hostname: Option<String>,
    pub data_dir: Option<String>,
    pub pg_version: Option<u32>,
    pub start_lsn: Option<Lsn>,
    pub finish_lsn: Option<Lsn>,
    pub is_permanent: bool,
    pub system_identifier: Option<SystemIdentifier>,
    pub uncompressed_size: Option<u64>,
    pub compressed_size: Option<u64>,
}

impl Sentinel {
    /// A sentinel of a full backup by this version.
    pub fn full() -> Self {
        Sentinel { version: Some(2), date_fmt: Some(DATE_FORMAT.to_owned()), ..Sentinel::default() }
    }

    /// The metadata that goes with this sentinel.
    pub fn metadata(&self) -> Metadata {
        Metadata {
            start_time: self.start_time,
            finish_time: self.finish_time,
            date_fmt: self.date_fmt.clone(),
            hostname: self.hostname.clone(),
            data_dir: self.data_dir.clone(),
            pg_version: self.pg_version,
            start_lsn: self.lsn,
            finish_lsn: self.finish_lsn,
            is_permanent: self.is_permanent,
            system_identifier: self.system_identifier,
            uncompressed_size: self.uncompressed_size,
            compressed_size: self.compressed_size,
        }
    }
}

/// Where the tablespaces were: `base_prefix` and, under its OID, each one's
/// place and link.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct TablespaceSpec {
    /// The data directory.
    pub base_prefix: String,
    /// OIDs, as text.
    pub tablespaces: Vec<String>,
    /// Each OID's place.
    #[serde(flatten)]
    pub places: BTreeMap<String, TablespacePlace>,
}

/// One tablespace of a [`TablespaceSpec`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TablespacePlace {
    /// Absolute path.
    pub loc: String,
    /// Its link below the data directory: `pg_tblspc/16384`.
    #[serde(default)]
    pub link: String,
}

/// `files_metadata.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FilesMetadata {
    /// Every regular file, by its name in the tar; WAL-G lists directories, too.
    #[serde(deserialize_with = "reading::nullable")]
    pub files: BTreeMap<String, FileMetadata>,
    /// Which tar holds which files. WAL-G also lists files here that vanished
    /// before they were read, and that no tar holds.
    #[serde(deserialize_with = "reading::nullable_sets")]
    pub tar_file_sets: BTreeMap<String, Vec<String>>,
}

/// One file of [`FilesMetadata`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FileMetadata {
    /// Of a delta: only changed pages are stored.
    pub is_incremented: bool,
    /// Of a delta: unchanged, and not stored.
    pub is_skipped: bool,
    /// Modification time before it was read, RFC 3339 with nanoseconds.
    #[serde(rename = "MTime")]
    pub mtime: String,
    /// Pages with a wrong checksum.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "reading::if_sound")]
    pub corrupt_blocks: Option<CorruptBlocks>,
    /// Rows changed since the statistics were reset; not collected.
    pub updates_count: u64,
}

/// Pages of one file whose checksum was wrong when they were read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CorruptBlocks {
    /// How many.
    pub corrupt_blocks_count: u64,
    /// The first few, counted within the file.
    pub some_corrupt_blocks: Vec<u32>,
}

/// A time as these objects hold it.
pub fn format_time(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC)
        .format(&Rfc3339)
        .expect("any time that a file system holds has a four-digit year")
}

/// Reads what [`format_time`] wrote.
pub(crate) fn parse_time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// `begun.json`: that a base backup is being made, and by whom. It stays when the backup is
/// complete, and means nothing then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The host of the server.
    pub hostname: String,
    /// The server's data directory.
    pub data_directory: String,
    /// When the backup began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When it was given up.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    pub ended_at: Option<OffsetDateTime>,
    /// The process that makes it of other backups: by which boot of the host, in which namespace,
    /// of which number. `None` for one that is taken of a server, whose data directory says
    /// whether its process was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
}

/// Reads one of the JSON objects; `url` names it in the error.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it is not JSON of that form.
pub fn parse<T: for<'de> Deserialize<'de>>(url: &str, json: &[u8]) -> Result<T> {
    let damaged = |why: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Corrupt, format!("object \"{url}\" is damaged: {why}"))
    };
    // Of a list, serde would take the fields in their order.
    if json.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(damaged(&"it is not a JSON object"));
    }
    serde_json::from_slice(json).map_err(|error| damaged(&error))
}

/// Writes one of the small JSON objects.
pub fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("these types have no keys that JSON lacks")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_sentinel_has_the_keys_that_wal_g_reads() {
        let sentinel = Sentinel {
            lsn: Some(Lsn(0x200_0028)),
            finish_lsn: Some(Lsn(0x200_0100)),
            pg_version: Some(150_018),
            system_identifier: Some(SystemIdentifier(u64::MAX)),
            uncompressed_size: Some(2),
            compressed_size: Some(1),
            start_time: Some(datetime!(2026-01-02 03:04:05.678 UTC)),
            finish_time: Some(datetime!(2026-01-02 03:04:06 UTC)),
            hostname: Some("db1".into()),
            data_dir: Some("/data".into()),
            spec: Some(TablespaceSpec {
                base_prefix: "/data".into(),
                tablespaces: vec!["16384".into()],
                places: BTreeMap::from([(
                    "16384".into(),
                    TablespacePlace { loc: "/ts".into(), link: "pg_tblspc/16384".into() },
                )]),
            }),
            ..Sentinel::full()
        };
        let json: serde_json::Value = serde_json::from_slice(&to_json(&sentinel)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "LSN": 0x200_0028, "FinishLSN": 0x200_0100, "PgVersion": 150_018,
                "SystemIdentifier": u64::MAX, "UncompressedSize": 2, "CompressedSize": 1,
                "Spec": {"base_prefix": "/data", "tablespaces": ["16384"],
                         "16384": {"loc": "/ts", "link": "pg_tblspc/16384"}},
                "ChkpNum": null, "Version": 2, "StartTime": "2026-01-02T03:04:05.678Z",
                "FinishTime": "2026-01-02T03:04:06Z", "DateFmt": "%Y-%m-%dT%H:%M:%S.%fZ",
                "Hostname": "db1", "DataDir": "/data", "IsPermanent": false,
            })
        );
        assert_eq!(parse::<Sentinel>("x", &to_json(&sentinel)).unwrap(), sentinel);
    }

    #[test]
    fn a_sentinel_may_lack_everything_and_have_more() {
        assert_eq!(parse::<Sentinel>("x", b"{}").unwrap(), Sentinel::default());
        let foreign = br#"{"LSN": null, "UserData": {"a": 1}, "FilesMetadataDisabled": true}"#;
        let expected = Sentinel { files_metadata_disabled: true, ..Sentinel::default() };
        assert_eq!(parse::<Sentinel>("x", foreign).unwrap(), expected);
        let error = parse::<Sentinel>("s3://b/x", b"{\"LSN\": \"0/1\"}").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("s3://b/x"));
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        let time = datetime!(2026-01-02 03:04:05.123456789 +2);
        assert_eq!(format_time(time), "2026-01-02T01:04:05.123456789Z");
    }
}
