//! What keeps a base backup: each rule for itself. Rules add up.

use time::OffsetDateTime;

use super::super::policy::{Garbage, Policy};
use super::{Decision, Extent, Selection, chain};
use crate::postgres::TimelineId;

impl Selection<'_> {
    pub(super) fn retain(&mut self, policy: &Policy, now: OffsetDateTime) {
        if policy.is_empty() {
            for index in 0..self.backups.len() {
                if self.backups[index].is_complete {
                    self.keep(index, Extent::Onwards, || "no retention is set".to_owned());
                }
            }
        }
        if policy.full_backups > 0 {
            self.full_backups(policy.full_backups);
        }
        if let Some(window) = policy.window {
            // A window that reaches back to before all time has everything in it.
            self.window(now.checked_sub(window).unwrap_or(now.replace_year(1).unwrap_or(now)));
        }
        self.calendar(policy);
    }

    fn full_backups(&mut self, wanted: u32) {
        let wanted = wanted as usize;
        let is_full = |index: &usize| self.backups[*index].parent.is_none();
        let oldest = self.usable().filter(is_full).rev().nth(wanted - 1);
        self.keep_since(oldest, oldest.map(|index| self.backups[index].stored_at), |first| {
            match wanted {
                1 => format!("the newest full backup is kept, from \"{first}\" on"),
                _ => format!("the {wanted} newest full backups are kept, from \"{first}\" on"),
            }
        });
    }

    fn window(&mut self, edge: OffsetDateTime) {
        let is_older = |index: &usize| self.backups[*index].stored_at <= edge;
        let base = self.usable().rfind(is_older);
        self.keep_since(base, Some(edge), |first| {
            format!("the recovery window begins after \"{first}\" was complete")
        });
    }

    /// Keeps everything from the backup `base` on, and what every moment since `edge` needs on
    /// the other timelines that have been written to since then. Without a base, everything.
    fn keep_since(
        &mut self,
        base: Option<usize>,
        edge: Option<OffsetDateTime>,
        reason: impl Fn(&str) -> String,
    ) {
        let (Some(base), Some(edge)) = (base, edge) else {
            if !self.backups.is_empty() {
                self.keep_from(0, reason);
            }
            return;
        };
        let mut first = base;
        for (timeline, newest) in self.branches.active() {
            // What was stored at the edge itself is kept.
            if newest < edge {
                continue;
            }
            let leading = self.usable().filter(|index| self.leads(*index, timeline));
            let older = |index: &usize| self.backups[*index].stored_at <= edge;
            // A timeline that no backup leads to is none that anything could keep.
            let own = leading.clone().rfind(older).or(leading.clone().next());
            first = first.min(own.unwrap_or(first));
        }
        self.keep_from(first, reason);
    }

    /// Those that can be restored, oldest first.
    fn usable(&self) -> impl DoubleEndedIterator<Item = usize> + Clone {
        (0..self.backups.len()).filter(|index| self.restorable[*index])
    }

    fn leads(&self, index: usize, timeline: TimelineId) -> bool {
        let backup = &self.backups[index];
        self.branches.leads(backup.timeline, backup.consistent(), timeline)
    }

    fn calendar(&mut self, policy: &Policy) {
        let usable: Vec<usize> = self.usable().collect();
        let moments: Vec<OffsetDateTime> =
            usable.iter().map(|index| self.moments[*index]).collect();
        for (index, kept) in usable.iter().zip(policy.calendar.keeps(&moments)) {
            if let Some(word) = kept {
                self.keep(*index, Extent::Itself, || format!("it is a {word} backup"));
            }
        }
    }

    /// All that are complete.
    fn complete(&mut self) {
        for index in 0..self.backups.len() {
            if self.backups[index].is_complete {
                self.keep(index, Extent::Onwards, || "it is complete".to_owned());
            }
        }
    }

    pub(super) fn garbage(&mut self, what: Garbage) {
        self.complete();
        if what == Garbage::Archives {
            for index in 0..self.backups.len() {
                self.keep(index, Extent::Itself, || "only WAL is to be deleted".to_owned());
            }
        }
    }

    /// All from the backup `name` on.
    pub(super) fn from(&mut self, name: &str) {
        match self.backups.iter().position(|backup| backup.name == name) {
            Some(first) => {
                self.keep_from(first, |first| format!("it is not older than \"{first}\""))
            }
            // It was asked for before that there is one.
            None => self.complete(),
        }
    }

    /// All but the backup `name` and what builds on it.
    pub(super) fn all_but(&mut self, name: &str) {
        for (index, backup) in self.backups.iter().enumerate() {
            let chain: Vec<&str> = chain(self.backups, backup).map(|it| it.name.as_str()).collect();
            match chain.contains(&name) {
                true if backup.name == name => {
                    self.decisions[index].reason = "it is the one to delete".to_owned();
                }
                true => self.decisions[index].reason = format!("it is a delta of \"{name}\""),
                false => {
                    self.keep(index, Extent::Onwards, || "it is not the one to delete".to_owned())
                }
            }
        }
    }

    /// The newest backup that can be restored is never deleted, nor the newest one that leads
    /// to a timeline that is written to after that.
    pub(super) fn newest(&mut self) {
        let Some(newest) = self.usable().next_back() else {
            // What cannot be restored as it is may be all that there is.
            for index in 0..self.backups.len() {
                if self.backups[index].is_complete {
                    self.keep(index, Extent::Onwards, || {
                        "no backup is known to be restorable, so none is deleted".to_owned()
                    });
                }
            }
            return;
        };
        let since = self.backups[newest].stored_at;
        let live = self.branches.active().filter(|(_, newest)| *newest > since);
        let leading: Vec<usize> = live
            .filter_map(|(timeline, _)| self.usable().rfind(|index| self.leads(*index, timeline)))
            .collect();
        self.keep(newest, Extent::Onwards, || {
            "it is the newest backup that can be restored".to_owned()
        });
        for index in leading {
            self.keep(index, Extent::Onwards, || {
                "it is the newest backup of a timeline that is still written to".to_owned()
            });
        }
    }

    /// One that does not count as restorable is not deleted while older ones are kept: it may
    /// be repaired.
    pub(super) fn not_usable(&mut self) {
        let kept = |decision: &Decision| decision.keeps == Some(Extent::Onwards);
        let Some(oldest) = self.decisions.iter().position(kept) else { return };
        for index in oldest..self.backups.len() {
            let deleted = self.decisions[index].reason.contains("to delete");
            if self.restorable[index] || deleted || !self.backups[index].is_complete {
                continue;
            }
            let why = self.backups[index].unusable.clone();
            let why = why.unwrap_or_else(|| "a backup that it builds on is not there".to_owned());
            let decision = &mut self.decisions[index];
            match decision.keeps {
                Some(_) => decision.reason.push_str(&format!("; it does not count: {why}")),
                None => self.keep(index, Extent::Itself, || {
                    format!("older backups are kept; it does not count: {why}")
                }),
            }
        }
    }

    pub(super) fn pinned(&mut self) {
        for (index, backup) in self.backups.iter().enumerate() {
            if let Some(why) = &backup.pinned {
                self.keep(index, Extent::Itself, || why.clone());
            }
        }
    }

    /// What a kept delta builds on.
    pub(super) fn parents(&mut self) {
        for index in 0..self.backups.len() {
            if self.decisions[index].keeps.is_none() {
                continue;
            }
            let child = &self.backups[index].name;
            for needed in self.needed_by(index) {
                self.keep(needed, Extent::Itself, || format!("delta \"{child}\" needs it"));
            }
        }
    }

    /// All that a delta builds on, or may build on, by their places.
    fn needed_by(&self, child: usize) -> Vec<usize> {
        let mut links = vec![child];
        let mut next = 0;
        while let Some(link) = links.get(next).map(|link| self.backups[*link]) {
            let parents = (0..self.backups.len()).filter(|at| link.needs(self.backups[*at]));
            let new: Vec<usize> = parents.filter(|at| !links.contains(at)).collect();
            links.extend(new);
            next += 1;
        }
        links.remove(0);
        links
    }
}
