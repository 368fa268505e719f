//! Why replay does not reach a target, in words, and what it does reach.

use super::last_transaction::{Last, SEGMENTS_READ_TO_TELL, last_transaction};
use crate::catalogue::wal_inventory::Absence;
use crate::config::Word;
use crate::error::Result;
use crate::postgres::{WalEnd, WalSegment};
use crate::recovery::alternatives::end_of;
use crate::recovery::branch::{Branch, segment_that_is_missing};
use crate::recovery::chain::ChainEnd;
use crate::recovery::plan::Planner;
use crate::recovery::refusal::{AFTER_NEW_LOG, Cause, Nearest, Refusal};
use crate::recovery::target::{RecoveryTarget, format_time};
use crate::recovery::wal_source::Summary;
use crate::wal::Continuation;

impl Planner<'_> {
    /// The target is before the end of the base backup.
    pub(super) fn too_early(&self, branch: &Branch, better: Option<String>) -> Refusal {
        let name = &branch.candidate.info.name;
        let target = self.request.target.as_ref().map(ToString::to_string).unwrap_or_default();
        let complete =
            branch.candidate.info.finish_time.map_or_else(String::new, |time| {
                format!(" and was complete at {}", format_time(time))
            });
        let refusal = Refusal::new(
            Cause::TooEarly,
            format!("target {target} is before the end of base backup \"{name}\""),
        )
        .with_detail(format!(
            "The base backup is consistent at LSN {}{complete}; recovery can end no earlier.",
            branch.stop
        ))
        .with_nearest([end_of(&branch.candidate, Some(branch.stop))]);
        match better {
            Some(better) => refusal.with_advice(format!(
                "Base backup \"{better}\" ended before it: use that one, or AUTO to have one chosen."
            )),
            None => refusal,
        }
    }

    /// The target is past what can be replayed.
    pub(super) async fn past_the_end(&mut self, branch: &mut Branch) -> Result<Refusal> {
        let target = self.request.target.as_ref().map(ToString::to_string).unwrap_or_default();
        let continuation = self.continuation(branch).await?;
        let reason = match (branch.chain.end, &continuation) {
            (ChainEnd::Archive { .. }, None) if branch.absence == Absence::NotThere => {
                format!("target {target} is past the end of the archive")
            }
            _ => format!("target {target} cannot be reached: {}", missing_segment(branch)),
        };
        self.stopped_short(branch, reason, continuation).await
    }

    /// Replay would end where the chain does, too early. `continuation` shows that the log
    /// does not end there, where the archive has no more of this branch.
    pub(super) async fn stopped_short(
        &mut self,
        branch: &mut Branch,
        reason: String,
        continuation: Option<Continuation>,
    ) -> Result<Refusal> {
        let name = &branch.candidate.info.name;
        let mut detail = match branch.chain.end {
            _ if matches!(branch.absence, Absence::OtherLog(_)) => {
                format!("Recovery from base backup \"{name}\" would end before it.")
            }
            ChainEnd::Hole { first, next } => {
                let count = next.number.0.saturating_sub(first.number.0).max(1);
                let missing = match count {
                    1 => "One WAL segment is missing".to_owned(),
                    _ => format!("{count} WAL segments are missing"),
                };
                format!(
                    "{missing} before \"{}\". Recovery from base backup \"{name}\" would end there.",
                    branch.name_of(next)
                )
            }
            ChainEnd::Archive { next } => format!(
                "Recovery from base backup \"{name}\" along timeline {} would end before WAL segment \"{}\"{}.",
                branch.history.timeline(),
                branch.name_of(next),
                match branch.absence {
                    Absence::NotThere => ", which is not in the archive",
                    _ => "",
                }
            ),
        };
        if let Some(why) = &continuation {
            detail = format!("{why} {detail}");
        }
        let last = match self.request.read_end {
            true => last_transaction(branch, branch.stop, Some(SEGMENTS_READ_TO_TELL)).await?,
            false => Last::default(),
        };
        let time = last.summary.last.and_then(|point| point.time);
        if let Some(time) = time {
            detail.push_str(&format!(
                " The last transaction before that ended at {}.",
                format_time(time)
            ));
        }
        if let Some(damage) = last.damage {
            let why = damage.reason;
            detail.push_str(&format!(" Nor can all of the WAL before that be replayed: {why}."));
        }
        let mut advice = Vec::new();
        if let Some(timeline) = branch.partial_at_end() {
            let segment = branch.name_of(WalSegment { timeline, ..branch.chain.end.missing() });
            detail.push_str(&format!(
                " The archive has \"{segment}.partial\", which PostgreSQL does not read."
            ));
            advice.push(format!(
                "To replay what is in \"{segment}.partial\", copy it to \"pg_wal\" of the restored data directory as \"{segment}\"."
            ));
        }
        advice.push(match (branch.chain.end, &self.request.target) {
            _ if branch.absence == Absence::Empty => {
                "Replace the object with a sound copy of the segment: a server may still have it in \"pg_wal\"."
                    .to_owned()
            }
            _ if branch.absence == Absence::Cold => {
                "Restore it, and what follows it, from cold storage first.".to_owned()
            }
            _ if matches!(branch.absence, Absence::OtherCluster(_)) => {
                "Take a base backup of the cluster that archives now.".to_owned()
            }
            _ if matches!(branch.absence, Absence::OtherLog(_)) => AFTER_NEW_LOG.to_owned(),
            (ChainEnd::Archive { .. }, Some(_)) if continuation.is_none() => {
                "If a server still archives, the WAL may be on its way; SELECT pg_switch_wal() sends it. Without a target, recovery goes to the end of the archive.".to_owned()
            }
            (ChainEnd::Hole { .. } | ChainEnd::Archive { .. }, _) => {
                "If a server still archives, the segment may be on its way: try again later."
                    .to_owned()
            }
        });
        if let Some(Continuation::Switch { instead: Some(segment), .. }) = &continuation {
            let newer = segment.timeline();
            advice.push(format!(
                "Recovery along timeline {newer}, with {}, has it.",
                Word::TargetTimeline.of(newer)
            ));
        }
        let nearest = match (&self.request.target, time, last.start) {
            (Some(RecoveryTarget::Time(_) | RecoveryTarget::BeforeTime(_)), Some(time), lsn) => {
                Some(Nearest {
                    lsn,
                    time: Some(time),
                    description: format!("any time before {}", format_time(time)),
                })
            }
            (_, time, Some(lsn)) => Some(Nearest {
                lsn: Some(lsn),
                time,
                description: format!("LSN {lsn}, the last record that can be replayed"),
            }),
            _ => None,
        };
        let after = self.next_after_hole(branch).await?;
        Ok(Refusal::new(Cause::Target, reason)
            .with_detail(detail)
            .with_nearest(nearest.into_iter().chain(after))
            .with_advice(advice.join(" ")))
    }

    /// The first base backup after a hole.
    pub(super) async fn next_after_hole(&mut self, branch: &Branch) -> Result<Option<Nearest>> {
        match branch.chain.end {
            ChainEnd::Archive { .. } => Ok(None),
            ChainEnd::Hole { next, .. } => {
                let lsn = next.number.start_lsn(branch.candidate.segment_size);
                self.next_backup(branch, lsn).await
            }
        }
    }
}

/// The targets before a segment that cannot be read, if the base backup ends there.
pub(super) fn before_segment(branch: &Branch, index: u64) -> Option<Nearest> {
    let start = branch.chain.segment(index)?.number.start_lsn(branch.candidate.segment_size);
    let description = format!("any LSN before {start}");
    (start > branch.stop).then_some(Nearest { lsn: None, time: None, description })
}

/// WAL that ends within a segment although there is more of it in the next one.
pub(super) fn broken(branch: &Branch, index: u64, summary: &Summary) -> Option<Refusal> {
    let more = index + 1 < branch.chain.len();
    let damage = summary.ended.as_ref().filter(|end| more || end.begins_anew)?;
    Some(breaks_off(branch, branch.chain.segment(index)?, damage))
}

pub(super) fn breaks_off(branch: &Branch, segment: WalSegment, damage: &WalEnd) -> Refusal {
    Refusal::where_wal_breaks_off(&branch.name_of(segment), damage).with_nearest([Nearest {
        lsn: None,
        time: None,
        description: format!("any LSN before {}", damage.lsn),
    }])
}

/// `WAL segment "..." is not in the archive`, or what else is wrong with it.
pub(crate) fn missing_segment(branch: &Branch) -> String {
    let missing = branch.chain.end.missing();
    segment_that_is_missing(missing, branch.absence, branch.candidate.segment_size)
}
