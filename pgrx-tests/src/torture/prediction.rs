//! What a server does, by PostgreSQL's rules, the archive's WAL and the model's rows.

use super::model::{Backup, Model, Rows};
use super::targets::{Request, Target, Timeline};
use super::truth::{Replay, Truth};
use super::waldump::{Kind, Record};

/// How a recovery ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// At the target, with these rows; without a target, at the end of the log.
    Reaches(Rows),
    /// The server opens with these rows, but the log goes on, or that was another's: why.
    Early(Rows, String),
    /// It does not open.
    Fails(String),
}

impl Outcome {
    /// The rows with which a server opens.
    pub fn rows(&self) -> Option<&Rows> {
        match self {
            Outcome::Reaches(rows) | Outcome::Early(rows, _) => Some(rows),
            Outcome::Fails(_) => None,
        }
    }
}

/// The timeline that a server follows from a backup.
pub fn timeline_followed(truth: &Truth, request: Timeline, backup: &Backup, model: &Model) -> u32 {
    let own = model.branches[backup.branch].timeline;
    match request {
        Timeline::Unsaid | Timeline::Latest => truth.newest_from(own),
        Timeline::Current => own,
        Timeline::Number(number) => number,
    }
}

/// What a recovery from `backup` along `timeline` comes to.
pub fn predict(
    model: &Model,
    truth: &Truth,
    backup: &Backup,
    timeline: u32,
    request: &Request,
) -> Outcome {
    let own = model.branches[backup.branch].timeline;
    // A server that is given a number wants the file, that of its own timeline included.
    let is_told = matches!(request.timeline, Timeline::Number(_));
    if (timeline != own || is_told) && timeline != 1 && !truth.has_history(timeline) {
        return Outcome::Fails(format!("timeline {timeline} does not exist"));
    }
    let history = truth.history(timeline);
    let Some(range) = history.iter().find(|range| range.timeline == own) else {
        return Outcome::Fails(format!("timeline {timeline} does not descend from {own}"));
    };
    // A recovery that follows a timeline and ends before that begins leaves a history with a
    // switch before an earlier one: the newest timeline that has the place counts.
    let newest = history.iter().rev().find(|range| {
        range.begin <= backup.start && range.end.is_none_or(|end| backup.start < end)
    });
    if newest != Some(range) {
        return Outcome::Fails(format!("timeline {own} was left before the base backup"));
    }
    let replay = truth.replay(backup.start, timeline);
    let end = Kind::BackupEnd(backup.start);
    let Some(consistent) = replay.records.iter().position(|record| record.kind == end) else {
        return Outcome::Fails("the end of the base backup is not replayed".to_owned());
    };
    let Some(stop) = stop(&replay.records, request, consistent) else {
        return match request.target {
            Target::End => at_end(model, backup, &replay),
            _ => Outcome::Fails("the target is not met".to_owned()),
        };
    };
    if stop <= consistent {
        return Outcome::Fails("the target is met before the end of the base backup".to_owned());
    }
    let rows = rows(model, backup, &replay.records[..stop]);
    match replay.stray {
        Some(stray) if replay.records[stop - 1].lsn >= stray => {
            Outcome::Early(rows, format!("the target is met beyond {stray}, off the timeline"))
        }
        // A record is met by an LSN within the one before it, too: here the backup's last.
        _ if is_within_backup(&request.target, &replay.records, consistent) => {
            Outcome::Early(rows, "the target lies before the end of the base backup".to_owned())
        }
        // The server cannot know, and opens with what is later.
        _ if matches!(request.target, Target::Time(time) if time < backup.finished) => {
            Outcome::Early(rows, "the target lies before the end of the base backup".to_owned())
        }
        _ => Outcome::Reaches(rows),
    }
}

/// Whether the target is an LSN before the end of the base backup's last record.
fn is_within_backup(target: &Target, records: &[Record], consistent: usize) -> bool {
    let Target::Lsn(lsn) = target else { return false };
    *lsn <= records[consistent].lsn
        || records.get(consistent + 1).is_some_and(|next| *lsn < next.lsn)
}

fn at_end(model: &Model, backup: &Backup, replay: &Replay) -> Outcome {
    let rows = rows(model, backup, &replay.records);
    match &replay.short {
        None => Outcome::Reaches(rows),
        Some(short) => Outcome::Early(rows, short.clone()),
    }
}

/// How many records are replayed up to the target (PostgreSQL 15,
/// `src/backend/access/transam/xlogrecovery.c`, `recoveryStopsBefore` and `recoveryStopsAfter`).
fn stop(records: &[Record], request: &Request, consistent: usize) -> Option<usize> {
    let inclusive = request.inclusive;
    let first = |wanted: &dyn Fn(&Record) -> bool| records.iter().position(wanted);
    match &request.target {
        Target::End => None,
        Target::Immediate => Some(consistent + 1),
        Target::Time(time) => first(&|record| match record.kind {
            Kind::Commit(transaction) | Kind::Abort(transaction) => {
                transaction.time > *time || !inclusive && transaction.time == *time
            }
            _ => false,
        }),
        Target::Lsn(lsn) => {
            first(&|record| record.lsn >= *lsn).map(|at| at + usize::from(inclusive))
        }
        Target::Name(name) => {
            first(&|record| record.kind == Kind::RestorePoint(name.clone())).map(|at| at + 1)
        }
        Target::Xid(xid) => first(&|record| match record.kind {
            Kind::Commit(transaction) | Kind::Abort(transaction) => transaction.xid == *xid,
            _ => false,
        })
        .map(|at| at + usize::from(inclusive)),
    }
}

/// The rows after a base backup and these records.
fn rows(model: &Model, backup: &Backup, records: &[Record]) -> Rows {
    let mut rows = model.rows_at(backup.branch, backup.start);
    for record in records {
        if let Kind::Commit(transaction) = record.kind
            && let Some(write) = model.write_of(transaction)
        {
            write.apply(&mut rows);
        }
    }
    rows
}
