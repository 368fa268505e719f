//! Which timeline a server will follow, and where that came from.

use super::plan::Planner;
use super::refusal::{Cause, Refusal};
use super::target::TargetTimeline;
use crate::catalogue;
use crate::catalogue::BackupInfo;
use crate::catalogue::asked::newer_timelines;
use crate::config::Word;
use crate::error::Result;
use crate::postgres::{TimelineHistory, TimelineId, WalFileName};

impl Planner<'_> {
    /// The history of the timeline that the server will choose for a recovery from
    /// `backup`.
    pub(super) async fn history_for(
        &mut self,
        backup: &BackupInfo,
    ) -> Result<Result<TimelineHistory, Refusal>> {
        let timeline = match self.request.timeline.unwrap_or_default() {
            TargetTimeline::Current => backup.timeline,
            TargetTimeline::Number(timeline) => {
                if timeline.0 > 1 && self.history(timeline).await?.is_none() {
                    let reason = format!("timeline {timeline} does not exist");
                    let file = WalFileName::history(timeline);
                    // As after pg_resetwal, which can begin a timeline that has no history.
                    let advice = match timeline == backup.timeline {
                        true => format!(
                            "Base backup \"{}\" is of this timeline: {} stays on it.",
                            backup.name,
                            Word::TargetTimeline.of("current")
                        ),
                        false => {
                            let newest = self.newest_timeline(backup.timeline).await?;
                            format!("The newest timeline is {newest}.")
                        }
                    };
                    return Ok(Err(Refusal::new(Cause::Target, reason)
                        .with_detail(format!("The archive has no history file \"{file}\"."))
                        .with_advice(advice)));
                }
                timeline
            }
            TargetTimeline::Latest => self.newest_timeline(backup.timeline).await?,
        };
        // What the server does without the file of a timeline, too.
        let history = self.history(timeline).await?;
        Ok(Ok(history.unwrap_or_else(|| TimelineHistory::without_ancestors(timeline))))
    }

    /// The one that a server finds which counts up from the base backup's timeline.
    async fn newest_timeline(&mut self, from: TimelineId) -> Result<TimelineId> {
        let mut newest = from;
        for next in newer_timelines(from) {
            if self.history(next).await?.is_none() {
                break;
            }
            newest = next;
        }
        Ok(newest)
    }

    pub(super) async fn history(
        &mut self,
        timeline: TimelineId,
    ) -> Result<Option<TimelineHistory>> {
        if timeline.0 <= 1 {
            return Ok(None);
        }
        if let Some(known) = self.histories.get(&timeline) {
            return Ok(known.clone());
        }
        let history = catalogue::history(&*self.store, timeline, &self.notices).await?;
        self.histories.insert(timeline, history.clone());
        Ok(history)
    }
}
