//! Whether an archive has more than one branch that could be meant.

use wal_e_core::postgres::Lsn;

use super::model::{Backup, Model};
use super::prediction::{Outcome, predict};
use super::targets::Request;
use super::truth::Truth;
use super::waldump::Kind;

/// What two timelines have apart from each other.
struct Parting {
    /// Up to here they have the same.
    at: Lsn,
    /// When the newer one went its own way, as an interval.
    born: (i64, i64),
}

fn parting(model: &Model, truth: &Truth, older: u32, newer: u32) -> Option<Parting> {
    let at = truth.parting(older, newer);
    let history = truth.history(newer);
    let child = history.iter().find(|range| range.begin >= at && range.timeline != older)?;
    Some(Parting { at, born: model.born(child.timeline)? })
}

/// Whether the archive has transactions of `timeline` from `at` on that ended after `time`.
fn lived_on(model: &Model, truth: &Truth, timeline: u32, at: Lsn, time: i64) -> bool {
    let history = truth.history(timeline);
    let below = |backup: &&Backup| {
        let own = model.branches[backup.branch].timeline;
        history.iter().any(|range| range.timeline == own)
    };
    model.backups.iter().filter(below).any(|backup| {
        truth.replay(backup.start, timeline).records.iter().any(|record| match record.kind {
            Kind::Commit(transaction) | Kind::Abort(transaction) => {
                record.lsn >= at && transaction.time > time
            }
            _ => false,
        })
    })
}

/// Whether servers of `timeline` wrote or took a base backup from `at` on after `time`, which
/// the archive may show even where no base backup reaches it.
fn was_used(model: &Model, timeline: u32, at: Lsn, time: i64) -> bool {
    let is_on = |branch: usize| model.branches[branch].timeline == timeline;
    let mut writes = model.writes.iter().filter(|write| is_on(write.branch));
    let mut backups = model.backups.iter().filter(|backup| is_on(backup.branch));
    writes.any(|write| write.commit >= at && write.transaction.time > time)
        || backups.any(|backup| backup.start >= at && backup.finished > time)
}

/// Whether any timeline that a newer one does not hold went on after that one had begun:
/// then a refusal that asks for a timeline is right.
pub fn may_ask(model: &Model, truth: &Truth) -> bool {
    let timelines = truth.timelines();
    timelines.iter().any(|older| {
        timelines.iter().filter(|newer| *newer > older).any(|newer| {
            // One that begins with a checkpoint has whole seconds only.
            parting(model, truth, *older, *newer).is_some_and(|parting| {
                let second = parting.born.0 - parting.born.0.rem_euclid(1_000_000);
                lived_on(model, truth, *older, parting.at, second)
                    || was_used(model, *older, parting.at, second)
            })
        })
    })
}

/// A timeline that could have been meant as well as `chosen`, and where the recovery would
/// have come to something else: then a refusal is due.
pub fn must_ask(
    model: &Model,
    truth: &Truth,
    request: &Request,
    backups: &[Backup],
    chosen: (u32, &Outcome),
) -> Option<u32> {
    let (newest, outcome) = chosen;
    let young = |other: u32| {
        let Some((_, born)) = model.born(newest) else { return false };
        other != newest && lived_on(model, truth, other, truth.parting(other, newest), born)
    };
    truth.timelines().into_iter().filter(|other| young(*other)).find(|other| {
        backups.iter().any(|backup| {
            let there = predict(model, truth, backup, *other, request);
            matches!(there, Outcome::Reaches(_)) && there.rows() != outcome.rows()
        })
    })
}
