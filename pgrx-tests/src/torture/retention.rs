//! Deletions in the middle of a history: what a policy keeps can be restored as before.
//!
//! What that is comes from the archive's WAL, read with PostgreSQL's own tools, before and
//! after.

use std::collections::BTreeSet;
use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use fastrand::Rng;

use super::history::one_of;
use super::model::{Backup, Transaction};
use super::truth::Truth;
use super::waldump::Kind;
use super::world::World;
use crate::wait::wait_until;
use crate::wal_e::{run_wal_e, wal_e};

/// The longest for a backup by schedule and the deletion after it.
const SCHEDULE_PATIENCE: Duration = Duration::from_secs(120);

/// How backups are deleted.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// `wale_retain()`.
    Server,
    /// `wal-e delete retain`.
    Program,
    /// The same, killed after so many milliseconds, and then done again.
    Killed(u64),
    /// After a backup by schedule.
    Schedule,
}

impl Way {
    /// Chooses.
    pub fn random(random: &mut Rng) -> Way {
        match random.u32(0..10) {
            0..3 => Way::Server,
            3..5 => Way::Program,
            5..8 => Way::Killed(random.u64(5..60)),
            _ => Way::Schedule,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Server => f.write_str("wale_retain"),
            Way::Program => f.write_str("wal-e delete retain"),
            Way::Killed(after) => write!(f, "wal-e delete retain, killed after {after} ms"),
            Way::Schedule => f.write_str("a backup by schedule"),
        }
    }
}

/// What can be restored.
struct Restorable {
    /// The backups, in the order in which they were complete.
    backups: Vec<Backup>,
    /// With the timeline that a server follows to it.
    transactions: BTreeSet<(u32, i64, u32)>,
}

impl World {
    /// Makes a base backup permanent, or an ordinary one again.
    pub fn mark_backup(&mut self, index: usize, permanent: bool, random: &mut Rng) {
        let Some(backup) = one_of(random, &self.archive.backups()) else { return };
        self.nodes[index]
            .cluster
            .execute(&format!("SELECT wale_backup_mark('{backup}', permanent => {permanent})"));
        self.permanent.retain(|it| *it != backup);
        if permanent {
            self.permanent.push(backup.clone());
        }
        let name = self.nodes[index].name;
        self.note(format!("{name}: {backup} is permanent: {permanent}"));
    }

    /// Deletes what is not needed for the newest `keep` base backups and all that came after
    /// the oldest of them.
    pub fn retain(&mut self, index: usize, keep: usize, way: Way) {
        for running in self.running() {
            self.wait_for_archiver_of(running);
        }
        let before = self.restorable();
        let name = self.nodes[index].name;
        self.note(format!("{name}: keeps {keep} base backups ({way})"));
        match way {
            Way::Server => {
                self.nodes[index]
                    .cluster
                    .execute(&format!("SELECT wale_retain({keep}, dry_run => false)"));
            }
            Way::Program => self.delete(keep),
            Way::Killed(after) => {
                self.delete_and_kill(keep, after);
                self.check_kept(&before, keep);
                self.delete(keep);
            }
            Way::Schedule => self.back_up_by_schedule(index, keep),
        }
        self.check_kept(&before, keep);
        let objects = self.archive.objects();
        self.delete(keep);
        let left: BTreeSet<String> = self.archive.objects().into_iter().collect();
        let is_of_cluster = |object: &&String| !object.starts_with("wal_e/");
        let gone: Vec<&String> =
            objects.iter().filter(is_of_cluster).filter(|it| !left.contains(*it)).collect();
        if !gone.is_empty() {
            self.breach(format!("{keep} backups are kept, and a second run deletes {gone:?}"));
        }
    }

    fn delete(&mut self, keep: usize) {
        let keep = keep.to_string();
        run_wal_e(&self.archive, ["delete", "--confirm", "retain", keep.as_str()]).success();
    }

    fn delete_and_kill(&mut self, keep: usize, after: u64) {
        let mut command = wal_e(&self.archive);
        command.args(["delete", "--confirm", "retain", &keep.to_string()]);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program can be started");
        std::thread::sleep(Duration::from_millis(after));
        // It may have ended.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// A server that has a schedule takes a backup, and deletes what it does not keep.
    fn back_up_by_schedule(&mut self, index: usize, keep: usize) {
        let known: BTreeSet<String> = self.archive.backups().into_iter().collect();
        let cluster = &self.nodes[index].cluster;
        let ended = "SELECT count(*) FROM wale_job_history() WHERE job = 'backup' AND ok";
        let before = cluster.query_one(ended);
        cluster.configure(&format!("wal_e.retain_full_backups = {keep}"));
        cluster.configure("wal_e.backup_schedule = '*/2 * * * * *'");
        cluster.reload();
        wait_until("a backup by schedule", SCHEDULE_PATIENCE, || {
            (cluster.query_one(ended) != before).then_some(())
        });
        cluster.configure("wal_e.backup_schedule = ''");
        cluster.reload();
        wait_until("the end of what runs by schedule", SCHEDULE_PATIENCE, || {
            let running = "SELECT count(*) FROM pg_stat_activity \
                           WHERE backend_type ~ '^wal_e ' AND backend_type <> 'wal_e scheduler'";
            let undone = "SELECT count(*) FROM wale_job_history() WHERE finished_at IS NULL";
            let is_idle = |sql| cluster.query_one(sql) == "0";
            (is_idle(running) && is_idle(undone)).then_some(())
        });
        let taken = self.archive.backups().into_iter().filter(|name| !known.contains(name));
        for backup in taken.collect::<Vec<String>>() {
            self.note(format!("    ({backup} was taken by schedule)"));
            self.add_backup(index, backup);
        }
    }

    /// What can be restored from the archive as it is.
    fn restorable(&self) -> Restorable {
        let truth = Truth::of(&self.archive, &self.keys);
        let listed = self.archive.backups();
        let own = |backup: &Backup| self.model.branches[backup.branch].timeline;
        let end = |backup: &Backup| Kind::BackupEnd(backup.start);
        let is_sound = |backup: &&Backup| {
            let replay = truth.replay(backup.start, own(backup));
            listed.contains(&backup.name)
                && replay.records.iter().any(|record| record.kind == end(backup))
        };
        let mut backups: Vec<Backup> =
            self.model.backups.iter().filter(is_sound).cloned().collect();
        backups.sort_by_key(|backup| backup.finished);
        let mut transactions = BTreeSet::new();
        for backup in &backups {
            for timeline in truth.timelines() {
                let history = truth.history(timeline);
                let leads = history.iter().any(|range| {
                    range.timeline == own(backup)
                        && range.begin <= backup.start
                        && range.end.is_none_or(|end| backup.start < end)
                });
                if !leads {
                    continue;
                }
                let replay = truth.replay(backup.start, timeline);
                let records = replay.records.iter();
                let after = records.skip_while(|record| record.kind != end(backup));
                let on_way = after.filter(|it| replay.stray.is_none_or(|stray| it.lsn < stray));
                transactions.extend(on_way.filter_map(|record| match record.kind {
                    Kind::Commit(Transaction { xid, time }) => Some((xid, time, timeline)),
                    _ => None,
                }));
            }
        }
        Restorable { backups, transactions }
    }

    /// The newest backups and the permanent ones must be there, and every moment after the
    /// oldest of the newest.
    fn check_kept(&mut self, before: &Restorable, keep: usize) {
        let after = self.restorable();
        // Those that were taken by schedule count, too.
        let was_there = |name: &str| before.backups.iter().any(|backup| backup.name == name);
        let taken = after.backups.iter().filter(|backup| !was_there(&backup.name)).count();
        let newest = before.backups.iter().rev().take(keep.saturating_sub(taken));
        let since = newest.clone().map(|backup| backup.finished).min();
        let permanent =
            before.backups.iter().filter(|backup| self.permanent.contains(&backup.name));
        let is_there = |name: &str| after.backups.iter().any(|backup| backup.name == name);
        let wanted = newest.chain(permanent).map(|backup| backup.name.clone());
        let gone: Vec<String> = wanted.filter(|name| !is_there(name)).collect();
        let kept = before.transactions.iter().filter(|(_, time, _)| Some(*time) > since);
        let lost: Vec<_> = kept.filter(|it| !after.transactions.contains(it)).collect();
        if !gone.is_empty() || since.is_some() && !lost.is_empty() {
            let what = format!(
                "{keep} backups are kept: {gone:?} cannot be restored any more, nor (xid, time, timeline) {lost:?}"
            );
            self.breach(what);
        }
    }
}
