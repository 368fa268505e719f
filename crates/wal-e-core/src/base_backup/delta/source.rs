//! Where it comes from which blocks have changed since the parent: the best source that has no
//! gap, and whose gaps would be seen.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Parent;
use crate::base_backup::start::BackupStart;
use crate::changed_blocks::summaries::{self, Stretch};
use crate::changed_blocks::{ChangedBlocks, KeptMaps};
use crate::error::{ErrorKind, Result};
use crate::tasks::blocking;

/// How long the server may take to summarize its WAL up to the start of the backup. It begins
/// with the checkpoint that ends there, and PostgreSQL waits as long for its own.
const SUMMARIZED_WITHIN: Duration = Duration::from_secs(60);

/// Which blocks have changed.
#[derive(Debug)]
pub(crate) enum Changed {
    /// Those that the WAL since the parent's start has changed.
    Blocks(ChangedBlocks),
    /// Each page is read, and says itself when it was changed last.
    ByPageLsn,
}

/// What is known of what has changed.
pub(crate) enum Found {
    /// Enough for an increment.
    Known {
        /// What it is.
        changed: Changed,
        /// Where it comes from, and why not from something better.
        from: String,
    },
    /// Too little: why, for each source.
    Unknown(String),
}

/// Finds out which blocks have changed between the start of `parent` and `start`.
///
/// # Errors
/// [`ErrorKind::Cancelled`](crate::error::ErrorKind::Cancelled).
pub(crate) async fn find_changed(
    start: &BackupStart,
    parent: &Parent,
    cancel: &CancellationToken,
) -> Result<Found> {
    let mut why_not = Vec::new();
    let stretch = Stretch { timeline: start.timeline, from: parent.start_lsn, to: start.start_lsn };
    let deadline = Instant::now() + SUMMARIZED_WITHIN;
    let summarized = summaries::changed_since(
        &start.data_directory,
        stretch,
        start.summarizes_wal,
        deadline,
        cancel,
    );
    match summarized.await? {
        Ok(map) => {
            let from = said("the server's WAL summaries", &why_not);
            return Ok(Found::Known { changed: Changed::Blocks(map), from });
        }
        Err(summaries::NotTold::NoDirectory) if !start.summarizes_wal => {}
        Err(why) => why_not.push(why.to_string()),
    }
    let (maps, size) = (KeptMaps::of_cluster(&start.data_directory), start.segment_size);
    let stop = cancel.clone();
    let mapped = blocking("reading which blocks have changed", move || {
        maps.changed_in(stretch, size, &stop)
    });
    match mapped.await {
        Ok(map) => {
            let from = said("the archiver's maps of changed blocks", &why_not);
            return Ok(Found::Known { changed: Changed::Blocks(map), from });
        }
        Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
        Err(error) => why_not.push(error.to_string()),
    }
    match by_page_lsn(start, parent) {
        Ok(()) => {
            let from = said("the LSN of each page", &why_not);
            Ok(Found::Known { changed: Changed::ByPageLsn, from })
        }
        Err(why) => {
            why_not.push(why);
            Ok(Found::Unknown(why_not.join("; ")))
        }
    }
}

/// What [`find_changed`] would take if the backup began now, or why it would find nothing. Only
/// the names of summaries, maps and segments are looked at; the end of the log is summarized when
/// the backup begins.
///
/// # Errors
/// [`ErrorKind::Bug`].
pub(super) async fn foreseen(
    start: &BackupStart,
    parent: &Parent,
) -> Result<Result<String, String>> {
    let mut why_not = Vec::new();
    let stretch = Stretch { timeline: start.timeline, from: parent.start_lsn, to: start.start_lsn };
    let (directory, size) = (start.data_directory.clone(), start.segment_size);
    let looked = blocking("looking for records of changed blocks", move || {
        let maps = KeptMaps::of_cluster(&directory);
        Ok((summaries::reach(&directory, stretch), maps.first_missing(stretch, size)))
    });
    let (summarized, unmapped) = looked.await?;
    match summarized {
        Ok(until) if until >= stretch.to || start.summarizes_wal => {
            let until = match until < stretch.to {
                true => format!(", so far up to {until}"),
                false => String::new(),
            };
            return Ok(Ok(format!("the server's WAL summaries{until}")));
        }
        Ok(at) => {
            let gap = summaries::NotTold::Gap { timeline: stretch.timeline, at };
            why_not.push(format!("\"summarize_wal\" is off, and {gap}"));
        }
        Err(summaries::NotTold::NoDirectory) if !start.summarizes_wal => {}
        Err(why) => why_not.push(why.to_string()),
    }
    match unmapped {
        None => return Ok(Ok(said("the archiver's maps of changed blocks", &why_not))),
        Some(segment) => why_not.push(segment.to_string()),
    }
    Ok(match by_page_lsn(start, parent) {
        Ok(()) => Ok(said("the LSN of each page, all of which are read", &why_not)),
        Err(why) => {
            why_not.push(why);
            Err(why_not.join("; "))
        }
    })
}

fn said(source: &str, why_not_better: &[String]) -> String {
    match why_not_better {
        [] => source.to_owned(),
        _ => format!("{source} ({})", why_not_better.join("; ")),
    }
}

/// Whether the LSN of a page shows that it has not changed.
///
/// Where hints are not logged, a page can be marked as all-visible without a new LSN, while the
/// visibility map, which is stored, says so, too (`src/backend/access/heap/heapam.c`,
/// `heap_xlog_visible`). With the page as the parent has it, the map would not be
/// cleared by the next change, and an index-only scan would give wrong rows. Whether
/// hints were logged all the time is known if the server was not started in between: that is
/// also why `wal_level` was not `minimal`.
fn by_page_lsn(start: &BackupStart, parent: &Parent) -> Result<(), String> {
    if !start.logs_hints {
        return Err(
            "pages do not show all changes, with neither data checksums nor \"wal_log_hints\""
                .to_owned(),
        );
    }
    let Some(parent_start) = parent.start_time else {
        return Err(format!("base backup \"{}\" does not say when it began", parent.name));
    };
    if start.server_started_at >= parent_start {
        return Err(format!(
            "the server was started after base backup \"{}\" began, and whether pages show all changes since then depends on how it was set before",
            parent.name
        ));
    }
    Ok(())
}
