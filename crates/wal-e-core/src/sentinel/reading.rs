//! Sentinels as they are stored: by this program, by every version of WAL-G,
//! and by WAL-E.
//!
//! WAL-G reads keys in any case and takes the last of two that are the same; so
//! does this. What is not known is passed over.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de::Error as _};
use time::OffsetDateTime;

use super::{CorruptBlocks, FileMetadata, Sentinel, TablespacePlace, TablespaceSpec};
use crate::postgres::{Lsn, SegmentSize, WalFileName};

/// A time that may be null.
#[derive(Deserialize)]
#[serde(transparent)]
struct Moment(#[serde(with = "time::serde::rfc3339::option")] Option<OffsetDateTime>);

/// A size. WAL-G writes signed numbers; a negative one says nothing.
#[derive(Deserialize)]
struct Size(Option<i64>);

impl Size {
    fn known(self) -> Option<u64> {
        self.0.and_then(|size| u64::try_from(size).ok())
    }
}

/// Text that no restore needs; what else may stand there says nothing.
struct Word(Option<String>);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Word(match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Some(text),
            _ => None,
        }))
    }
}

/// Null, or a value.
fn value<'de, T: Deserialize<'de>, A: MapAccess<'de>>(map: &mut A) -> Result<Option<T>, A::Error> {
    map.next_value()
}

struct SentinelVisitor;

impl<'de> Visitor<'de> for SentinelVisitor {
    type Value = Sentinel;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sentinel")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sentinel, A::Error> {
        let mut sentinel = Sentinel::default();
        let (mut stop_segment, mut stop_offset) = (None::<String>, None::<String>);
        while let Some(key) = map.next_key::<String>()? {
            match key.to_ascii_lowercase().as_str() {
                "lsn" => sentinel.lsn = value(&mut map)?,
                "finishlsn" => sentinel.finish_lsn = value(&mut map)?,
                "pgversion" => sentinel.pg_version = value(&mut map)?,
                "systemidentifier" => sentinel.system_identifier = value(&mut map)?,
                "uncompressedsize" => {
                    sentinel.uncompressed_size = map.next_value::<Size>()?.known();
                }
                "compressedsize" => sentinel.compressed_size = map.next_value::<Size>()?.known(),
                "datacatalogsize" => {
                    sentinel.data_catalog_size = map.next_value::<Size>()?.known();
                }
                "spec" => sentinel.spec = value(&mut map)?,
                "chkpnum" => sentinel.chkp_num = value(&mut map)?,
                "deltafrom" => sentinel.delta_from = value(&mut map)?,
                "deltafullname" => sentinel.delta_full_name = value(&mut map)?,
                "deltacount" => sentinel.delta_count = value(&mut map)?,
                // WAL-G 1 called it DeltaFromLSN.
                "deltalsn" | "deltafromlsn" => {
                    sentinel.delta_lsn = value(&mut map)?.or(sentinel.delta_lsn);
                }
                "filesmetadatadisabled" => {
                    sentinel.files_metadata_disabled = value(&mut map)?.unwrap_or_default();
                }
                "version" => sentinel.version = value(&mut map)?,
                "starttime" => sentinel.start_time = map.next_value::<Moment>()?.0,
                "finishtime" => sentinel.finish_time = map.next_value::<Moment>()?.0,
                "datefmt" => sentinel.date_fmt = value(&mut map)?,
                "hostname" => sentinel.hostname = value(&mut map)?,
                "datadir" => sentinel.data_dir = value(&mut map)?,
                "waldirectory" => sentinel.wal_directory = value(&mut map)?,
                "encryption" => sentinel.encryption = map.next_value::<Word>()?.0,
                "encryptionkey" => sentinel.encryption_key = map.next_value::<Word>()?.0,
                "mergedfrom" => sentinel.merged_from = map.next_value::<Word>()?.0,
                "ispermanent" => sentinel.is_permanent = value(&mut map)?.unwrap_or_default(),
                "files" => {
                    let files: Option<BTreeMap<String, FileMetadata>> = value(&mut map)?;
                    sentinel.inline_files.files = files.unwrap_or_default();
                }
                "tarfilesets" => sentinel.inline_files.tar_file_sets = sets(map.next_value()?),
                "expanded_size_bytes" => {
                    sentinel.is_wal_e = true;
                    sentinel.uncompressed_size = map.next_value::<Size>()?.known();
                }
                "wal_segment_backup_stop" => {
                    sentinel.is_wal_e = true;
                    stop_segment = value(&mut map)?;
                }
                "wal_segment_offset_backup_stop" => {
                    sentinel.is_wal_e = true;
                    stop_offset = value(&mut map)?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if sentinel.finish_lsn.is_none() {
            sentinel.finish_lsn = stop_segment
                .as_deref()
                .zip(stop_offset.as_deref())
                .and_then(|(segment, offset)| lsn_of_wal_e(segment, offset));
        }
        Ok(sentinel)
    }
}

impl<'de> Deserialize<'de> for Sentinel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SentinelVisitor)
    }
}

/// An LSN as WAL-E writes it: the name of a segment, and the offset within, in
/// eight **decimal** digits. WAL-E knows no segments but those of 16 MB.
pub(crate) fn lsn_of_wal_e(segment: &str, offset: &str) -> Option<Lsn> {
    let size = SegmentSize::DEFAULT;
    let name: WalFileName = segment.parse().ok().filter(|_| segment.len() == 24)?;
    let sound = offset.len() == 8 && offset.bytes().all(|byte| byte.is_ascii_digit());
    let offset: u64 = sound.then(|| offset.parse().ok()).flatten()?;
    let start = name.segment_number(size)?.start_lsn(size).0;
    (offset < size.bytes()).then_some(Lsn(start.checked_add(offset)?))
}

/// A specification is an object in which the OIDs are keys next to those of its own.
impl<'de> Deserialize<'de> for TablespaceSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        let mut take = |key: &str| members.remove(key).filter(|value| !value.is_null());
        let parse_failed = |error: serde_json::Error| D::Error::custom(error);
        let base_prefix: String = match take("base_prefix") {
            Some(prefix) => serde_json::from_value(prefix).map_err(parse_failed)?,
            None => String::new(),
        };
        let tablespaces: Vec<String> = match take("tablespaces") {
            Some(oids) => serde_json::from_value(oids).map_err(parse_failed)?,
            None => Vec::new(),
        };
        // One that is listed and has no place is reported when its files are restored.
        let mut places = BTreeMap::new();
        for (oid, place) in members {
            if oid.parse::<u32>().is_err() {
                continue;
            }
            let mut place: TablespacePlace = serde_json::from_value(place).map_err(parse_failed)?;
            place.loc = without_trailing_slash(&place.loc);
            places.insert(oid, place);
        }
        Ok(TablespaceSpec {
            base_prefix: without_trailing_slash(&base_prefix),
            tablespaces,
            places,
        })
    }
}

/// WAL-E keeps the slash at a path's end, WAL-G takes it off.
fn without_trailing_slash(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => path.get(..1).unwrap_or_default().to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

/// Go writes an empty map or list as null.
pub(super) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

type NullableSets = Option<BTreeMap<String, Option<Vec<String>>>>;

/// As [`nullable`], also for the lists inside.
pub(super) fn nullable_sets<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    Ok(sets(NullableSets::deserialize(deserializer)?))
}

fn sets(sets: NullableSets) -> BTreeMap<String, Vec<String>> {
    let sets = sets.unwrap_or_default().into_iter();
    sets.map(|(tar, names)| (tar, names.unwrap_or_default())).collect()
}

/// WAL-G has written corrupt blocks in more than one form; no restore needs them.
pub(super) fn if_sound<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<CorruptBlocks>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Sound(CorruptBlocks),
        Other(IgnoredAny),
    }
    Ok(match de::Deserialize::deserialize(deserializer)? {
        Some(Form::Sound(blocks)) => Some(blocks),
        Some(Form::Other(_)) | None => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use crate::error::ErrorKind;
    use crate::postgres::SystemIdentifier;

    #[test]
    fn sentinels_of_wal_g_2_are_read_whatever_the_case_of_their_keys() {
        let json = br#"{"lsn": 33554472, "FINISHLSN": 33554688, "PgVersion": 150018,
            "SystemIdentifier": 18446744073709551615, "UncompressedSize": -1, "CompressedSize": 5,
            "DataCatalogSize": 7, "DeltaLSN": 16777256, "DeltaFrom": "base_1", "DeltaFullName": "base_0",
            "DeltaCount": 2, "Spec": null, "UserData": {"files": [1]}, "ChkpNum": null, "Version": 2,
            "StartTime": "2026-01-02T03:04:05.678Z", "Hostname": null, "IsPermanent": true}"#;
        let sentinel: Sentinel = parse("x", json).unwrap();
        assert_eq!(
            (sentinel.lsn, sentinel.finish_lsn),
            (Some(Lsn(0x200_0028)), Some(Lsn(0x200_0100)))
        );
        assert_eq!(sentinel.system_identifier, Some(SystemIdentifier(u64::MAX)));
        assert_eq!((sentinel.uncompressed_size, sentinel.compressed_size), (None, Some(5)));
        assert_eq!(sentinel.data_catalog_size, Some(7));
        assert_eq!(sentinel.delta_from.as_deref(), Some("base_1"));
        assert_eq!(sentinel.delta_full_name.as_deref(), Some("base_0"));
        assert_eq!(sentinel.delta_count, Some(2));
        assert_eq!((sentinel.delta_lsn, sentinel.version), (Some(Lsn(0x100_0028)), Some(2)));
        assert!(sentinel.is_permanent && !sentinel.is_wal_e && sentinel.start_time.is_some());
    }

    #[test]
    fn what_is_said_of_encryption_is_text_or_nothing() {
        let read = |json: &str| parse::<Sentinel>("x", json.as_bytes()).unwrap();
        let sentinel = read(r#"{"Encryption": "libsodium", "EncryptionKey": "0a1b"}"#);
        assert_eq!(sentinel.encryption.as_deref(), Some("libsodium"));
        assert_eq!(sentinel.encryption_key.as_deref(), Some("0a1b"));
        for other in ["null", "true", r#"{"of": ["another", 1]}"#] {
            assert_eq!(read(&format!(r#"{{"Encryption": {other}}}"#)), Sentinel::default());
        }
    }

    #[test]
    fn sentinels_of_wal_g_1_have_their_list_of_files_inside() {
        let json = br#"{"LSN": 1, "DeltaFromLSN": 16777256, "DeltaFrom": "base_0", "Spec": null,
            "Files": {"/base/1/2": {"IsIncremented": true, "IsSkipped": false, "MTime": "x",
                                    "CorruptBlocks": [1, 2]}},
            "TarFileSets": {"part_001.tar.lz4": ["/base/1/2"], "part_002.tar.lz4": null}}"#;
        let sentinel: Sentinel = parse("x", json).unwrap();
        assert_eq!(sentinel.delta_lsn, Some(Lsn(0x100_0028)));
        let files = &sentinel.inline_files;
        assert!(files.files["/base/1/2"].is_incremented);
        assert_eq!(files.files["/base/1/2"].corrupt_blocks, None);
        assert_eq!(files.tar_file_sets["part_001.tar.lz4"], ["/base/1/2"]);
        assert!(files.tar_file_sets["part_002.tar.lz4"].is_empty());
    }

    #[test]
    fn sentinels_of_wal_e_are_read() {
        let json = br#"{"wal_segment_backup_stop": "000000010000DD170000000C",
            "wal_segment_offset_backup_stop": "00743784", "expanded_size_bytes": 123,
            "spec": {"base_prefix": "/pgdata/", "tablespaces": ["16384"],
                     "16384": {"loc": "/ts/", "link": "pg_tblspc/16384"}}}"#;
        let sentinel: Sentinel = parse("x", json).unwrap();
        assert!(sentinel.is_wal_e);
        assert_eq!(sentinel.finish_lsn, Some(Lsn(0xDD17_0C00_0000 + 743_784)));
        assert_eq!(sentinel.uncompressed_size, Some(123));
        let spec = sentinel.spec.unwrap();
        assert_eq!(spec.base_prefix, "/pgdata");
        assert_eq!(spec.places["16384"].loc, "/ts");
    }

    #[test]
    fn positions_of_wal_e_that_cannot_be_are_no_positions() {
        let segment = "000000010000DD170000000C";
        for (segment, offset) in [
            (segment, "16777216"),
            (segment, "0000000A"),
            (segment, "+0000001"),
            (segment, "1"),
            ("000000010000DD17000000FF00", "00000001"),
            ("000000010000DD1700000100", "00000001"),
            ("00000001.history", "00000001"),
            ("", ""),
        ] {
            assert_eq!(lsn_of_wal_e(segment, offset), None, "{segment} {offset}");
        }
    }

    #[test]
    fn damaged_sentinels_are_told() {
        for json in [
            "",
            "[]",
            "null",
            "{",
            "{} x",
            r#"{"LSN": "0/1"}"#,
            r#"{"LSN": -1}"#,
            r#"{"DeltaFrom": 5}"#,
            r#"{"Spec": []}"#,
            r#"{"Spec": {"tablespaces": ["1"], "1": {"loc": 1}}}"#,
            r#"{"Files": {"x": 1}}"#,
        ] {
            let error = parse::<Sentinel>("file:///x", json.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{json}");
            assert!(error.message().contains("file:///x"));
        }
    }

    #[test]
    fn a_specification_may_lack_what_no_restore_needs() {
        let spec: TablespaceSpec =
            parse("x", br#"{"tablespaces": ["1"], "1": {"loc": "/"}, "other": 5}"#).unwrap();
        assert_eq!((spec.base_prefix.as_str(), spec.places["1"].loc.as_str()), ("", "/"));
        assert_eq!(parse::<TablespaceSpec>("x", b"{}").unwrap(), TablespaceSpec::default());
    }
}
