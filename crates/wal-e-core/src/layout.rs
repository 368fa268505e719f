//! Every object key, and nothing else makes one.
//!
//! The names are WAL-G's (`docs/repository-format.md`): `wal_005/` holds WAL,
//! `basebackups_005/` holds base backups.

use std::fmt;

use crate::postgres::{SegmentSize, TimelineId, WalFileName, WalSegment};

/// Where WAL lies.
const WAL: &str = "wal_005";
/// Where base backups lie.
const BASE_BACKUPS: &str = "basebackups_005";
/// What every object compressed with LZ4 ends with.
const LZ4: &str = "lz4";
/// Where wal_e keeps what it needs to know of the prefix itself.
const OWN: &str = "wal_e";
/// How a WAL extension is called in a key when there is none.
const NO_EXTENSION: &str = "none";
/// What a sentinel's name ends with, after the backup's name.
const SENTINEL: &str = "_backup_stop_sentinel.json";

/// The name of an object below the prefix: no slash at either end, no empty,
/// `.` or `..` component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// A key as a store listed it; `None` when it is not of a key's form.
    pub fn from_listing(key: &str) -> Option<Self> {
        let sound = !key.is_empty()
            && key.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        sound.then(|| ObjectKey(key.to_owned()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The object whose create-only upload shows whether a store honours
/// `If-None-Match: *`. It stays, so that the probe is one request the next time.
pub fn create_only_probe() -> ObjectKey {
    ObjectKey(format!("{OWN}/create_only_probe"))
}

/// Which cluster the prefix belongs to.
pub fn owner() -> ObjectKey {
    ObjectKey(format!("{OWN}/owner.json"))
}

/// An object that is written and removed again to see whether the store works.
/// `random` tells it from those of others.
pub fn check_object(random: u64) -> ObjectKey {
    ObjectKey(format!("{OWN}/check/{random:016x}"))
}

/// The beginning of the keys of all [`wal_extension`] objects.
pub fn wal_extensions() -> String {
    format!("{OWN}/wal_extensions/")
}

/// The object that says that WAL is stored with this extension (without a dot;
/// empty for uncompressed WAL, which has none).
pub fn wal_extension(extension: &str) -> ObjectKey {
    let name = if extension.is_empty() { NO_EXTENSION } else { extension };
    ObjectKey(format!("{OWN}/wal_extensions/{name}"))
}

/// The extension that a listed key of [`wal_extensions`] stands for.
pub fn extension_of_mark(key: &ObjectKey) -> Option<&str> {
    let name = key.0.strip_prefix(OWN)?.strip_prefix("/wal_extensions/")?;
    (!name.contains('/')).then_some(if name == NO_EXTENSION { "" } else { name })
}

/// The WAL file that a listed key holds, and the extension after its name;
/// `None` for what is no WAL file.
pub fn wal_file_of(key: &ObjectKey) -> Option<(WalFileName, &str)> {
    let name = key.0.strip_prefix(WAL)?.strip_prefix('/')?;
    if let Ok(file) = name.parse() {
        return Some((file, ""));
    }
    let (file, extension) = name.rsplit_once('.')?;
    Some((file.parse().ok()?, extension))
}

/// A WAL file.
pub fn wal_file(name: &WalFileName) -> ObjectKey {
    ObjectKey(format!("{WAL}/{name}.{LZ4}"))
}

/// The beginning of the keys of all WAL files.
pub fn wal() -> String {
    format!("{WAL}/")
}

/// The beginning of the keys of all base backups.
pub fn base_backups() -> String {
    format!("{BASE_BACKUPS}/")
}

/// The object whose presence means that the backup is complete.
pub fn sentinel(backup: &str) -> ObjectKey {
    ObjectKey(format!("{BASE_BACKUPS}/{backup}{SENTINEL}"))
}

/// The backup that a listed key is the sentinel of.
pub fn backup_of_sentinel(key: &ObjectKey) -> Option<&str> {
    let name = key.0.strip_prefix(BASE_BACKUPS)?.strip_prefix('/')?.strip_suffix(SENTINEL)?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// The beginning of the keys of everything else of a backup.
pub fn backup_directory(backup: &str) -> String {
    format!("{BASE_BACKUPS}/{backup}/")
}

/// Times, sizes and LSNs of a backup.
pub fn metadata(backup: &str) -> ObjectKey {
    ObjectKey(format!("{BASE_BACKUPS}/{backup}/metadata.json"))
}

/// What each file of a backup was when it was read, and which tar holds it.
pub fn files_metadata(backup: &str) -> ObjectKey {
    ObjectKey(format!("{BASE_BACKUPS}/{backup}/files_metadata.json"))
}

/// The beginning of the keys of a backup's tars.
pub fn tar_partitions(backup: &str) -> String {
    format!("{BASE_BACKUPS}/{backup}/tar_partitions/")
}

/// One tar of a backup, by its file name.
pub fn tar_partition(backup: &str, tar: &str) -> ObjectKey {
    ObjectKey(format!("{BASE_BACKUPS}/{backup}/tar_partitions/{tar}"))
}

/// The file name of the tar partition of a number, counted from 1.
pub fn partition_file_name(number: u32) -> String {
    format!("part_{number:03}.tar.{LZ4}")
}

/// The file name of the tar that holds `global/pg_control` alone.
pub fn pg_control_file_name() -> String {
    format!("pg_control.tar.{LZ4}")
}

/// The file name of the tar that holds `backup_label` and `tablespace_map`.
pub fn backup_label_file_name() -> String {
    format!("backup_label.tar.{LZ4}")
}

/// The name of a full backup that begins in `segment`.
pub fn backup_name(segment: WalSegment, size: SegmentSize) -> String {
    format!("base_{}", segment.file_name(size))
}

/// The timeline in a backup's name: `base_<24 hex digits>`, perhaps followed by
/// what WAL-G and WAL-E add for deltas and offsets. `None` for a foreign name.
pub fn timeline_of_backup(name: &str) -> Option<TimelineId> {
    let segment = name.strip_prefix("base_")?.get(..24)?;
    let sound = segment.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    let timeline = sound.then(|| u32::from_str_radix(&segment[..8], 16).ok()).flatten()?;
    Some(TimelineId(timeline))
}
