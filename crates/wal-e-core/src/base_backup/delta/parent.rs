//! Which backup an incremental one builds on.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::taken;
use crate::base_backup::start::BackupStart;
use crate::base_backup::verified::found_damaged;
use crate::catalogue::backup_info::sentinels;
use crate::catalogue::stored_backup::StoredBackup;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::postgres::{BLOCK_SIZE, Lsn, PageLayout, page};
use crate::restore::chain::{self, Chain};
use crate::sentinel::{FileMetadata, Sentinel};
use crate::store::ObjectStore;
use crate::verify::stored_control;

/// The first major version times this is `server_version_num`.
const PER_MAJOR_VERSION: u32 = 10_000;

/// That an incremental backup is wanted, and what of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incremental {
    /// Which backup it builds on.
    pub origin: Origin,
    /// How many deltas may follow one another after a full backup; with 0, each is a full one.
    /// `None`: any number.
    pub max_deltas: Option<u32>,
}

/// Which backup an incremental one builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// The latest one: the smallest increments, and the longest chain to restore.
    #[default]
    Latest,
    /// The full backup with which the chain of the latest one begins: each delta has everything
    /// since then, and a restore reads two backups.
    LatestFull,
}

/// The backup that an incremental one builds on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parent {
    /// Its name.
    pub(crate) name: String,
    /// The full backup with which its chain begins; itself, if it is full.
    pub(crate) full_name: String,
    /// How many deltas there have been since that one.
    pub(crate) deltas: u32,
    /// Its start.
    pub(crate) start_lsn: Lsn,
    /// When it began, if it says so.
    pub(crate) start_time: Option<time::OffsetDateTime>,
    /// Its files, by their names in the tars.
    pub(crate) files: BTreeMap<String, FileMetadata>,
}

impl Parent {
    /// Proves that it can still be restored, as far as lists and sizes show: it may have been
    /// deleted while the backup that builds on it was taken.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when it cannot, and those of the store.
    pub(crate) async fn prove_restorable(&self, store: &dyn ObjectStore) -> Result<()> {
        let error = match Chain::find(store, &self.name).await {
            Ok(chain) if chain.tip().sentinel.lsn == Some(self.start_lsn) => return Ok(()),
            Ok(_) => "another backup has its name".to_owned(),
            Err(error) if error.is_of_one_object() => error.to_string(),
            Err(error) => return Err(error),
        };
        Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "base backup \"{}\", which this one builds on, cannot be restored: {error}",
                self.name
            ),
        )
        .with_detail("It could when this one began.")
        .with_hint("Find out what deletes below the prefix, and take the backup again."))
    }
}

/// The parent of a backup that has begun; or why it has to be a full one, as the end of a
/// sentence.
///
/// # Errors
/// Those of the store that are not about an object of another backup.
pub(crate) async fn choose(
    store: &dyn ObjectStore,
    start: &BackupStart,
    wanted: Incremental,
    cancel: &CancellationToken,
) -> Result<Result<Parent, String>> {
    if wanted.max_deltas == Some(0) {
        return Ok(Err("no delta backup may follow a full one".to_owned()));
    }
    let Some(latest) = sentinels(store).await?.pop() else {
        return Ok(Err("there is no base backup that it could build on".to_owned()));
    };
    let (read, since_full) = match read(store, &latest.name, wanted.origin).await {
        Err(error) if error.is_of_one_object() => {
            return Ok(Err(format!("the latest base backup cannot be built on: {error}")));
        }
        result => result?,
    };
    let name = read.name.clone();
    let unfit = |why: String| Ok(Err(format!("base backup \"{name}\" cannot be built on: {why}")));
    if let Some(why) = refusal(&read, start) {
        return unfit(why);
    }
    match stored_control(store, &read, cancel).await {
        Err(error) if error.is_of_one_object() => return unfit(error.to_string()),
        result => {
            if let Some(why) = other_pages(result?.pages, start) {
                return unfit(why.to_owned());
            }
        }
    }
    let sentinel = &read.sentinel;
    let parent = Parent {
        name: name.clone(),
        full_name: sentinel.delta_full_name.clone().unwrap_or_else(|| name.clone()),
        deltas: 0,
        start_lsn: sentinel.lsn.unwrap_or_default(),
        start_time: sentinel.start_time,
        files: read.files.files.clone(),
    };
    let chain = match Chain::of(store, read).await {
        Err(error) if error.is_of_one_object() => return unfit(error.to_string()),
        result => result?,
    };
    let in_chain = u32::try_from(chain.levels().len() - 1).unwrap_or(u32::MAX);
    let deltas = in_chain.max(since_full);
    if let Some(most) = wanted.max_deltas.filter(|most| deltas >= *most) {
        let noun = if most == 1 { "delta backup" } else { "delta backups" };
        return Ok(Err(format!(
            "{most} {noun} may follow a full one, and there have been {deltas} since \"{}\"",
            parent.full_name
        )));
    }
    if let Some((backup, damage)) = found_damaged(store, &chain).await? {
        return unfit(format!("the last verification of \"{backup}\" found that {damage}"));
    }
    Ok(Ok(Parent { deltas, ..parent }))
}

/// The backup to build on, and how many deltas there have been since a full one.
async fn read(
    store: &dyn ObjectStore,
    latest: &str,
    origin: Origin,
) -> Result<(StoredBackup, u32)> {
    let latest = StoredBackup::read(store, latest).await?;
    let since_full = latest.sentinel.delta_count.unwrap_or_default();
    match (&latest.sentinel.delta_full_name, &latest.sentinel.delta_from, origin) {
        (Some(full), Some(_), Origin::LatestFull) if chain::is_name(full) => {
            let full = full.clone();
            Ok((StoredBackup::read(store, &full).await?, since_full))
        }
        _ => Ok((latest, since_full)),
    }
}

/// Why the pages of a backup are not like those of the cluster as it is now. `pg_checksums`
/// changes all of them, and none of them in the WAL.
fn other_pages(layout: Option<PageLayout>, start: &BackupStart) -> Option<&'static str> {
    let usual = |checksums| PageLayout {
        page_bytes: BLOCK_SIZE as u32,
        pages_of_file: page::BLOCKS_PER_SEGMENT_FILE,
        checksums,
    };
    match layout {
        Some(layout) if layout == usual(start.data_checksums) => None,
        Some(layout) if layout == usual(true) => Some("data checksums were on when it was taken"),
        Some(layout) if layout == usual(false) => Some("data checksums were off when it was taken"),
        _ => Some("its pages or files have sizes that wal_e does not know"),
    }
}

/// Why `start` did not follow from a backup, or why that has too little.
fn refusal(backup: &StoredBackup, start: &BackupStart) -> Option<String> {
    let Sentinel { lsn, finish_lsn, pg_version, system_identifier, is_wal_e, .. } = backup.sentinel;
    let why = |text: &str| Some(text.to_owned());
    if is_wal_e {
        return why("WAL-E took it, which lists no files");
    }
    if backup.files.files.is_empty() {
        return why("it has no list of files");
    }
    // Label and map have none. WAL-G compares names byte by byte: it could not restore a delta.
    if !backup.files.files.keys().any(|name| name.starts_with('/')) {
        return why("WAL-G took it over the replication protocol, which names files otherwise");
    }
    if system_identifier != Some(start.system_identifier) {
        return why("it is not known to be one of this cluster");
    }
    let major = |version: u32| version / PER_MAJOR_VERSION;
    if pg_version.map(major) != Some(major(start.pg_version)) {
        return why("it was taken with another version of PostgreSQL");
    }
    if layout::timeline_of_backup(&backup.name) != Some(start.timeline) {
        return why("it is of another timeline");
    }
    let (Some(parent_start), Some(parent_stop)) = (lsn, finish_lsn) else {
        return why("it does not say where it begins and ends");
    };
    if parent_start >= start.start_lsn || parent_stop > start.start_lsn {
        return Some(format!(
            "it ends at {parent_stop}, after {}, where this one begins",
            start.start_lsn
        ));
    }
    // A merged backup is what the delta was.
    let name_when_taken = backup.sentinel.merged_from.as_deref().unwrap_or(&backup.name);
    let known = taken::has_been_through(
        &start.data_directory,
        name_when_taken,
        parent_start,
        start.timeline,
        start.segment_size,
    );
    (!known).then(|| {
        format!(
            "nothing in \"{}\" shows that it was taken of this data directory",
            start.data_directory.display()
        )
    })
}
