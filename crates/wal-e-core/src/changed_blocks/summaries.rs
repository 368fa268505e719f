//! Which blocks have changed, as PostgreSQL's own WAL summaries tell it.
//!
//! Which files are needed is decided as the server does it for its own incremental backups,
//! `src/backend/backup/walsummary.c` and `src/backend/backup/basebackup_incremental.c`.

use std::cmp::Ordering;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ChangedBlocks, RelationId};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::wal_summary::{self, MAIN_FORK, SummarizedFork, WalSummaryName};
use crate::postgres::{Lsn, TimelineId};
use crate::tasks::{Work, blocking, or_cancelled};

/// Where the server has its summaries, below the data directory.
const DIRECTORY: &str = "pg_wal/summaries";

/// How long to wait before looking again for a summary that is to come.
const POLL: Duration = Duration::from_millis(200);

/// How many bytes of a summary are read at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// A part of one timeline's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The timeline.
    pub timeline: TimelineId,
    /// Where it begins.
    pub from: Lsn,
    /// Where it ends: the first byte that does not belong to it.
    pub to: Lsn,
}

/// Why WAL summaries do not tell what has changed. As text it can follow "because".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotTold {
    /// The server has no directory for summaries: it is older than PostgreSQL 17.
    NoDirectory,
    /// No summary covers the stretch from here on.
    Gap {
        /// The timeline of the stretch.
        timeline: TimelineId,
        /// The first byte that is not covered.
        at: Lsn,
    },
    /// A summary, or the directory, is damaged, of an unknown format, or cannot be read.
    Unreadable(Error),
}

impl fmt::Display for NotTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotTold::NoDirectory => write!(f, "the server has no directory \"{DIRECTORY}\""),
            NotTold::Gap { timeline, at } => {
                write!(f, "no WAL summary covers timeline {timeline} from {at} on")
            }
            NotTold::Unreadable(error) => f.write_str(error.message()),
        }
    }
}

impl std::error::Error for NotTold {}

/// What has changed in a stretch of the log of the cluster in `data_directory`, or why its WAL
/// summaries do not tell.
///
/// With `summarizes`, the server makes summaries, and those that are missing at the end of the
/// stretch are waited for until `deadline`. One is made at the beginning of each checkpoint,
/// and the server may be far behind. A gap that the server will not fill is told at once.
///
/// # Errors
/// [`ErrorKind::Cancelled`] when `cancel` is; [`ErrorKind::Bug`] when the stretch ends before
/// it begins.
pub fn changed_since<'a>(
    data_directory: &'a Path,
    stretch: Stretch,
    summarizes: bool,
    deadline: Instant,
    cancel: &'a CancellationToken,
) -> Work<'a, Result<Result<ChangedBlocks, NotTold>>> {
    Box::pin(async move {
        let Stretch { from, to, .. } = stretch;
        if from > to {
            let message = format!("WAL summaries are wanted from {from} back to {to}");
            return Err(Error::new(ErrorKind::Bug, message));
        }
        loop {
            // The time is read first: what came just before it is looked at.
            let now = Instant::now();
            let (directory, stop) = (data_directory.join(DIRECTORY), cancel.clone());
            let look = blocking("reading WAL summaries", move || look(directory, stretch, &stop));
            let found = or_cancelled(cancel, look).await?;
            match found {
                Found::NotYet(_) if summarizes && now < deadline => {}
                Found::NotYet(gap) => return Ok(Err(gap)),
                Found::All(answer) => return Ok(answer),
            }
            let next = deadline.min(now + POLL);
            let pause = async {
                tokio::time::sleep_until(next).await;
                Ok(())
            };
            or_cancelled(cancel, pause).await?;
        }
    })
}

/// Up to where the names of the summaries in `data_directory` cover a stretch; what is after that
/// may still be summarized.
///
/// # Errors
/// [`NotTold`] where no summary that is still to come can close the gap.
pub fn reach(data_directory: &Path, stretch: Stretch) -> Result<Lsn, NotTold> {
    let names = list(&data_directory.join(DIRECTORY))?;
    match covering(&names, stretch) {
        Ok(_) => Ok(stretch.to),
        Err(Uncovered { at }) if has_gone_on(&names, stretch, at) => {
            Err(NotTold::Gap { timeline: stretch.timeline, at })
        }
        Err(Uncovered { at }) => Ok(at),
    }
}

/// Whether the server has summarized what comes after `at`, which it has not covered. It only
/// goes forward, also from one timeline to the next.
fn has_gone_on(names: &[WalSummaryName], stretch: Stretch, at: Lsn) -> bool {
    names.iter().any(|name| match name.timeline.cmp(&stretch.timeline) {
        Ordering::Less => false,
        Ordering::Equal => name.start > at,
        Ordering::Greater => name.start >= at,
    })
}

/// What there is now.
enum Found {
    /// It will not be more.
    All(Result<ChangedBlocks, NotTold>),
    /// The rest may come.
    NotYet(NotTold),
}

fn look(directory: PathBuf, stretch: Stretch, cancel: &CancellationToken) -> Result<Found> {
    let names = match list(&directory) {
        Ok(names) => names,
        Err(not_told) => return Ok(Found::All(Err(not_told))),
    };
    let needed = match covering(&names, stretch) {
        Ok(needed) => needed,
        Err(Uncovered { at }) => {
            let gap = NotTold::Gap { timeline: stretch.timeline, at };
            let has_gone_on = has_gone_on(&names, stretch, at);
            return Ok(if has_gone_on { Found::All(Err(gap)) } else { Found::NotYet(gap) });
        }
    };
    let mut changed = ChangedBlocks::default();
    for name in needed {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        match read(&directory, name, stretch) {
            Ok(more) => changed.merge(more),
            Err(not_told) => return Ok(Found::All(Err(not_told))),
        }
    }
    Ok(Found::All(Ok(changed)))
}

/// The names of the summaries in a directory, in any order; what has other names is no summary,
/// such as one that is being written.
fn list(directory: &Path) -> Result<Vec<WalSummaryName>, NotTold> {
    let unreadable = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => NotTold::NoDirectory,
        _ => NotTold::Unreadable(Error::file("read directory", directory, error)),
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| unreadable(&error))? {
        let name = entry.map_err(|error| unreadable(&error))?.file_name();
        names.extend(name.to_str().and_then(|name| name.parse::<WalSummaryName>().ok()));
    }
    Ok(names)
}

/// The first byte of a stretch that summaries do not cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uncovered {
    /// Where it is.
    pub at: Lsn,
}

/// Which summaries have something of a stretch, in the order of the log. They may overlap.
///
/// # Errors
/// [`Uncovered`] when they do not cover all of it.
pub fn covering(
    names: &[WalSummaryName],
    stretch: Stretch,
) -> Result<Vec<WalSummaryName>, Uncovered> {
    let Stretch { timeline, from, to } = stretch;
    if from >= to {
        return Ok(Vec::new());
    }
    let mut needed: Vec<_> = names
        .iter()
        .filter(|name| name.timeline == timeline && name.start < to && name.end > from)
        .copied()
        .collect();
    needed.sort_unstable();
    let mut covered = from;
    for name in &needed {
        if name.start > covered {
            break;
        }
        covered = covered.max(name.end);
    }
    if covered < to { Err(Uncovered { at: covered }) } else { Ok(needed) }
}

fn read(
    directory: &Path,
    name: WalSummaryName,
    stretch: Stretch,
) -> Result<ChangedBlocks, NotTold> {
    let path = directory.join(name.to_string());
    let file = match File::open(&path) {
        Ok(file) => file,
        // Its time has come meanwhile: `wal_summary_keep_time`.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(NotTold::Gap { timeline: name.timeline, at: name.start.max(stretch.from) });
        }
        Err(error) => return Err(NotTold::Unreadable(Error::file("open", &path, &error))),
    };
    parse(&path, BufReader::with_capacity(BUFFER_BYTES, file)).map_err(NotTold::Unreadable)
}

/// What the WAL summary at `path` tells of main forks, read from `input`, which should be
/// buffered.
///
/// # Errors
/// As [`wal_summary::read`].
pub fn parse(path: &Path, input: impl io::Read) -> Result<ChangedBlocks> {
    let mut changed = ChangedBlocks::default();
    wal_summary::read(path, input, |fork| note(&mut changed, fork))?;
    Ok(changed)
}

fn note(changed: &mut ChangedBlocks, fork: SummarizedFork) {
    let SummarizedFork { tablespace, database, relation, fork, limit, blocks } = fork;
    if fork != MAIN_FORK {
        return;
    }
    if relation == 0 {
        changed.note_database(tablespace, database);
        return;
    }
    let relation = RelationId { tablespace, database, number: relation };
    changed.note_blocks(relation, blocks);
    if let Some(limit) = limit {
        changed.note_limit(relation, limit);
    }
}

#[cfg(test)]
mod tests;
