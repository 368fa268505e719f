//! Which timelines a server can follow from a base backup.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::postgres::{Lsn, TimelineHistory, TimelineId};

/// The timelines of an archive.
#[derive(Debug, Clone, Default)]
pub struct Branches {
    timelines: BTreeMap<TimelineId, Branch>,
}

#[derive(Debug, Clone)]
struct Branch {
    /// `None` where the archive does not have the file, or has a damaged one.
    history: Option<TimelineHistory>,
    /// Where its last segment ends, and when the newest file of its own was stored.
    newest: Option<(Lsn, OffsetDateTime)>,
}

impl Branches {
    /// Adds a timeline: its history; where its last segment ends, and when the newest WAL of
    /// its own was stored. Timeline 1 needs no history.
    pub fn add(
        &mut self,
        timeline: TimelineId,
        history: Option<TimelineHistory>,
        newest: Option<(Lsn, OffsetDateTime)>,
    ) {
        let first = || (timeline.0 == 1).then(|| TimelineHistory::without_ancestors(timeline));
        let history = history.or_else(first);
        self.timelines.insert(timeline, Branch { history, newest });
    }

    /// The timelines that are not merely the past of one that was written to later, each with
    /// when the newest of its WAL was stored.
    pub(crate) fn active(&self) -> impl Iterator<Item = (TimelineId, OffsetDateTime)> {
        self.timelines.iter().filter_map(|(timeline, branch)| {
            let (end, stored_at) = branch.newest?;
            // One that was left within its last segment may have gone on to the end of that.
            let is_past = |(other, branch): (&TimelineId, &Branch)| {
                branch.newest.is_some_and(|(_, newest)| newest >= stored_at)
                    && self.left(*timeline, *other).is_some_and(|left| left >= end)
            };
            let is_past = self.timelines.iter().any(is_past);
            (!is_past).then_some((*timeline, stored_at))
        })
    }

    /// Whether a server that is consistent at `lsn` on timeline `from` can follow `to`.
    pub(crate) fn leads(&self, from: TimelineId, lsn: Lsn, to: TimelineId) -> bool {
        from == to || self.left(from, to).is_some_and(|left| left >= lsn)
    }

    /// Whether it may need WAL of `to`: as before, or nobody knows.
    pub(crate) fn may_lead(&self, from: TimelineId, lsn: Lsn, to: TimelineId) -> bool {
        let unknown =
            || to > from && self.timelines.get(&to).is_none_or(|branch| branch.history.is_none());
        self.leads(from, lsn, to) || unknown()
    }

    /// Where timeline `to`, or an ancestor of it, left timeline `from`.
    pub(crate) fn left(&self, from: TimelineId, to: TimelineId) -> Option<Lsn> {
        let range = self.timelines.get(&to)?.history.as_ref()?.range_of(from)?;
        range.end.filter(|_| !range.is_empty())
    }
}
