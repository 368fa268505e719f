//! Whether replay along a branch reaches a target, and with which segment.

use time::OffsetDateTime;

use super::branch::{Chain, ChainEnd, Run};
use super::plan::{Branch, Planner, end_of, partial_of};
use super::refusal::{Cause, Nearest, Refusal, is_damage};
use super::target::{RecoveryTarget, TargetTime, TargetTimeline, format_time};
use super::wal_inventory::TimelineWal;
use super::wal_source::{Found, Goal, Point, Summary};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{Lsn, SegmentNumber, TimelineId, TimelineRange, WalEnd, WalSegment};

/// How many segments without any transaction are read to say when the last one was.
const SEGMENTS_READ_TO_TELL: u64 = 16;

/// How far a timeline that was left is followed for a transaction.
const SEGMENTS_OF_LEFT_TIMELINE: u64 = 64;

/// What replay reaches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Reach {
    /// The index of the last segment in the chain that is needed.
    pub(super) last_index: u64,
    pub(super) lsn: Option<Lsn>,
    pub(super) time: Option<OffsetDateTime>,
    /// Whole sentences.
    pub(super) notes: Vec<String>,
}

/// Which WAL was searched for a name or a transaction in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Searched {
    /// Along this timeline.
    timeline: TimelineId,
    from: Lsn,
    to: Lsn,
    /// Why nothing is known of what lies behind some point in it.
    damage: Option<Refusal>,
}

impl Planner<'_> {
    /// Whether replay along `branch` reaches the target of the request.
    pub(super) async fn reach(&mut self, branch: &mut Branch) -> Result<Result<Reach, Refusal>> {
        match self.request.target.clone() {
            None => self.reach_end(branch).await,
            Some(RecoveryTarget::Time(time)) => self.reach_time(branch, time).await,
            Some(RecoveryTarget::Lsn(lsn)) => self.reach_lsn(branch, lsn).await,
            Some(RecoveryTarget::Name(name)) => self.search(branch, Goal::RestorePoint(name)).await,
            Some(RecoveryTarget::Xid(xid)) => self.search(branch, Goal::Transaction(xid)).await,
        }
    }

    async fn reach_end(&mut self, branch: &mut Branch) -> Result<Result<Reach, Refusal>> {
        if let Some(stray) = stray(branch) {
            return Ok(Err(stray));
        }
        let mut notes = Vec::new();
        if let ChainEnd::Hole { .. } = branch.chain.end {
            if !self.request.standby {
                let reason = format!(
                    "recovery to the end of the archive would end early: {}",
                    missing_segment(branch)
                );
                return Ok(Err(self.stopped_short(branch, reason).await?));
            }
            notes.push(format!(
                "{}; the standby waits there until it is.",
                super::plan::capitalized(&missing_segment(branch))
            ));
        }
        let last_index = branch.chain.len().saturating_sub(1);
        let mut reach = Reach { last_index, notes, ..Reach::default() };
        if !self.request.read_end {
            return Ok(Ok(reach));
        }
        let last = last_transaction(branch, branch.stop, Some(SEGMENTS_READ_TO_TELL)).await?;
        reach.lsn = last.start;
        reach.time = last.summary.last.and_then(|point| point.time);
        // What the server will say to it is worth knowing.
        let damage = last.damage.map(|damage| damage.reason);
        reach
            .notes
            .extend(damage.map(|why| format!("The end of the WAL could not be read: {why}.")));
        Ok(Ok(reach))
    }

    async fn reach_lsn(&mut self, branch: &mut Branch, lsn: Lsn) -> Result<Result<Reach, Refusal>> {
        if lsn < branch.stop {
            let better = self.backup_below(lsn).map(|backup| backup.name.clone());
            return Ok(Err(self.too_early(branch, better)));
        }
        let size = branch.candidate.segment_size;
        // PostgreSQL stops after the first record that begins at the target or behind it.
        let mut index = branch.chain.index_of(lsn, size);
        while let Some(at) = index.filter(|at| *at < branch.chain.len()) {
            let summary = branch.wal.summary(&branch.chain, at).await?;
            if summary.last_start.is_some_and(|start| start >= lsn) {
                let reach = Reach { last_index: at, lsn: Some(lsn), ..Reach::default() };
                return Ok(Ok(reach));
            }
            if let Some(refusal) = broken(branch, at, &summary) {
                return Ok(Err(refusal));
            }
            index = at.checked_add(1);
        }
        Ok(Err(self.behind_the_end(branch).await?))
    }

    async fn reach_time(
        &mut self,
        branch: &mut Branch,
        target: TargetTime,
    ) -> Result<Result<Reach, Refusal>> {
        let time = target.time();
        // Without a time in the sentinel, only the WAL tells whether a base backup whose
        // sentinel was stored, or copied, after the target ended before it.
        let is_dated = branch.candidate.info.finish_time.is_some();
        let is_later = branch.candidate.finished > time;
        if is_dated && is_later {
            let better = self.backup_before(time).map(|backup| backup.name.clone());
            return Ok(Err(self.too_early(branch, better)));
        }
        // PostgreSQL stops before the first transaction that ended after the target,
        // so there must be one.
        let from = if is_later { branch.candidate.start } else { branch.stop };
        let Last { index, summary, mut damage, .. } = last_transaction(branch, from, None).await?;
        let mut low = index_of_byte_before(branch, from);
        // Whether a segment from `low` up to `high`, which is not among them, has a later
        // transaction is open; the first known one is in `found`.
        let mut high = if summary.first_after.is_some() { index } else { low };
        let mut found = Some((index, summary));
        while low < high {
            let middle = low + (high - low) / 2;
            let mut at = middle;
            let (summary, in_the_way) = loop {
                let (summary, in_the_way) = probe(branch, at).await?;
                at += 1;
                if summary.last.is_some() || in_the_way.is_some() || at >= high {
                    break (summary, in_the_way);
                }
            };
            if summary.first_after.is_some() {
                found = Some((at - 1, summary));
                high = middle;
            } else if in_the_way.is_some() {
                // What was found lies behind it; something before it may do as well.
                (found, damage) = (None, in_the_way);
                high = middle;
            } else if summary.last.is_some() {
                low = at;
            } else {
                high = middle;
            }
        }
        let found = found
            .and_then(|(index, summary)| Some((index, summary.first_after?, summary.last_before)));
        let Some((index, first_after, last_before)) = found else {
            return Ok(Err(match damage {
                Some(damage) => damage,
                None => self.behind_the_end(branch).await?,
            }));
        };
        if first_after.start < branch.stop {
            return Ok(Err(self.too_early(branch, None)));
        }
        let notes = match self.lies_on_left_timeline(branch, time, index, first_after).await? {
            Ok(notes) => notes,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(Ok(Reach {
            last_index: index,
            lsn: Some(first_after.start),
            time: last_before.and_then(|point| point.time),
            notes,
        }))
    }

    /// A time between the last transaction before a switch and the first one after
    /// it is ambiguous if the timeline that was left has transactions of that time.
    /// Where that could not be found out, a note says so: replay needs none of it.
    async fn lies_on_left_timeline(
        &mut self,
        branch: &Branch,
        time: OffsetDateTime,
        index: u64,
        first_after: Point,
    ) -> Result<Result<Vec<String>, Refusal>> {
        let mut notes = Vec::new();
        if !matches!(self.request.timeline, None | Some(TargetTimeline::Latest)) {
            return Ok(Ok(notes));
        }
        let size = branch.candidate.segment_size;
        let ranges = branch.history.ranges();
        // A timeline that gave nothing was left at the same LSN as the one before it.
        let mut pairs = Vec::new();
        for (index, range) in ranges.iter().enumerate().filter(|(_, range)| !range.is_empty()) {
            let older = ranges.iter().take(index);
            let left = older.filter(|older| older.end == Some(range.begin));
            pairs.extend(left.map(|left| (*left, *range)));
        }
        for (left, range) in pairs {
            if range.begin < branch.stop || range.begin > first_after.start {
                continue;
            }
            let Some(switch_index) = branch.chain.index_of(range.begin, size) else { continue };
            let (own, any) = (switch_index..=index, Goal::AnyTransaction);
            match branch.wal.find(&branch.chain, own, range.begin, any).await {
                Ok(Found::Here(point)) if point.start >= first_after.start => {}
                Ok(Found::Here(_) | Found::Nowhere) => continue,
                // Replay has to pass there.
                Ok(Found::Broken(segment, end)) => {
                    return Ok(Err(breaks_off(branch, segment, &end)));
                }
                Err(error) if is_damage(&error) => {
                    return Ok(Err(Refusal::of_damage(Cause::Target, &error)));
                }
                Err(error) => return Err(error),
            }
            let timeline = left.timeline;
            match self.has_transaction(branch, timeline, range.begin, time).await {
                Ok(true) => return Ok(Err(ambiguous(timeline, range, first_after))),
                Ok(false) => {}
                Err(error) if is_damage(&error) || error.kind() == ErrorKind::Conflict => {
                    notes.push(format!(
                        "Whether timeline {timeline}, which timeline {} left, has transactions up to the target time could not be found out: {error}.",
                        range.timeline
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(notes))
    }

    /// Whether a timeline that was left at `switch` has a transaction behind it that
    /// ended at `time` or before.
    async fn has_transaction(
        &self,
        branch: &Branch,
        timeline: TimelineId,
        switch: Lsn,
        time: OffsetDateTime,
    ) -> Result<bool> {
        let size = branch.candidate.segment_size;
        let first = SegmentNumber(switch.0 / size.bytes());
        let until = SegmentNumber(first.0 + SEGMENTS_OF_LEFT_TIMELINE - 1);
        let wal = TimelineWal::list(&*self.store, size, timeline, first, Some(until)).await?;
        let Some(last) = wal.contiguous_from(first) else { return Ok(false) };
        let next = WalSegment { timeline, number: SegmentNumber(last.0 + 1) };
        let left = Chain {
            runs: vec![Run { timeline, first, last }],
            tail: None,
            end: ChainEnd::Archive { next },
        };
        let (all, any) = (0..=left.len() - 1, Goal::AnyTransaction);
        match branch.wal.find(&left, all, switch, any).await? {
            Found::Here(point) => Ok(point.time.is_some_and(|at| at <= time)),
            Found::Nowhere => Ok(false),
            Found::Broken(segment, end) => {
                Err(Error::new(ErrorKind::Corrupt, breaks_off(branch, segment, &end).reason))
            }
        }
    }

    /// Looks for a restore point or a transaction.
    async fn search(&mut self, branch: &mut Branch, goal: Goal) -> Result<Result<Reach, Refusal>> {
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
            Goal::BackupEnd(_) | Goal::AnyTransaction => "a record".to_owned(),
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
            Err(error) if is_damage(&error) => Refusal::of_damage(Cause::TooEarly, &error),
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
                    .with_advice(
                        "Recovery to a time or an LSN does not need its name; on another timeline it is found with --recovery-target-timeline.",
                    )));
            }
        };
        // An older base backup reaches what lies before this one.
        let damage = Refusal { cause: Cause::TooEarly, ..damage };
        let known = Some(damage.clone());
        self.searched = Some(Searched { timeline, from: start, to: end, damage: known });
        Ok(Err(damage))
    }

    /// The target lies before the end of the base backup.
    fn too_early(&self, branch: &Branch, better: Option<String>) -> Refusal {
        let name = &branch.candidate.info.name;
        let target = self.request.target.as_ref().map(ToString::to_string).unwrap_or_default();
        let complete =
            branch.candidate.info.finish_time.map_or_else(String::new, |time| {
                format!(" and was complete at {}", format_time(time))
            });
        let refusal = Refusal::new(
            Cause::TooEarly,
            format!("target {target} lies before the end of base backup \"{name}\""),
        )
        .with_detail(format!(
            "The base backup is consistent at LSN {}{complete}; recovery can end no earlier.",
            branch.stop
        ))
        .with_nearest([end_of(&branch.candidate, Some(branch.stop))]);
        match better {
            Some(better) => refusal.with_advice(format!(
                "Base backup \"{better}\" ended before it: name that one, or AUTO to have one chosen."
            )),
            None => refusal,
        }
    }

    /// The target lies behind what can be replayed.
    async fn behind_the_end(&mut self, branch: &mut Branch) -> Result<Refusal> {
        let target = self.request.target.as_ref().map(ToString::to_string).unwrap_or_default();
        let reason = match branch.chain.end {
            ChainEnd::Hole { .. } => {
                format!("target {target} cannot be reached: {}", missing_segment(branch))
            }
            ChainEnd::Archive { .. } => {
                format!("target {target} lies behind the end of the archive")
            }
        };
        self.stopped_short(branch, reason).await
    }

    /// Replay would end where the chain does, too early.
    async fn stopped_short(&mut self, branch: &mut Branch, reason: String) -> Result<Refusal> {
        let name = &branch.candidate.info.name;
        let mut detail = match branch.chain.end {
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
                "Recovery from base backup \"{name}\" along timeline {} would end before WAL segment \"{}\", which is not in the archive.",
                branch.history.timeline(),
                branch.name_of(next)
            ),
        };
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
        if let Some(timeline) = partial_of(branch) {
            let segment = branch.name_of(WalSegment { timeline, ..branch.chain.end.missing() });
            detail.push_str(&format!(
                " The archive has \"{segment}.partial\", which PostgreSQL does not read."
            ));
            advice.push(format!(
                "What is in \"{segment}.partial\" is replayed if it lies as \"{segment}\" in \"pg_wal\" of the restored data directory."
            ));
        }
        advice.push(match branch.chain.end {
            ChainEnd::Hole { .. } => {
                "If a server still archives, the segment may be on its way: try again later."
                    .to_owned()
            }
            ChainEnd::Archive { .. } => {
                "If a server still archives, the WAL may be on its way; SELECT pg_switch_wal() sends it. Without a target, recovery goes to the end of the archive.".to_owned()
            }
        });
        let nearest = match (&self.request.target, time, last.start) {
            (Some(RecoveryTarget::Time(_)), Some(time), lsn) => Some(Nearest {
                lsn,
                time: Some(time),
                description: format!("any time before {}", format_time(time)),
            }),
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

    /// The first base backup behind a hole.
    async fn next_after_hole(&mut self, branch: &Branch) -> Result<Option<Nearest>> {
        match branch.chain.end {
            ChainEnd::Archive { .. } => Ok(None),
            ChainEnd::Hole { next, .. } => {
                let lsn = next.number.start_lsn(branch.candidate.segment_size);
                self.next_backup(branch, lsn).await
            }
        }
    }
}

/// The end of what can be replayed.
#[derive(Default)]
struct Last {
    /// The index of the last segment with a transaction; 0 when there is none.
    index: u64,
    /// What it says.
    summary: Summary,
    /// Where the last record of all begins that damage does not cut off.
    start: Option<Lsn>,
    /// Damage behind that, the lowest of all that was met.
    damage: Option<Refusal>,
}

/// Reads backwards from the end of the chain to the last transaction behind `from`,
/// `at_most` so many segments. What lies behind damage does not count.
async fn last_transaction(branch: &mut Branch, from: Lsn, at_most: Option<u64>) -> Result<Last> {
    let indexes = (index_of_byte_before(branch, from)..branch.chain.len()).rev();
    let at_most = at_most.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    let mut last = Last::default();
    for index in indexes.take(at_most) {
        let (summary, in_the_way) = probe(branch, index).await?;
        if in_the_way.is_some() {
            last = Last { damage: in_the_way, ..Last::default() };
        }
        last.start = last.start.or(summary.last_start);
        if summary.last.is_some() {
            return Ok(Last { index, summary, ..last });
        }
    }
    Ok(last)
}

fn index_of_byte_before(branch: &Branch, lsn: Lsn) -> u64 {
    let byte = Lsn(lsn.0.saturating_sub(1));
    branch.chain.index_of(byte, branch.candidate.segment_size).unwrap_or(0)
}

/// What a segment says, and whether replay could not go beyond it.
async fn probe(branch: &mut Branch, index: u64) -> Result<(Summary, Option<Refusal>)> {
    match branch.wal.summary(&branch.chain, index).await {
        Ok(summary) => {
            let refusal = broken(branch, index, &summary);
            Ok((summary, refusal))
        }
        Err(error) if is_damage(&error) => {
            let refusal = Refusal::of_damage(Cause::Target, &error);
            Ok((Summary::default(), Some(refusal.with_nearest(before_segment(branch, index)))))
        }
        Err(error) => Err(error),
    }
}

/// The targets before a segment that cannot be read, if the base backup ends there.
fn before_segment(branch: &Branch, index: u64) -> Option<Nearest> {
    let start = branch.chain.segment(index)?.number.start_lsn(branch.candidate.segment_size);
    let description = format!("any LSN before {start}");
    (start > branch.stop).then_some(Nearest { lsn: None, time: None, description })
}

/// WAL that ends within a segment although there is more of it in the next one.
fn broken(branch: &Branch, index: u64, summary: &Summary) -> Option<Refusal> {
    let damage = summary.ended.as_ref().filter(|_| index + 1 < branch.chain.len())?;
    Some(breaks_off(branch, branch.chain.segment(index)?, damage))
}

fn breaks_off(branch: &Branch, segment: WalSegment, damage: &WalEnd) -> Refusal {
    let name = branch.name_of(segment);
    Refusal::new(
        Cause::Target,
        format!("the WAL breaks off in segment \"{name}\": {}", damage.reason),
    )
    .with_detail(format!(
        "Recovery would end at LSN {}, as if the log had no more, although the archive has the next segment.",
        damage.lsn
    ))
    .with_nearest([Nearest {
        lsn: None,
        time: None,
        description: format!("any LSN before {}", damage.lsn),
    }])
    .with_advice("Look for a sound copy of the segment, or recover from a later base backup.")
}

/// A target time between the switch to the timeline of `range` and its first transaction.
fn ambiguous(left: TimelineId, range: TimelineRange, first_after: Point) -> Refusal {
    let (timeline, switch) = (range.timeline, range.begin);
    let next = first_after.time.map(format_time).unwrap_or_default();
    Refusal::new(
        Cause::Target,
        format!("the target time lies on timeline {left}, after timeline {timeline} had left it"),
    )
    .with_detail(format!(
        "Timeline {timeline} left timeline {left} at LSN {switch}, and the next transaction on it ended at {next}. Recovery along it would end at that LSN, without what timeline {left} has from then on."
    ))
    .with_advice(format!(
        "Recover along timeline {left} with --recovery-target-timeline {left}, or, if the state at LSN {switch} is meant, along timeline {timeline} with --recovery-target-timeline {timeline}."
    ))
}

/// The first segment of a timeline is missing, and the server would read that of the
/// one that it left, and go on there.
fn stray(branch: &Branch) -> Option<Refusal> {
    let size = branch.candidate.segment_size;
    let missing = branch.chain.end.missing();
    let switch = branch.history.range_of(missing.timeline)?.begin;
    if switch.0 / size.bytes() != missing.number.0 || switch.0 == 0 {
        return None;
    }
    let left = branch
        .inventory
        .iter()
        .filter(|(timeline, wal)| **timeline < missing.timeline && wal.has(missing.number))
        .map(|(timeline, _)| *timeline)
        .next_back()?;
    let (timeline, name) = (missing.timeline, branch.name_of(missing));
    Some(
        Refusal::new(
            Cause::Target,
            format!("recovery would leave timeline {timeline}: WAL segment \"{name}\" is not in the archive"),
        )
        .with_detail(format!(
            "Timeline {timeline} left timeline {left} at LSN {switch}. Without that segment, a server would go on with the one of timeline {left}, which is not part of the history of timeline {timeline}."
        ))
        .with_advice(format!(
            "Recover along timeline {left} with --recovery-target-timeline {left}, or to a target before LSN {switch}."
        )),
    )
}

/// `WAL segment "..." is not in the archive`.
fn missing_segment(branch: &Branch) -> String {
    format!("WAL segment \"{}\" is not in the archive", branch.name_of(branch.chain.end.missing()))
}
