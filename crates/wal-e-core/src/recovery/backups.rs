//! Base backups as places where a recovery can begin.

use std::fmt;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use time::OffsetDateTime;

use super::refusal::Refusal;
use super::wal_source;
use crate::catalogue::BackupInfo;
use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::postgres::{Lsn, SegmentSize, WalFileName};
use crate::store::ObjectStore;

/// Backups of which segments are read at the same time.
const PREPARED_AT_ONCE: usize = 16;

/// Which base backup to restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupChoice {
    /// `AUTO`: the newest one from which the target can be reached.
    Auto,
    /// `LATEST`: the one that was completed last.
    Latest,
    /// The one of this name.
    Named(String),
}

impl From<&str> for BackupChoice {
    fn from(name: &str) -> Self {
        match name {
            "AUTO" => BackupChoice::Auto,
            "LATEST" => BackupChoice::Latest,
            name => BackupChoice::Named(name.to_owned()),
        }
    }
}

impl fmt::Display for BackupChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupChoice::Auto => f.write_str("AUTO"),
            BackupChoice::Latest => f.write_str("LATEST"),
            BackupChoice::Named(name) => f.write_str(name),
        }
    }
}

/// A base backup, with what a recovery from it begins with.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) info: BackupInfo,
    /// Its own name, then of a delta those of the backups that it builds on.
    pub(crate) chain: Vec<String>,
    /// Bytes in the store of all of them.
    pub(crate) stored_bytes: Option<u64>,
    pub(crate) segment_size: SegmentSize,
    pub(crate) start: Lsn,
    /// Where it is consistent; `None` when only its WAL says.
    pub(crate) stop: Option<Lsn>,
    /// When it was complete: everything up to `stop` is older.
    pub(crate) finished: OffsetDateTime,
}

/// The base backups that `choice` allows, newest first.
///
/// # Errors
/// [`ErrorKind::NotFound`] when there is no such base backup.
pub(super) fn choose(
    store: &dyn ObjectStore,
    backups: &[BackupInfo],
    choice: &BackupChoice,
) -> Result<Vec<BackupInfo>> {
    let url = store.url(&layout::base_backups());
    let Some(latest) = backups.last() else {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no base backup in \"{url}\""),
        )
        .with_hint(
            "Check that the prefix is the one that the cluster archives to. A backup is there once it is complete.",
        ));
    };
    match choice {
        BackupChoice::Latest => Ok(vec![latest.clone()]),
        BackupChoice::Auto => {
            let mut newest_first = backups.to_vec();
            // Of a delta and the full one that was made of it, the latter.
            newest_first
                .sort_by_key(|backup| std::cmp::Reverse((finished(backup), backup.stored_at)));
            Ok(newest_first)
        }
        BackupChoice::Named(name) => {
            let named = backups.iter().find(|backup| backup.name == *name);
            named.map(|backup| vec![backup.clone()]).ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("there is no base backup \"{name}\" in \"{url}\""),
                )
                .with_hint(format!(
                    "The latest base backup is \"{}\"; {} shows all.",
                    latest.name,
                    Word::BackupList
                ))
            })
        }
    }
}

/// When a backup was complete. Without a time in its sentinel it is the one at
/// which that was stored, or copied to where it is: it was complete no later.
pub(crate) fn finished(backup: &BackupInfo) -> OffsetDateTime {
    backup.finish_time.unwrap_or(backup.stored_at)
}

/// Finds out what a recovery from `backup` begins with.
///
/// # Errors
/// Those of the store. A backup that nothing can begin with is a [`Refusal`].
pub(crate) async fn prepare(
    store: &Arc<dyn ObjectStore>,
    backups: &[BackupInfo],
    backup: &BackupInfo,
) -> Result<Result<Candidate, Refusal>> {
    let unusable = |why: String| Refusal::unusable(&backup.name, &why);
    let Some(segment) = layout::start_segment_of_backup(&backup.name) else {
        return Ok(Err(unusable("its name does not contain the start segment".to_owned())));
    };
    let size = match size_from_name(&segment, backup.start_lsn) {
        Some(size) => size,
        None => match wal_source::segment_size(&**store, &segment).await {
            Ok(Some(size)) => size,
            Ok(None) => {
                let why = format!("WAL segment \"{segment}\" is not in the archive");
                return Ok(Err(unusable(missing(&why))));
            }
            Err(error) if error.is_unusable_object() => {
                return Ok(Err(Refusal::unusable_by_damage(&backup.name, &error)));
            }
            Err(error) => return Err(error),
        },
    };
    let Some(number) = segment.segment_number(size) else {
        let why =
            format!("no segment is named \"{segment}\" where they have {} bytes", size.bytes());
        return Ok(Err(unusable(why)));
    };
    let named_start = || {
        // Eight decimal digits at most.
        let offset = layout::wal_e_start_of_backup(&backup.name)
            .and_then(|(_, offset)| offset.parse().ok())
            .unwrap_or(0);
        Lsn(number.start_lsn(size).0.saturating_add(offset))
    };
    let mut chain = vec![backup.name.clone()];
    let mut stored_bytes = backup.compressed_bytes;
    let mut parent = backup.delta_from.as_ref();
    while let Some(name) = parent {
        let found = backups.iter().find(|backup| backup.name == *name);
        let Some(found) = found.filter(|_| !chain.contains(name)) else {
            return Ok(Err(unusable(format!(
                "it is a delta of \"{name}\", which is missing or damaged"
            ))));
        };
        chain.push(name.clone());
        let both = stored_bytes.zip(found.compressed_bytes);
        stored_bytes = both.and_then(|(sum, bytes)| sum.checked_add(bytes));
        parent = found.delta_from.as_ref();
    }
    Ok(Ok(Candidate {
        info: backup.clone(),
        chain,
        stored_bytes,
        segment_size: size,
        start: backup.start_lsn.unwrap_or_else(named_start),
        stop: backup.stop_lsn,
        finished: finished(backup),
    }))
}

/// [`prepare`] for each of `backups`, several at a time: some have to be asked the store about.
///
/// # Errors
/// Those of the store.
pub(crate) async fn prepare_all(
    store: &Arc<dyn ObjectStore>,
    backups: &[BackupInfo],
) -> Result<Vec<Result<Candidate, Refusal>>> {
    let prepared: Vec<_> = backups.iter().map(|backup| prepare(store, backups, backup)).collect();
    stream::iter(prepared).buffered(PREPARED_AT_ONCE).try_collect().await
}

/// Why a backup is of no use without a segment, of which `why` says what is wrong with it.
pub(super) fn missing(why: &str) -> String {
    format!("{why}, and without it the backup does not become consistent")
}

/// The one size with which the start LSN lies in the start segment, if there is
/// only one.
fn size_from_name(segment: &WalFileName, start: Option<Lsn>) -> Option<SegmentSize> {
    let start = start?;
    let sizes = (20..=30).filter_map(|bits| SegmentSize::new(1 << bits));
    let mut fitting = sizes.filter(|size| {
        segment.segment_number(*size).is_some_and(|number| number.0 == start.0 / size.bytes())
    });
    fitting.next().filter(|_| fitting.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_lsn_tell_the_segment_size_unless_the_segment_is_the_first() {
        let size = |name: &str, lsn| {
            size_from_name(&name.parse().unwrap(), Some(Lsn(lsn))).map(|size| size.bytes() >> 20)
        };
        assert_eq!(size("000000010000000000000002", 0x200_0028), Some(16));
        assert_eq!(size("000000010000000000000020", 0x200_0028), Some(1));
        assert_eq!(size("000000010000000300000002", 0x3_A000_0028), Some(1024));
        assert_eq!(size("000000010000000300000000", 0x3_0000_0028), None);
        assert_eq!(size("000000010000000000000003", 0x200_0028), None);
        assert_eq!(size_from_name(&"000000010000000000000002".parse().unwrap(), None), None);
    }
}
