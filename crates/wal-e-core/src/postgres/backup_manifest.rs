//! `backup_manifest`: every file of a base backup with its size and checksum,
//! and the WAL that it needs; what `pg_verifybackup` reads.
//!
//! PostgreSQL documents the format as "Backup Manifest Format"
//! (<https://www.postgresql.org/docs/current/backup-manifest-format.html>); what
//! it leaves open is as its server writes it (`src/backend/backup/backup_manifest.c`).
//! Version 1 is that of PostgreSQL up to 16, version 2 that of 17 and later, which
//! names the cluster. The manifest's own checksum covers all lines before its last.

use std::io::{self, Write};

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::{Lsn, SystemIdentifier, TimelineId};

mod reading;

/// The first `server_version_num` whose manifests have version 2.
const SECOND_VERSION_SINCE: u32 = 170_000;

/// How times are written; always in GMT.
const TIME: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second] GMT");

/// The one algorithm that wal_e writes and reads; PostgreSQL's own default.
const ALGORITHM: &str = "CRC32C";

/// A backup manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupManifest {
    /// The cluster; only in manifests of PostgreSQL 17 and later.
    pub system_identifier: Option<SystemIdentifier>,
    /// Every file but WAL and the manifest itself.
    pub files: Vec<ManifestFile>,
    /// The WAL that makes the backup consistent.
    pub wal_ranges: Vec<WalRange>,
}

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// Below the data directory, `/` between components; a tablespace's files are
    /// below `pg_tblspc/<oid>`. Names on disk need not be text.
    pub path: Vec<u8>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// When it was last changed; whole seconds are kept.
    pub modified: OffsetDateTime,
    /// CRC-32C of its content. `None` where a backup does not hold all of the file:
    /// `pg_verifybackup` then looks at its size only.
    pub crc32c: Option<u32>,
}

impl ManifestFile {
    /// A file with content at hand.
    pub fn of_content(path: &str, content: &[u8], modified: OffsetDateTime) -> Self {
        ManifestFile {
            path: path.as_bytes().to_vec(),
            size_bytes: content.len() as u64,
            modified,
            crc32c: Some(crc32c::crc32c(content)),
        }
    }
}

/// WAL of one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalRange {
    /// The timeline.
    pub timeline: TimelineId,
    /// Where replay begins.
    pub start_lsn: Lsn,
    /// Where the backup is consistent.
    pub end_lsn: Lsn,
}

impl BackupManifest {
    /// A manifest in the version that PostgreSQL of `pg_version`
    /// (`server_version_num`) writes and its `pg_verifybackup` reads.
    pub fn new(
        pg_version: u32,
        system_identifier: SystemIdentifier,
        files: Vec<ManifestFile>,
        wal_ranges: Vec<WalRange>,
    ) -> Self {
        let named = pg_version >= SECOND_VERSION_SINCE;
        BackupManifest { system_identifier: named.then_some(system_identifier), files, wal_ranges }
    }

    /// Writes it, in many small pieces.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut out = Summed { inner: out, sum: Sha256::new() };
        match self.system_identifier {
            None => write!(out, "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [")?,
            Some(identifier) => write!(
                out,
                "{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": {identifier},\n\"Files\": ["
            )?,
        }
        for (index, file) in self.files.iter().enumerate() {
            out.write_all(if index == 0 { b"\n" } else { b",\n" })?;
            write_file(&mut out, file)?;
        }
        write!(out, "\n],\n\"WAL-Ranges\": [\n")?;
        for (index, range) in self.wal_ranges.iter().enumerate() {
            let WalRange { timeline, start_lsn, end_lsn } = range;
            let separator = if index == 0 { "" } else { ",\n" };
            write!(
                out,
                "{separator}{{ \"Timeline\": {timeline}, \"Start-LSN\": \"{start_lsn}\", \"End-LSN\": \"{end_lsn}\" }}"
            )?;
        }
        write!(out, "\n],\n")?;
        let Summed { inner: mut out, sum } = out;
        writeln!(out, "\"Manifest-Checksum\": \"{}\"}}", hex(&sum.finalize()))
    }

    /// The file at `path`.
    pub fn file(&self, path: &str) -> Option<&ManifestFile> {
        self.files.iter().find(|file| file.path == path.as_bytes())
    }

    /// Replaces what is listed at `path` by `file`; `None` takes it out.
    pub fn replace(&mut self, path: &str, file: Option<ManifestFile>) {
        self.files.retain(|listed| listed.path != path.as_bytes());
        self.files.extend(file);
    }
}

fn write_file(out: &mut impl Write, file: &ManifestFile) -> io::Result<()> {
    match std::str::from_utf8(&file.path) {
        Ok(path) => {
            write!(out, "{{ \"Path\": ")?;
            serde_json::to_writer(&mut *out, path)?;
        }
        Err(_) => write!(out, "{{ \"Encoded-Path\": \"{}\"", hex(&file.path))?,
    }
    let modified = file.modified.to_offset(time::UtcOffset::UTC);
    let modified = modified.format(TIME).map_err(io::Error::other)?;
    write!(out, ", \"Size\": {}, \"Last-Modified\": \"{modified}\"", file.size_bytes)?;
    if let Some(crc32c) = file.crc32c {
        // PostgreSQL writes the checksum's bytes as they lie in memory.
        let checksum = hex(&crc32c.to_ne_bytes());
        write!(out, ", \"Checksum-Algorithm\": \"{ALGORITHM}\", \"Checksum\": \"{checksum}\"")?;
    }
    write!(out, " }}")
}

/// Sums up what passes.
struct Summed<W> {
    inner: W,
    sum: Sha256,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.sum.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;
    use crate::error::ErrorKind;

    fn file(path: &[u8]) -> ManifestFile {
        ManifestFile {
            path: path.to_vec(),
            size_bytes: 4,
            modified: datetime!(2026-01-02 03:04:05 UTC),
            crc32c: Some(u32::from_ne_bytes([0x12, 0x34, 0xab, 0xcd])),
        }
    }

    fn manifest(pg_version: u32) -> BackupManifest {
        let range =
            WalRange { timeline: TimelineId(3), start_lsn: Lsn(0x28), end_lsn: Lsn(1 << 32) };
        BackupManifest::new(
            pg_version,
            SystemIdentifier(u64::MAX),
            vec![file(b"base/5/\"odd\"\n"), file(b"base/5/\xff")],
            vec![range],
        )
    }

    fn written(manifest: &BackupManifest) -> Vec<u8> {
        let mut bytes = Vec::new();
        manifest.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_manifest_is_written_as_postgresql_writes_it() {
        let expected = "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\
            \"System-Identifier\": 18446744073709551615,\n\
            \"Files\": [\n\
            { \"Path\": \"base/5/\\\"odd\\\"\\n\", \"Size\": 4, \"Last-Modified\": \"2026-01-02 03:04:05 GMT\", \
            \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"1234abcd\" },\n\
            { \"Encoded-Path\": \"626173652f352fff\", \"Size\": 4, \"Last-Modified\": \"2026-01-02 03:04:05 GMT\", \
            \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"1234abcd\" }\n\
            ],\n\
            \"WAL-Ranges\": [\n\
            { \"Timeline\": 3, \"Start-LSN\": \"0/28\", \"End-LSN\": \"1/0\" }\n\
            ],\n";
        let sum = hex(&Sha256::digest(expected));
        let text = String::from_utf8(written(&manifest(170_000))).unwrap();
        assert_eq!(text, format!("{expected}\"Manifest-Checksum\": \"{sum}\"}}\n"));

        let old = String::from_utf8(written(&manifest(160_004))).unwrap();
        assert!(old.starts_with("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n"));
    }

    #[test]
    fn what_is_written_is_read() {
        for pg_version in [150_000, 180_000] {
            let manifest = manifest(pg_version);
            assert_eq!(BackupManifest::parse(&written(&manifest)).unwrap(), manifest);
        }
        let empty = BackupManifest { files: vec![], wal_ranges: vec![], system_identifier: None };
        assert_eq!(BackupManifest::parse(&written(&empty)).unwrap(), empty);
    }

    #[test]
    fn a_file_is_replaced_and_taken_out() {
        let mut manifest = manifest(180_000);
        let new = ManifestFile::of_content("tablespace_map", b"", datetime!(2026-01-01 0:00 UTC));
        assert_eq!((new.size_bytes, new.crc32c), (0, Some(0)));
        manifest.replace("tablespace_map", Some(new.clone()));
        manifest.replace("tablespace_map", Some(new.clone()));
        assert_eq!(manifest.file("tablespace_map"), Some(&new));
        assert_eq!(manifest.files.len(), 3);
        manifest.replace("tablespace_map", None);
        assert_eq!(manifest.files.len(), 2);
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let whole = written(&manifest(180_000));
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            let Err(error) = BackupManifest::parse(&damaged) else {
                panic!("byte {position} was changed unnoticed");
            };
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(BackupManifest::parse(&whole[..position]).is_err());
        }
    }

    #[test]
    fn foreign_forms_are_refused() {
        let whole = String::from_utf8(written(&manifest(180_000))).unwrap();
        let (body, _) = whole.split_once("\"Manifest-Checksum\"").unwrap();
        for (old, new) in [
            ("\"CRC32C\"", "\"SHA224\""),
            ("\"1234abcd\"", "\"1234abcd00\""),
            ("\"1234abcd\"", "\"1234abc\""),
            ("\"1234abcd\"", "\"+1234abc\""),
            ("2026-01-02", "2026-13-02"),
            ("\"626173", "\"x26173"),
            ("Version\": 2", "Version\": 3"),
            ("Version\": 2", "Version\": 1"),
            ("\"0/28\"", "\"28\""),
            ("\"Encoded-Path\"", "\"Other-Path\""),
        ] {
            let body = body.replace(old, new);
            let sum = hex(&Sha256::digest(&body));
            let text = format!("{body}\"Manifest-Checksum\": \"{sum}\"}}\n");
            assert!(BackupManifest::parse(text.as_bytes()).is_err(), "{old} {new}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = BackupManifest::parse(&bytes);
        }
    }
}
