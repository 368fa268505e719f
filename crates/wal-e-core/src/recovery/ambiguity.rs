//! What is said of an archive in which more than one timeline could be meant: a refusal
//! with all of them, or a note of what was left.

use time::OffsetDateTime;

use super::backups::{Candidate, finished};
use super::clusters::newer_cluster;
use super::lives::Life;
use super::plan::Planner;
use super::refusal::{Cause, Refusal};
use super::sides::Side;
use super::target::{TargetTimeline, format_time};
use crate::columns;
use crate::config::Word;
use crate::error::Result;
use crate::postgres::{Lsn, TimelineHistory, TimelineId, WalFileName};

/// One timeline of an archive that has several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineFacts {
    /// Its number.
    pub timeline: TimelineId,
    /// The one that it left; `None` for the first, and when its history file is missing.
    pub parent: Option<TimelineId>,
    /// Where it left that one.
    pub forked_at: Option<Lsn>,
    /// When, by the clock of its server.
    pub forked_time: Option<OffsetDateTime>,
    /// Whether the archive lacks its history file, without which no server follows it.
    pub lacks_history: bool,
    /// Its last WAL segment.
    pub last_segment: Option<String>,
    /// When its last transaction ended.
    pub last_transaction: Option<OffsetDateTime>,
    /// The newest base backup that was taken on it, and when that was complete.
    pub newest_backup: Option<(String, OffsetDateTime)>,
}

impl Planner<'_> {
    /// Whether the timeline was left open.
    pub(super) fn no_timeline_was_given(&self) -> bool {
        self.request.timeline.is_none()
    }

    /// Refuses to choose `way` where another timeline could be meant from `reached` on;
    /// `None` is the end of the archive. `why_not` speaks against `way` already.
    pub(super) async fn unclear(
        &mut self,
        candidate: &Candidate,
        way: &TimelineHistory,
        reached: Option<Lsn>,
        why_not: Option<&Refusal>,
    ) -> Result<Option<Refusal>> {
        if !self.no_timeline_was_given() {
            return Ok(None);
        }
        let size = candidate.segment_size;
        let mut meant = Vec::new();
        for side in self.sides(size, way).await? {
            if reached.is_some_and(|reached| reached < side.parts_at) {
                continue;
            }
            let life = self.life(size, side.timeline, side.own_from).await?;
            if !self.is_alive(size, way, &side, &life).await? {
                continue;
            }
            if let Some(last) = life.last_segment
                && let Some(other) = self.other_cluster(candidate, last).await?
            {
                // Of a cluster with older WAL nothing is missed.
                if reached.is_none() && !self.has_newer_sign(candidate, way, &life).await? {
                    return Ok(Some(newer_cluster(candidate, &last.file_name(size), other)));
                }
            } else if self.has_backup(candidate, &side) {
                meant.push(side.timeline);
            }
        }
        match meant.as_slice() {
            [] => Ok(None),
            meant => Ok(Some(self.refuse_to_choose(candidate, way, meant, why_not).await?)),
        }
    }

    /// Whether `way` has something younger than all that is known of another timeline.
    async fn has_newer_sign(
        &mut self,
        candidate: &Candidate,
        way: &TimelineHistory,
        other: &Life,
    ) -> Result<bool> {
        let from = way.begin().unwrap_or_default().max(candidate.start);
        let own = self.life(candidate.segment_size, way.timeline(), from).await?;
        let newest = own.last_sign().max(Some(candidate.finished));
        Ok(newest > other.last_sign())
    }

    /// The refusal that shows the branches.
    pub(super) async fn refuse_to_choose(
        &mut self,
        candidate: &Candidate,
        way: &TimelineHistory,
        meant: &[TimelineId],
        why_not: Option<&Refusal>,
    ) -> Result<Refusal> {
        let facts = self.all_timelines(candidate, way).await?;
        let newest = way.timeline();
        let mut choices: Vec<TimelineId> = meant.iter().copied().chain([newest]).collect();
        choices.sort_unstable();
        let mut detail = match why_not {
            Some(refusal) => format!(
                "Along timeline {newest}, {}. ",
                refusal.explanation().trim_end_matches('.')
            ),
            None => String::new(),
        };
        detail.push_str(&format!(
            "If no timeline is set, a server follows timeline {newest}, without what only {}.",
            match meant {
                [one] => format!("timeline {one} has"),
                several => format!("timelines {} have", enumerate(several)),
            }
        ));
        if let Some(gap) = self.gap_in_counting(way, meant).await? {
            detail.push_str(&format!(" {gap}"));
        }
        for missing in facts.iter().filter(|facts| facts.lacks_history) {
            let file = WalFileName::history(missing.timeline);
            detail.push_str(&format!(
                " No server follows timeline {} without its history file \"{file}\"; a server of that timeline has it in \"pg_wal\".",
                missing.timeline
            ));
        }
        let begun_without_history = newest.0 > 1 && self.history(newest).await?.is_none();
        let options: Vec<String> = choices
            .iter()
            .filter(|choice| facts.iter().any(|f| f.timeline == **choice && !f.lacks_history))
            .map(|choice| match begun_without_history && *choice == newest {
                true => Word::TargetTimeline.of("current").to_string(),
                false => Word::TargetTimeline.of(choice).to_string(),
            })
            .collect();
        let refusal = Refusal::new(
            Cause::Target,
            format!("more than one timeline could be meant: {}", enumerate(&choices)),
        )
        .with_detail(detail)
        .with_advice(format!("Name the one that is meant, with {}.", options.join(" or ")));
        Ok(with_table(refusal, facts))
    }

    /// A refusal with all timelines of the archive.
    pub(super) async fn with_timelines(
        &mut self,
        candidate: &Candidate,
        way: &TimelineHistory,
        refusal: Refusal,
    ) -> Result<Refusal> {
        Ok(with_table(refusal, self.all_timelines(candidate, way).await?))
    }

    /// Why a server that counts timelines up does not find one of `wanted`.
    async fn gap_in_counting(
        &mut self,
        way: &TimelineHistory,
        wanted: &[TimelineId],
    ) -> Result<Option<String>> {
        let newest = way.timeline();
        let beyond: Vec<TimelineId> =
            wanted.iter().copied().filter(|timeline| *timeline > newest).collect();
        let Some(last) = beyond.last() else { return Ok(None) };
        let mut missing = Vec::new();
        for number in newest.0 + 1..=last.0.min(newest.0.saturating_add(64)) {
            if matches!(self.line_of(TimelineId(number), way).await, Ok(None)) {
                missing.push(format!("\"{}\"", WalFileName::history(TimelineId(number))));
            }
        }
        Ok((!missing.is_empty()).then(|| {
            format!(
                "It counts them up from the base backup's, and stops where a history file is missing: {}.",
                missing.join(", ")
            )
        }))
    }

    /// What recovery along `way` leaves on other timelines, as notes.
    pub(super) async fn left_notes(
        &mut self,
        candidate: &Candidate,
        way: &TimelineHistory,
        reached: Option<Lsn>,
    ) -> Result<Vec<String>> {
        let size = candidate.segment_size;
        let mut notes = Vec::new();
        if self.request.timeline == Some(TargetTimeline::Latest) {
            let beyond: Vec<TimelineId> =
                self.listing(size).timelines().filter(|t| *t > way.timeline()).collect();
            if let Some(gap) = self.gap_in_counting(way, &beyond).await? {
                notes.push(format!(
                    "\"latest\" is timeline {} for a server. {gap} The archive has files of timelines up to {}: {} reaches them.",
                    way.timeline(),
                    beyond.last().copied().unwrap_or(way.timeline()),
                    Word::TargetTimeline
                ));
            }
        }
        if !self.no_timeline_was_given() {
            return Ok(notes);
        }
        for side in self.sides(size, way).await? {
            if reached.is_some_and(|reached| reached < side.parts_at) {
                continue;
            }
            let life = self.life(size, side.timeline, side.own_from).await?;
            notes.extend(self.left_note(candidate, way, &side, &life).await?);
        }
        Ok(notes)
    }

    async fn left_note(
        &mut self,
        candidate: &Candidate,
        way: &TimelineHistory,
        side: &Side,
        life: &Life,
    ) -> Result<Option<String>> {
        let timeline = side.timeline;
        if let Some(last) = life.last_segment
            && self.other_cluster(candidate, last).await?.is_some()
        {
            return Ok(None);
        }
        if let Some(why) = &life.unknown {
            return Ok(Some(format!(
                "What timeline {timeline} has that is not on this way could not be found out: {why}."
            )));
        }
        let Some(last_record) = life.last_record.filter(|_| life.segments > 0) else {
            // A server that is not told its timeline would look for its way there.
            let is_empty = timeline > way.timeline() && life.last_segment.is_none();
            let line = side.line.as_ref().filter(|_| is_empty);
            return Ok(line
                .filter(|line| self.backups_on(candidate, line).next().is_none())
                .map(|_| format!("Timeline {timeline} is passed over: the archive has its history file, and neither WAL of it nor a base backup that leads to it.")));
        };
        let size = candidate.segment_size;
        let segments = match life.segments {
            1 => "1 WAL segment".to_owned(),
            count => format!("{count} WAL segments"),
        };
        let last = match life.last_transaction.and_then(|point| point.time) {
            Some(time) => format!("its last transaction ended at {}", format_time(time)),
            None => "without any transaction".to_owned(),
        };
        let alive = match self.is_alive(size, way, side, life).await? {
            true => {
                " It went on beside the newer timeline, but there is no base backup from which it can be reached."
            }
            false => "",
        };
        Ok(Some(format!(
            "Not replayed: what timeline {timeline} has past LSN {}, {} bytes up to LSN {last_record} in {segments}, {last}.{alive}",
            side.own_from,
            last_record.0.saturating_sub(side.own_from.0)
        )))
    }

    /// The facts of all timelines, in their order.
    async fn all_timelines(
        &mut self,
        candidate: &Candidate,
        way: &TimelineHistory,
    ) -> Result<Vec<TimelineFacts>> {
        let size = candidate.segment_size;
        let mut lines: Vec<(TimelineId, Option<TimelineHistory>, Lsn)> = Vec::new();
        for side in self.sides(size, way).await? {
            lines.push((side.timeline, side.line, side.own_from));
        }
        lines.push((way.timeline(), Some(way.clone()), way.begin().unwrap_or_default()));
        lines.sort_by_key(|(timeline, ..)| *timeline);
        let mut all = Vec::new();
        for (timeline, line, own_from) in lines {
            let forked_time = match &line {
                Some(line) => self.began(size, line).await?,
                None => None,
            };
            // The first timeline may be long, and only its end is asked for.
            let is_first = timeline == way.timeline() && way.begin().is_none();
            let from = if is_first { candidate.start } else { own_from };
            let life = self.life(size, timeline, from).await?;
            let backups = self.backups.iter().filter(|backup| backup.timeline == timeline);
            all.push(TimelineFacts {
                timeline,
                parent: line.as_ref().and_then(TimelineHistory::parent),
                forked_at: line.as_ref().and_then(TimelineHistory::begin),
                forked_time,
                lacks_history: line.is_none(),
                last_segment: life.last_segment.map(|segment| segment.file_name(size)),
                last_transaction: life.last_transaction.and_then(|point| point.time),
                newest_backup: backups
                    .max_by_key(|backup| finished(backup))
                    .map(|backup| (backup.name.clone(), finished(backup))),
            });
        }
        Ok(all)
    }
}

fn enumerate(timelines: &[TimelineId]) -> String {
    match timelines {
        [first @ .., last] if !first.is_empty() => {
            let first: Vec<String> = first.iter().map(ToString::to_string).collect();
            format!("{} and {last}", first.join(", "))
        }
        all => all.iter().map(ToString::to_string).collect(),
    }
}

/// The facts go below the detail, as a table.
fn with_table(mut refusal: Refusal, facts: Vec<TimelineFacts>) -> Refusal {
    let detail = refusal.detail.take().unwrap_or_default();
    refusal.detail = Some(format!("{detail}\n{}", table(&facts).trim_end()));
    refusal.timelines = facts;
    refusal
}

/// The timelines as a table.
fn table(facts: &[TimelineFacts]) -> String {
    let header = [
        "timeline",
        "parent",
        "forked at LSN",
        "forked at time",
        "last segment",
        "last transaction",
        "newest base backup",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for facts in facts {
        let parent = match facts.lacks_history {
            true => "unknown".to_owned(),
            false => or_dash(facts.parent.map(|parent| parent.to_string())),
        };
        let backup = facts.newest_backup.as_ref();
        rows.push(vec![
            facts.timeline.to_string(),
            parent,
            or_dash(facts.forked_at.map(|lsn| lsn.to_string())),
            or_dash(facts.forked_time.map(to_the_second)),
            or_dash(facts.last_segment.clone()),
            or_dash(facts.last_transaction.map(to_the_second)),
            or_dash(backup.map(|(name, time)| format!("{name} ({})", to_the_second(*time)))),
        ]);
    }
    columns::align(&rows)
}

fn to_the_second(time: OffsetDateTime) -> String {
    format_time(time.replace_nanosecond(0).unwrap_or(time))
}
