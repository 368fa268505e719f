//! The search for a restore point or a transaction.

use super::Reach;
use super::shortfall::{breaks_off, missing_segment};
use crate::config::Word;
use crate::error::Result;
use crate::postgres::{Lsn, TimelineId};
use crate::recovery::branch::Branch;
use crate::recovery::chain::ChainEnd;
use crate::recovery::plan::Planner;
use crate::recovery::refusal::{Cause, Refusal};
use crate::recovery::wal_source::{Found, Goal};

/// Which WAL was searched for a name or a transaction in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Searched {
    /// Along this timeline.
    timeline: TimelineId,
    from: Lsn,
    to: Lsn,
    /// Why nothing is known of what comes after some point in it.
    damage: Option<Refusal>,
}

impl Planner<'_> {
    /// Looks for a restore point or a transaction.
    pub(super) async fn search(
        &mut self,
        branch: &mut Branch,
        goal: Goal,
    ) -> Result<Result<Reach, Refusal>> {
        let size = branch.candidate.segment_size;
        let end = branch.chain.end_lsn(size).unwrap_or(branch.stop);
        let timeline = branch.history.timeline();
        // What a newer base backup was refused for need not be read again.
        let before = self.searched.clone().filter(|searched| searched.timeline == timeline);
        let last = before
            .as_ref()
            .and_then(|searched| branch.chain.index_of(searched.from, size))
            .unwrap_or_else(|| branch.chain.len().saturating_sub(1));
        let wanted = match &goal {
            Goal::RestorePoint(name) => format!("restore point \"{name}\""),
            Goal::Transaction(xid) => format!("the end of transaction {xid}"),
            Goal::BackupEnd(_) | Goal::AnyTransaction | Goal::AnyTime => "a record".to_owned(),
        };
        self.notices.log(format!("looking for {wanted} in {} WAL segments", last + 1));
        let start = branch.candidate.start;
        let damage = match branch.wal.find(&branch.chain, 0..=last, start, goal).await {
            Ok(Found::Here(point)) if point.end > branch.stop => {
                let last_index = branch.chain.index_of(Lsn(point.end.0 - 1), size).unwrap_or(last);
                let (lsn, time) = (Some(point.start), point.time);
                return Ok(Ok(Reach { last_index, lsn, time, notes: Vec::new() }));
            }
            Ok(Found::Here(point)) => {
                // An older base backup reaches it.
                self.searched = Some(Searched { timeline, from: point.end, to: end, damage: None });
                let better = self.backup_below(point.start).map(|backup| backup.name.clone());
                return Ok(Err(self.too_early(branch, better)));
            }
            Ok(Found::Broken(segment, end)) => breaks_off(branch, segment, &end),
            Err(error) if error.is_unusable_object() => Refusal::of_damage(Cause::TooEarly, &error),
            Err(error) => return Err(error),
            Ok(Found::Nowhere) => {
                let to = before.as_ref().map_or(end, |searched| searched.to);
                let damage = before.and_then(|searched| searched.damage);
                self.searched =
                    Some(Searched { timeline, from: start, to, damage: damage.clone() });
                if let Some(damage) = damage {
                    return Ok(Err(damage));
                }
                let mut detail = format!(
                    "The WAL of timeline {timeline} and its ancestors was searched from LSN {start} to LSN {to}."
                );
                if let ChainEnd::Hole { .. } = branch.chain.end {
                    detail.push_str(&format!(
                        " Recovery cannot go on from there: {}.",
                        missing_segment(branch)
                    ));
                }
                return Ok(Err(Refusal::new(Cause::TooEarly, format!("{wanted} was not found"))
                    .with_detail(detail)
                    .with_nearest(self.next_after_hole(branch).await?)
                    .with_advice(format!(
                        "Recovery to a time or an LSN does not need its name; on another timeline it is found with {}.",
                        Word::TargetTimeline
                    ))));
            }
        };
        // An older base backup reaches what lies before this one.
        let damage = Refusal { cause: Cause::TooEarly, ..damage };
        let known = Some(damage.clone());
        self.searched = Some(Searched { timeline, from: start, to: end, damage: known });
        Ok(Err(damage))
    }
}
