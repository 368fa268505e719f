//! Manifests as they are read: a form that neither PostgreSQL nor wal_e writes is refused.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use sha2::{Digest, Sha256};
use time::PrimitiveDateTime;

use super::{ALGORITHM, BackupManifest, ManifestFile, TIME, WalRange, hex};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{SystemIdentifier, TimelineId};

impl BackupManifest {
    /// Reads a manifest and checks its own checksum. The caller limits its size.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it is damaged, or of a form that PostgreSQL and
    /// wal_e do not write.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let damaged = |what: String| {
            Error::new(ErrorKind::Corrupt, format!("the backup manifest is damaged: {what}"))
        };
        let raw: RawManifest<'_> =
            serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        let covered = covered_by_checksum(bytes)
            .ok_or_else(|| damaged("it does not end with a line of its own checksum".to_owned()))?;
        let computed = hex(&Sha256::digest(covered));
        if !raw.checksum.eq_ignore_ascii_case(&computed) {
            return Err(damaged(format!(
                "its checksum is {computed}, not {} as it says",
                raw.checksum
            )));
        }
        match (raw.version, raw.system_identifier) {
            (1, None) | (2, Some(_)) => {}
            (version, _) => return Err(damaged(format!("its version {version} is unknown"))),
        }
        let wal_ranges: Option<Vec<WalRange>> =
            raw.wal_ranges.iter().map(RawRange::parsed).collect();
        Ok(BackupManifest {
            system_identifier: raw.system_identifier.map(SystemIdentifier),
            files: raw.files,
            wal_ranges: wal_ranges.ok_or_else(|| damaged("a WAL range is malformed".to_owned()))?,
        })
    }

    /// Makes the checksum at the end of `bytes` fit what is before it.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn fix_checksum(bytes: &mut Vec<u8>) {
        if let Some(covered) = covered_by_checksum(bytes).map(<[u8]>::len) {
            let sum = hex(&Sha256::digest(&bytes[..covered]));
            bytes.truncate(covered);
            bytes.extend_from_slice(format!("\"Manifest-Checksum\": \"{sum}\"}}\n").as_bytes());
        }
    }
}

/// All lines but the last, which must be ended, too.
fn covered_by_checksum(bytes: &[u8]) -> Option<&[u8]> {
    let lines = bytes.strip_suffix(b"\n")?;
    let end = lines.iter().rposition(|byte| *byte == b'\n')?;
    bytes.get(..=end)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[derive(Deserialize)]
struct RawManifest<'a> {
    #[serde(rename = "PostgreSQL-Backup-Manifest-Version")]
    version: u32,
    #[serde(rename = "System-Identifier")]
    system_identifier: Option<u64>,
    #[serde(rename = "Files")]
    files: Vec<ManifestFile>,
    #[serde(rename = "WAL-Ranges", borrow)]
    wal_ranges: Vec<RawRange<'a>>,
    #[serde(rename = "Manifest-Checksum", borrow)]
    checksum: Cow<'a, str>,
}

#[derive(Deserialize)]
struct RawRange<'a> {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN", borrow)]
    start_lsn: Cow<'a, str>,
    #[serde(rename = "End-LSN", borrow)]
    end_lsn: Cow<'a, str>,
}

impl RawRange<'_> {
    fn parsed(&self) -> Option<WalRange> {
        Some(WalRange {
            timeline: TimelineId(self.timeline),
            start_lsn: self.start_lsn.parse().ok()?,
            end_lsn: self.end_lsn.parse().ok()?,
        })
    }
}

#[derive(Deserialize)]
struct RawFile<'a> {
    #[serde(rename = "Path")]
    path: Option<String>,
    #[serde(rename = "Encoded-Path")]
    encoded_path: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "Last-Modified", borrow)]
    modified: Cow<'a, str>,
    #[serde(rename = "Checksum-Algorithm", borrow)]
    algorithm: Option<Cow<'a, str>>,
    #[serde(rename = "Checksum", borrow)]
    checksum: Option<Cow<'a, str>>,
}

impl RawFile<'_> {
    fn parsed(self) -> Result<ManifestFile, &'static str> {
        let path = match (self.path, self.encoded_path) {
            (Some(path), None) => path.into_bytes(),
            (None, Some(encoded)) => {
                from_hex(&encoded).ok_or("an encoded path is not hexadecimal")?
            }
            _ => return Err("a file has no path, or two"),
        };
        let crc32c = match (self.algorithm, self.checksum) {
            (None, None) => None,
            (Some(algorithm), Some(checksum)) if algorithm == ALGORITHM => {
                let checksum = from_hex(&checksum).and_then(|bytes| bytes.try_into().ok());
                let bytes = checksum.ok_or("a checksum does not have eight digits")?;
                Some(u32::from_ne_bytes(bytes))
            }
            (Some(_), Some(_)) => return Err("a file's checksum is not CRC32C"),
            _ => return Err("a file has a checksum without algorithm, or the reverse"),
        };
        let modified = PrimitiveDateTime::parse(&self.modified, TIME)
            .map_err(|_| "a file's time is malformed")?;
        Ok(ManifestFile { path, size_bytes: self.size, modified: modified.assume_utc(), crc32c })
    }
}

impl<'de> Deserialize<'de> for ManifestFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawFile::deserialize(deserializer)?.parsed().map_err(D::Error::custom)
    }
}
