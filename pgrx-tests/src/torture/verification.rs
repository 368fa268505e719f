//! Base backups: what verification says, and whether a server starts.

use fastrand::Rng;

use super::history::one_of;
use super::judge::{Tally, harmed};
use super::model::Backup;
use super::prediction::{Outcome, predict};
use super::recovered::Ended;
use super::targets::{Request, Target, Timeline};
use super::truth::Truth;
use super::waldump::Kind;
use super::world::World;
use crate::wal_e::run_wal_e;

/// Verifies every base backup, and hands out those that passed.
pub fn verify_backups(world: &mut World, truth: &Truth, tally: &mut Tally) -> Vec<Backup> {
    let mut sound = Vec::new();
    for name in world.archive.backups() {
        let Some(backup) = world.model.backup(&name).cloned() else { continue };
        let verified = run_wal_e(&world.archive, ["backup-verify", name.as_str()]);
        tally.verified += 1;
        let passed = verified.status.success();
        world.note(format!(
            "? backup-verify {name}: {}",
            if passed { "sound" } else { "not sound" }
        ));
        let timeline = world.model.branches[backup.branch].timeline;
        let replay = truth.replay(backup.start, timeline);
        let end = Kind::BackupEnd(backup.start);
        let usable = replay.records.iter().any(|record| record.kind == end);
        let damaged = harmed(world, &name);
        match (passed, usable && !damaged) {
            (true, false) if !usable => {
                world.breach(format!("{name} is verified, but its WAL is not in the archive"));
            }
            (true, false) => world.breach(format!("{name} is verified, but is damaged")),
            (false, true) => {
                world.breach(format!("{name} is sound, but not verified:\n{verified}"))
            }
            _ => {}
        }
        if passed {
            sound.push(backup);
        }
    }
    sound
}

/// Starts a server on one base backup that was verified, as soon as it is consistent.
pub fn start_one(world: &mut World, truth: &Truth, sound: &[Backup], random: &mut Rng) {
    let Some(backup) = one_of(random, sound) else { return };
    let request = Request {
        backup: backup.name.clone(),
        target: Target::Immediate,
        timeline: Timeline::Current,
        inclusive: true,
    };
    let timeline = world.model.branches[backup.branch].timeline;
    let outcome = predict(&world.model, truth, &backup, timeline, &request);
    let ended = world.restore_by_hand(&request, &backup, truth);
    match (&outcome, &ended) {
        (Outcome::Reaches(expected), Ended::Open(rows)) if expected == rows => {}
        _ => world.breach(format!(
            "{} was verified, but a server starts otherwise\n  expected: {outcome:?}\n  server: {ended:?}",
            backup.name
        )),
    }
}
