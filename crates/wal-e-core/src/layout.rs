//! Every object key, and nothing else makes one.
//!
//! The names are WAL-G's (`docs/repository-format.md`): `wal_005/` holds WAL,
//! `basebackups_005/` holds base backups. The keys of what is done by schedule are in `runs`.

mod runs;

use std::fmt;

use crate::codec::{Encoding, StoredEncoding};
use crate::encryption::Fingerprint;
use crate::postgres::{
    SegmentNumber, SegmentSize, TimelineId, WalFileKind, WalFileName, WalSegment,
};

pub use runs::{RunMark, job_clock, run_mark, run_mark_of, runs, runs_of, runs_of_slot, schedule};

/// Where WAL lies.
const WAL: &str = "wal_005";
/// Where base backups lie.
const BASE_BACKUPS: &str = "basebackups_005";
/// Where wal_e keeps what it needs to know about the prefix itself.
const OWN: &str = "wal_e";
/// What the tars of a backup are called, before their extension.
const TAR: &str = ".tar";
/// The tar that holds `global/pg_control` alone.
const PG_CONTROL: &str = "pg_control";
/// The tar that holds `backup_label` and `tablespace_map`.
const BACKUP_LABEL: &str = "backup_label";
/// What the object of a verification is called that found the backup sound.
const SOUND: &str = "sound.json";
/// And of one that did not.
const DAMAGED: &str = "damaged.json";
/// The suffix of a sentinel's name, after the backup's name.
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
/// `random` keeps it apart from those of others.
pub fn check_object(random: u64) -> ObjectKey {
    ObjectKey(format!("{OWN}/check/{random:016x}"))
}

/// The beginning of the keys of all [`verification`] objects.
pub fn verifications() -> String {
    format!("{OWN}/verifications/")
}

/// The object that says what the last verification of a backup that was sound, or was not,
/// has found.
pub fn verification(backup: &str, sound: bool) -> ObjectKey {
    let outcome = if sound { SOUND } else { DAMAGED };
    ObjectKey(format!("{OWN}/verifications/{backup}/{outcome}"))
}

/// The backup that a listed key of [`verifications`] is about, and whether it was sound.
pub fn backup_of_verification(key: &ObjectKey) -> Option<(&str, bool)> {
    let rest = key.0.strip_prefix(OWN)?.strip_prefix("/verifications/")?;
    let (backup, outcome) = rest.split_once('/')?;
    match outcome {
        SOUND => Some((backup, true)),
        DAMAGED => Some((backup, false)),
        _ => None,
    }
}

/// The beginning of the keys of all [`wal_encoding`] objects.
pub fn wal_encodings() -> String {
    format!("{OWN}/wal_encodings/")
}

/// The object that says that WAL of the prefix is stored in this encoding.
pub fn wal_encoding(encoding: Encoding) -> ObjectKey {
    ObjectKey(format!("{OWN}/wal_encodings/{encoding}"))
}

/// The beginning of the keys of all [`key_mark`] objects, and of [`encryption_required`].
pub fn encryption_marks() -> String {
    format!("{OWN}/encryption/")
}

/// The object that says that something below the prefix is encrypted with this key.
pub fn key_mark(key: &Fingerprint) -> ObjectKey {
    ObjectKey(format!("{OWN}/encryption/key-{key}"))
}

/// The object that says that nothing below the prefix may be stored without encryption.
pub fn encryption_required() -> ObjectKey {
    ObjectKey(format!("{OWN}/encryption/required"))
}

/// The fingerprint of the key that a listed key of [`encryption_marks`] stands for.
pub fn fingerprint_of_mark(key: &ObjectKey) -> Option<&str> {
    key.0.strip_prefix(OWN)?.strip_prefix("/encryption/key-")
}

/// The encoding that a listed key of [`wal_encodings`] stands for.
pub fn encoding_of_mark(key: &ObjectKey) -> Option<Encoding> {
    Encoding::from_name(key.0.strip_prefix(OWN)?.strip_prefix("/wal_encodings/")?)
}

/// The WAL file that a listed key holds, and how it is encoded; `None` for a key that
/// is not a WAL file's.
pub fn wal_file_of(key: &ObjectKey) -> Option<(WalFileName, StoredEncoding)> {
    let file = key.0.strip_prefix(WAL)?.strip_prefix('/')?;
    if let Ok(name) = file.parse() {
        return Some((name, StoredEncoding::Readable(Encoding::None)));
    }
    // Names of WAL files have dots, too.
    let ends = file.rmatch_indices('.').map(|(end, _)| end);
    ends.take(2).find_map(|end| {
        let (name, suffix) = file.split_at(end);
        Some((name.parse().ok()?, StoredEncoding::from_suffix(suffix)?))
    })
}

/// What an object among the WAL is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalContent {
    /// These segments of a timeline, of which there are one or sixteen.
    Segments {
        /// The timeline.
        timeline: TimelineId,
        /// The first.
        first: SegmentNumber,
        /// The last.
        last: SegmentNumber,
        /// Whether it is the segment itself, whole.
        whole: bool,
    },
    /// Where a timeline came from.
    History(TimelineId),
}

/// What a listed key among the WAL is about; `None` for a key that is not a WAL file's and not
/// of what WAL-G keeps beside them: maps of changed blocks (`_delta`) and metadata (`.json`).
pub fn wal_content(key: &ObjectKey, size: SegmentSize) -> Option<WalContent> {
    let of = |name: &WalFileName, segments: u64, whole| {
        let first = name.segment_number(size)?;
        let last = SegmentNumber(first.0.saturating_add(segments - 1));
        Some(WalContent::Segments { timeline: name.timeline(), first, last, whole })
    };
    if let Some((name, _)) = wal_file_of(key) {
        return match name.kind() {
            WalFileKind::TimelineHistory => Some(WalContent::History(name.timeline())),
            kind => of(&name, 1, kind == WalFileKind::Segment),
        };
    }
    let file = key.0.strip_prefix(WAL)?.strip_prefix('/')?;
    if let Some((name, suffix)) = file.split_once("_delta") {
        StoredEncoding::from_suffix(suffix)?;
        return of(&name.parse().ok()?, 16, false);
    }
    let name = file.strip_suffix(".json")?;
    match name.len() {
        23 => of(&format!("{name}0").parse().ok()?, 16, false),
        _ => of(&name.parse().ok().filter(is_segment)?, 1, false),
    }
}

fn is_segment(name: &WalFileName) -> bool {
    name.kind() == WalFileKind::Segment
}

/// What sorts before the key of a WAL file in any encoding, and after those of
/// nearly all files before it.
pub fn before_wal_file(name: &WalFileName) -> String {
    // The name itself is the key of the uncompressed file.
    format!("{WAL}/{}", &name.as_str()[..name.as_str().len() - 1])
}

/// A WAL file.
pub fn wal_file(name: &WalFileName, encoding: Encoding) -> ObjectKey {
    ObjectKey(format!("{WAL}/{}", encoding.file_name(name)))
}

/// The beginning of the keys of a WAL file in all encodings; keys of other files
/// may begin the same way (`.partial`, `.00000028.backup`, WAL-G's `_delta`).
pub fn wal_file_beginning(name: &WalFileName) -> String {
    format!("{WAL}/{name}")
}

/// The keys of a WAL file in all possible encodings.
pub fn wal_file_keys(name: &WalFileName) -> Vec<ObjectKey> {
    StoredEncoding::suffixes().map(|suffix| ObjectKey(format!("{WAL}/{name}{suffix}"))).collect()
}

/// How a listed key encodes the WAL file `name`; `None` when the key is not that
/// file's.
pub fn encoding_of_wal_file(key: &ObjectKey, name: &WalFileName) -> Option<StoredEncoding> {
    let file = key.0.strip_prefix(WAL)?.strip_prefix('/')?;
    StoredEncoding::from_suffix(file.strip_prefix(name.as_str())?)
}

/// The beginning of the keys of all WAL files.
pub fn wal() -> String {
    format!("{WAL}/")
}

/// The beginning of the keys of all WAL files of a timeline.
pub fn wal_of_timeline(timeline: TimelineId) -> String {
    format!("{WAL}/{:08X}", timeline.0)
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

/// The backup that a listed key belongs to; `None` for a key that belongs to no backup, and
/// for sentinels.
pub fn backup_of(key: &ObjectKey) -> Option<String> {
    let (backup, _) = key.0.strip_prefix(BASE_BACKUPS)?.strip_prefix('/')?.split_once('/')?;
    Some(backup.to_owned())
}

/// The backup of which these are all keys but the sentinel's: [`backup_directory`] the other
/// way round.
pub fn backup_of_directory(directory: &str) -> Option<&str> {
    let backup = directory.strip_prefix(BASE_BACKUPS)?.strip_prefix('/')?.strip_suffix('/')?;
    (!backup.is_empty() && !backup.contains('/')).then_some(backup)
}

/// The beginning of the keys of a backup, from one of them; `None` for a key that belongs
/// to no backup, and for sentinels.
pub fn backup_directory_of(key: &ObjectKey) -> Option<String> {
    Some(backup_directory(&backup_of(key)?))
}

/// Who takes a backup, and whether it was given up.
pub fn begun(backup: &str) -> ObjectKey {
    ObjectKey(format!("{BASE_BACKUPS}/{backup}/begun.json"))
}

/// Times, sizes and LSNs of a backup.
pub fn metadata(backup: &str) -> ObjectKey {
    ObjectKey(format!("{BASE_BACKUPS}/{backup}/metadata.json"))
}

/// What each file of a backup was when it was read, and which tar holds it.
pub fn files_metadata(backup: &str) -> ObjectKey {
    ObjectKey(format!("{BASE_BACKUPS}/{backup}/files_metadata.json"))
}

/// Size and checksum of each file of a backup, in PostgreSQL's own form.
pub fn backup_manifest(backup: &str, encoding: Encoding) -> ObjectKey {
    ObjectKey(encoding.file_name(backup_manifest_beginning(backup)))
}

/// The beginning of the keys of a backup's manifest in all encodings.
pub fn backup_manifest_beginning(backup: &str) -> String {
    format!("{BASE_BACKUPS}/{backup}/backup_manifest")
}

/// How a listed key encodes the manifest of `backup`; `None` when the key is not that of its
/// manifest.
pub fn encoding_of_backup_manifest(key: &ObjectKey, backup: &str) -> Option<StoredEncoding> {
    StoredEncoding::from_suffix(key.0.strip_prefix(&backup_manifest_beginning(backup))?)
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
pub fn partition_file_name(number: u32, encoding: Encoding) -> String {
    encoding.file_name(format_args!("part_{number:03}{TAR}"))
}

/// The file name of the tar that holds `global/pg_control` alone.
pub fn pg_control_file_name(encoding: Encoding) -> String {
    encoding.file_name(format_args!("{PG_CONTROL}{TAR}"))
}

/// The file name of the tar that holds `backup_label` and `tablespace_map`.
pub fn backup_label_file_name(encoding: Encoding) -> String {
    encoding.file_name(format_args!("{BACKUP_LABEL}{TAR}"))
}

/// What a tar of a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TarKind {
    /// Files of the cluster.
    Partition,
    /// `global/pg_control` alone.
    PgControl,
    /// `backup_label` and `tablespace_map`.
    BackupLabel,
}

/// What the key of a tar says: what is in it, and how it is encoded. `None` for
/// an object that is not a tar.
pub fn tar_of(key: &ObjectKey) -> Option<(TarKind, StoredEncoding)> {
    let (_, file_name) = key.0.rsplit_once('/')?;
    let (name, suffix) = file_name.split_once(TAR)?;
    let kind = match name {
        PG_CONTROL => TarKind::PgControl,
        BACKUP_LABEL => TarKind::BackupLabel,
        _ => TarKind::Partition,
    };
    Some((kind, StoredEncoding::from_suffix(suffix)?))
}

/// The name of a full backup that begins in `segment`.
pub fn backup_name(segment: WalSegment, size: SegmentSize) -> String {
    format!("base_{}", segment.file_name(size))
}

/// The name of a delta backup that begins where a full one would be called `full` and builds on
/// `parent`: `base_<24 hex digits>_D_<24 hex digits>`.
pub fn delta_name(full: &str, parent: &str) -> String {
    let segment = parent.strip_prefix("base_").unwrap_or(parent);
    format!("{full}_D_{}", segment.get(..24).unwrap_or(segment))
}

/// The name that a full backup would have got in the place of a delta backup.
pub fn full_name(delta: &str) -> &str {
    delta.split_once("_D_").map_or(delta, |(full, _)| full)
}

/// Whether it is the name of a delta backup.
pub fn is_delta_name(backup: &str) -> bool {
    backup.starts_with("base_") && backup.contains("_D_")
}

/// The timeline in a backup's name: `base_<24 hex digits>`, perhaps followed by
/// what WAL-G and WAL-E add for deltas and offsets. `None` for a foreign name.
pub fn timeline_of_backup(name: &str) -> Option<TimelineId> {
    let segment = name.strip_prefix("base_")?.get(..24)?;
    let sound = segment.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    let timeline = sound.then(|| u32::from_str_radix(&segment[..8], 16).ok()).flatten()?;
    Some(TimelineId(timeline))
}

/// The segment and the offset, in decimal digits, in the name of a backup that
/// WAL-E made: `base_<24 hex digits>_<8 digits>`.
pub fn wal_e_start_of_backup(name: &str) -> Option<(&str, &str)> {
    timeline_of_backup(name)?;
    let (segment, offset) = name.strip_prefix("base_")?.split_once('_')?;
    let sound = segment.len() == 24
        && offset.len() == 8
        && offset.bytes().all(|byte| byte.is_ascii_digit());
    sound.then_some((segment, offset))
}

/// The WAL segment in a backup's name, in which the backup begins. `None` for a
/// foreign name.
pub fn start_segment_of_backup(name: &str) -> Option<WalFileName> {
    name.strip_prefix("base_")?.get(..24)?.parse().ok()
}

/// The WAL segment in which the base of a delta of this name begins:
/// `base_<24 hex digits>_D_<24 hex digits>`. `None` for a full backup.
pub fn parent_segment(name: &str) -> Option<WalFileName> {
    name.split_once("_D_")?.1.get(..24)?.parse().ok()
}

#[cfg(test)]
mod tests;
