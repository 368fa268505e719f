//! All WAL that a recovery replays, read before it begins: whether a server can follow it
//! from record to record, and what replay needs beyond the data directory.

use std::path::PathBuf;

use time::OffsetDateTime;

use super::branch::Branch;
use super::plan::{Planner, ReadWal};
use super::reach::Reach;
use super::refusal::{Cause, Nearest, Refusal, capitalized};
use super::target::{RecoveryTarget, format_time};
use super::wal_source::if_removed;
use crate::error::Result;
use crate::postgres::{Lsn, RecordKind, RequiredSettings, WalReader, WalRecord, WalSegment};
use crate::wal::OwnWal;
use crate::wal::{ReadingProgress, RecordVisitor, Stop};

/// A tablespace that replay creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTablespace {
    /// Its object identifier.
    pub oid: u32,
    /// Its directory; empty for one that lies in `pg_tblspc` itself.
    pub location: PathBuf,
    /// The record that creates it.
    pub created: Lsn,
    /// The record that drops it again, if one does.
    pub dropped: Option<Lsn>,
}

/// What reading the WAL gave.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// How many segments were read, from the first on.
    pub(super) segments: u64,
    /// The largest values met, if the server was ever started with others.
    pub(super) settings: Option<RequiredSettings>,
    pub(super) tablespaces: Vec<NewTablespace>,
    /// Whole sentences.
    pub(super) notes: Vec<String>,
}

impl Planner<'_> {
    /// Reads the WAL that a recovery along `branch` replays to reach `reach`, as much of
    /// it as was asked for.
    pub(super) async fn scan(
        &mut self,
        branch: &Branch,
        reach: &Reach,
    ) -> Result<Result<Scan, Refusal>> {
        let total = branch.chain.len().min(reach.last_index.saturating_add(1));
        let count = match self.request.read_wal {
            ReadWal::All => total,
            ReadWal::AtMost(segments) => segments.min(total),
        };
        let limit = branch.chain.limit(total.saturating_sub(1));
        // Without a target, replay ends where the WAL does.
        let target = reach.lsn.filter(|_| self.request.target.is_some());
        let size = branch.candidate.segment_size;
        let visitor = Scanner {
            own: OwnWal::new(branch.candidate.start, branch.stop, None),
            until: target.into_iter().chain(limit).min().unwrap_or(Lsn(u64::MAX)),
            until_included: matches!(self.request.target, Some(RecoveryTarget::Lsn(_))),
            ..Scanner::default()
        };
        let reader = WalReader::at_record(branch.candidate.start, size)
            .expect_cluster(branch.candidate.info.system_identifier);
        let segments = (0..count).filter_map(|index| branch.chain.segment(index));
        let mut progress = ReadingProgress::new(&self.notices, count);
        let mut told = |read| progress.tell(read);
        let followed = branch.wal.archived().follow(segments, reader, visitor, &mut told).await?;
        let seen = followed.visitor;
        if let Some(refusal) = seen.minimal.map(|lsn| of_minimal(branch, &seen, lsn)) {
            return Ok(Err(self
                .with_what_is_reached(branch, &seen, lsn_of_end(&seen), refusal)
                .await?));
        }
        let mut notes = Vec::new();
        let damage = match followed.stop {
            Stop::Enough | Stop::AllRead => None,
            Stop::Ended(segment, end)
                if target.is_none() && !end.begins_anew && Some(segment) == last_of(branch) =>
            {
                None
            }
            Stop::Ended(segment, end) => {
                Some((segment, Refusal::where_wal_breaks_off(&branch.name_of(segment), &end)))
            }
            Stop::Failed(segment, error) if error.is_unusable_object() => {
                Some((segment, Refusal::of_damage(Cause::Target, &error)))
            }
            Stop::Failed(segment, error) => return Err(if_removed(segment, size, error)),
        };
        if let Some((segment, refusal)) = damage {
            if !seen.own.is_complete() {
                return Ok(Err(unusable(branch, refusal)));
            }
            if !self.request.standby {
                let after = segment.number.end_lsn(size);
                return Ok(Err(self.with_what_is_reached(branch, &seen, after, refusal).await?));
            }
            notes.push(format!(
                "{}; the standby waits there until it is repaired.",
                capitalized(&refusal.reason)
            ));
        }
        if seen.own.is_complete()
            && let Some(lacking) = seen.own.lacks()
        {
            return Ok(Err(of_another_history(branch, &lacking)));
        }
        notes.extend(seen.notes());
        notes.extend(unread(count, total));
        let Scanner { settings, tablespaces, .. } = seen;
        Ok(Ok(Scan { segments: count, settings, tablespaces, notes }))
    }

    /// Says what can be reached before the end of the WAL, and after `lsn`.
    async fn with_what_is_reached(
        &mut self,
        branch: &Branch,
        seen: &Scanner,
        lsn: Lsn,
        refusal: Refusal,
    ) -> Result<Refusal> {
        let before = match (&self.request.target, seen.last_time, seen.last_start) {
            (Some(RecoveryTarget::Time(_) | RecoveryTarget::BeforeTime(_)), Some(time), lsn) => {
                Some(Nearest {
                    lsn,
                    time: Some(time),
                    description: format!("any time before {}", format_time(time)),
                })
            }
            (_, time, Some(lsn)) if lsn >= branch.stop => Some(Nearest {
                lsn: Some(lsn),
                time,
                description: format!("LSN {lsn}, the last record that can be replayed"),
            }),
            _ => None,
        };
        let after = self.next_backup(branch, lsn).await?;
        Ok(refusal.with_nearest(before.into_iter().chain(after)))
    }
}

fn last_of(branch: &Branch) -> Option<WalSegment> {
    branch.chain.segment(branch.chain.len().checked_sub(1)?)
}

fn lsn_of_end(seen: &Scanner) -> Lsn {
    seen.last_start.unwrap_or_default()
}

/// The WAL of the base backup itself is damaged, or goes on with that of another history.
fn unusable(branch: &Branch, refusal: Refusal) -> Refusal {
    let reason = Refusal::unusable(&branch.candidate.info.name, &refusal.reason).reason;
    Refusal { cause: Cause::Unusable, reason, nearest: Vec::new(), ..refusal }
}

fn of_another_history(branch: &Branch, lacking: &str) -> Refusal {
    Refusal::unusable(
        &branch.candidate.info.name,
        "the archived WAL of its time is of another history of the cluster",
    )
    .with_detail(format!(
        "The WAL from LSN {} to {} has {lacking}. Another copy of the cluster archived it under the same names.",
        branch.candidate.start, branch.stop
    ))
    .with_advice("Recover from another base backup: AUTO chooses one.")
}

/// PostgreSQL 15, xlogrecovery.c, `CheckRequiredParameterValues`.
fn of_minimal(branch: &Branch, seen: &Scanner, lsn: Lsn) -> Refusal {
    let refusal = Refusal::new(
        Cause::Target,
        format!("recovery would end at LSN {lsn}: WAL was generated with wal_level=minimal"),
    )
    .with_detail("From there on not all changes are in the WAL, and a server refuses to go on.")
    .with_advice("Recover from a base backup that was taken after wal_level was raised again.");
    if seen.own.is_complete() { refusal } else { unusable(branch, refusal) }
}

/// What was not looked at.
fn unread(count: u64, total: u64) -> Option<String> {
    let unknown = "whether replay can follow it, which settings it needs and which tablespaces it creates is unknown";
    match total.saturating_sub(count) {
        0 => None,
        _ if count == 0 => Some(format!("The WAL was not read: {unknown}.")),
        rest => Some(format!(
            "Of {total} WAL segments the first {count} were read; of the other {rest}, {unknown}."
        )),
    }
}

#[derive(Debug)]
struct Scanner {
    own: OwnWal,
    /// The first record from here on is the last, or the first that is not replayed.
    until: Lsn,
    until_included: bool,
    done: bool,
    last_start: Option<Lsn>,
    last_time: Option<OffsetDateTime>,
    settings: Option<RequiredSettings>,
    minimal: Option<Lsn>,
    tablespaces: Vec<NewTablespace>,
}

impl Default for Scanner {
    fn default() -> Self {
        Scanner {
            own: OwnWal::new(Lsn(0), Lsn(0), None),
            until: Lsn(u64::MAX),
            until_included: false,
            done: false,
            last_start: None,
            last_time: None,
            settings: None,
            minimal: None,
            tablespaces: Vec::new(),
        }
    }
}

impl Scanner {
    fn notes(&self) -> Vec<String> {
        let tablespaces = self.tablespaces.iter().map(|tablespace| {
            let (oid, place) = (tablespace.oid, tablespace.location.display());
            format!("Replay creates tablespace {oid} in \"{place}\".")
        });
        let settings = self.settings.map(|settings| {
            let values = settings.named().map(|(name, value)| format!("{name} = {value}"));
            format!("Replay needs at least {}.", values.join(", "))
        });
        tablespaces.chain(settings).collect()
    }
}

impl RecordVisitor for Scanner {
    fn visit(&mut self, record: WalRecord) {
        if self.done {
            return;
        }
        self.own.visit(&record);
        self.done = record.start >= self.until;
        if self.done && !self.until_included {
            return;
        }
        self.last_start = Some(record.start);
        match record.kind {
            RecordKind::TransactionEnd { time, .. } => self.last_time = Some(time),
            RecordKind::ParameterChange(change) if change.wal_level_is_minimal => {
                self.minimal = Some(record.start);
                self.done = true;
            }
            RecordKind::ParameterChange(change) => {
                let known = self.settings.unwrap_or_default();
                self.settings = Some(known.largest(change.required));
            }
            RecordKind::TablespaceCreate { oid, location } => {
                let created = record.start;
                self.tablespaces.push(NewTablespace { oid, location, created, dropped: None });
            }
            RecordKind::TablespaceDrop { oid } => {
                let newest = self.tablespaces.iter_mut().rev().find(|known| known.oid == oid);
                if let Some(known) = newest {
                    known.dropped = Some(record.start);
                }
            }
            _ => {}
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
