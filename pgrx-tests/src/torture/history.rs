//! A random history: which operation comes next.

use fastrand::Rng;

use super::retention::Way;
use super::targets::{Request, Target, Timeline};
use super::world::{Role, World};
use crate::cluster::StopMode;

/// How long a history is.
const OPERATIONS: std::ops::Range<u32> = 10..24;

/// No more servers than this; each takes memory and time.
const MOST_NODES: usize = 5;

/// Names of restore points; there are few, so that some come twice.
const NAMES: [&str; 4] = ["nightly", "before", "release", "drill"];

/// What an earlier recovery may have left in `postgresql.conf`.
const LEFT_SETTINGS: [&str; 5] = [
    "recovery_target_time = '2020-01-01 00:00:00+00'",
    "recovery_target_xid = '100'",
    "recovery_target_action = 'shutdown'",
    "recovery_end_command = 'false; exit 200'",
    "recovery_min_apply_delay = '1h'",
];

/// Which kinds of harm a history may have in it. Not all in all of them: what is found
/// would be hidden by what is found everywhere.
#[derive(Debug)]
pub struct Temper {
    standbys: bool,
    copies: bool,
    restored: bool,
    tablespaces: bool,
    settings: bool,
    damage: bool,
    always: bool,
    deletion: bool,
}

impl Temper {
    /// Chooses.
    pub fn new(random: &mut Rng) -> Temper {
        let mut often = |of_ten: u32| random.u32(0..10) < of_ten;
        Temper {
            standbys: often(7),
            copies: often(4),
            restored: often(5),
            tablespaces: often(3),
            settings: often(3),
            damage: often(5),
            always: often(2),
            deletion: often(4),
        }
    }
}

/// Lives through a history.
pub fn live(world: &mut World, random: &mut Rng) {
    let temper = Temper::new(random);
    let length = random.u32(OPERATIONS);
    world.write(0, 10, None);
    world.back_up(0, 0, false);
    let mut done = 0;
    // What is not possible just now is not chosen.
    for _ in 0..length * 20 {
        let late = done * 3 > length * 2;
        done += u32::from(operate(world, random, &temper, late));
        if done >= length {
            break;
        }
    }
    settle(world, random);
}

/// Does something, if it is possible.
fn operate(world: &mut World, random: &mut Rng, temper: &Temper, late: bool) -> bool {
    let full = world.nodes.len() >= MOST_NODES;
    let Some(at) = one_of(random, &world.running()) else {
        return wake(world, random);
    };
    match random.u32(0..100) {
        0..6 if temper.deletion => return delete(world, random, at),
        0..24 => write(world, random, at),
        24..27 => world.roll_back(at),
        27..35 => {
            let name = NAMES[random.usize(0..NAMES.len())];
            world.mark(at, name);
        }
        35..45 => {
            if world.keys.sometimes_change(&world.archive, random) {
                world.note("archive: another key");
            }
            let writes = if random.bool() { random.u32(1..4) } else { 0 };
            world.back_up(at, writes, random.bool());
            if world.model.backups.len().is_multiple_of(3) {
                world.merge();
            }
        }
        45..52 => world.switch(at),
        52..57 => world.kill(at),
        57..60 => {
            let mode = if random.bool() { StopMode::Fast } else { StopMode::Immediate };
            world.shut_down(at, mode);
        }
        60..66 => return wake(world, random),
        66..74 => {
            if !temper.standbys || full || world.has_standby(at) || world.has_tablespaces(at) {
                return false;
            }
            world.make_standby(at, random.u32(0..10) < 8, temper.always);
        }
        74..81 => {
            let standbys = world.nodes_where(|node| matches!(node.role, Role::Standby(_)));
            let Some(standby) = one_of(random, &standbys) else { return false };
            // A failover, or a switch that leaves two of them.
            if random.u32(0..10) < 7 {
                fail(world, standby);
            }
            world.promote(standby);
        }
        81..87 => {
            if !temper.restored || full {
                return false;
            }
            restore_copy(world, random);
        }
        87..91 => {
            if !temper.copies || full {
                return false;
            }
            let stopped = world.nodes_where(|node| node.role == Role::Stopped);
            let stopped = one_of(random, &stopped).unwrap_or(at);
            if world.nodes[stopped].role == Role::Running {
                world.shut_down(stopped, StopMode::Fast);
            }
            world.copy_stopped(stopped);
        }
        91..94 => {
            if !temper.tablespaces || world.has_standby(at) {
                return false;
            }
            match world.nodes[at].tablespaces.is_empty() || random.bool() {
                true => world.create_tablespace(at, random),
                false => world.drop_tablespace(at),
            }
        }
        94..96 => {
            if !temper.settings {
                return false;
            }
            match random.bool() {
                true => world.raise_max_connections(at),
                false => {
                    let line = LEFT_SETTINGS[random.usize(0..LEFT_SETTINGS.len())];
                    world.leave_setting(at, line);
                }
            }
        }
        _ => {
            if !temper.damage || !late || world.harmed.len() > 1 {
                return false;
            }
            harm(world, random);
        }
    }
    true
}

fn write(world: &mut World, random: &mut Rng, at: usize) {
    let rows: Vec<u32> = world.model.rows(world.nodes[at].branch).into_iter().collect();
    let removes = if random.u32(0..5) == 0 { one_of(random, &rows) } else { None };
    let kilobytes = [5, 5, 50, 400, 1500][random.usize(0..5)];
    world.write(at, kilobytes, removes);
}

/// Deletes backups, or says which stay.
fn delete(world: &mut World, random: &mut Rng, at: usize) -> bool {
    if random.u32(0..4) == 0 {
        let permanent = random.bool();
        world.mark_backup(at, permanent, random);
        return true;
    }
    let (keep, way) = (random.usize(1..4), Way::random(random));
    // What is damaged is known to retention only after a verification, and where two servers
    // write on one timeline a backup may never be complete.
    let timeline = world.model.branches[world.nodes[at].branch].timeline;
    let is_stuck = world.nodes[at].stuck || world.model.is_contested(timeline);
    if !world.harmed.is_empty() || is_stuck && matches!(way, Way::Schedule) {
        return false;
    }
    world.retain(at, keep, way);
    true
}

/// The primary of a standby fails.
fn fail(world: &mut World, standby: usize) {
    if let Role::Standby(primary) = world.nodes[standby].role
        && world.nodes[primary].role == Role::Running
    {
        world.kill(primary);
    }
}

/// Brings back what does not run.
fn wake(world: &mut World, random: &mut Rng) -> bool {
    let down = world.nodes_where(|node| matches!(node.role, Role::Stopped | Role::Dead));
    let Some(index) = one_of(random, &down) else { return false };
    world.bring_back(index);
    true
}

/// Restores a copy, as a user who tests restores does, or the one who has lost the primary.
fn restore_copy(world: &mut World, random: &mut Rng) {
    let write = one_of(random, &world.model.writes);
    let target = match (random.u32(0..10), write) {
        (0..4, Some(write)) => Target::Time(write.transaction.time),
        (4..7, Some(write)) => Target::Lsn(write.commit),
        _ => Target::End,
    };
    let newest = world.model.branches.iter().map(|branch| branch.timeline).max().unwrap_or(1);
    let timeline = match random.u32(0..10) {
        0..4 => Timeline::Number(random.u32(1..=newest)),
        _ => Timeline::Unsaid,
    };
    let backup = "AUTO".to_owned();
    world.restore_copy(&Request { backup, target, timeline, inclusive: true });
}

/// Takes something away that is archived, or damages it.
fn harm(world: &mut World, random: &mut Rng) {
    for index in world.running() {
        world.wait_for_archiver_of(index);
    }
    let objects = world.archive.objects();
    let wanted = match random.u32(0..10) {
        0..6 => "wal_005/0",
        6..8 => "tar_partitions/",
        _ => ".history",
    };
    let objects: Vec<String> =
        objects.into_iter().filter(|object| object.contains(wanted)).collect();
    if let Some(object) = one_of(random, &objects) {
        world.harm(&object, random.bool());
    }
}

/// Ends the history: most servers archive what they have.
fn settle(world: &mut World, random: &mut Rng) {
    if world.running().is_empty() || random.u32(0..10) < 3 {
        wake(world, random);
    }
    for index in world.running() {
        write(world, random, index);
        if random.u32(0..10) < 8 {
            world.switch(index);
        } else {
            world.wait_for_archiver_of(index);
        }
    }
}

/// One of several.
pub fn one_of<T: Clone>(random: &mut Rng, several: &[T]) -> Option<T> {
    // A number is drawn in any case, so that the rest of a history does not depend on it.
    let drawn = random.usize(..);
    (!several.is_empty()).then(|| several[drawn % several.len()].clone())
}
