//! What wal_e says of an archive, compared with what servers do.

use std::fmt;

use fastrand::Rng;
use serde_json::Value;

use super::branches::{may_ask, must_ask};
use super::model::Backup;
use super::prediction::{Outcome, predict, timeline_followed};
use super::recovered::Ended;
use super::targets::{Known, Request, Target, Timeline};
use super::truth::Truth;
use super::world::World;
use crate::wal_e::run_wal_e;

/// How many questions a history is asked.
const REQUESTS: std::ops::Range<u32> = 4..8;

/// What was judged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Rounds.
    pub rounds: u32,
    /// Questions that were asked.
    pub targets: u32,
    /// Answers "possible", each tried on a server.
    pub possible: u32,
    /// Answers "impossible", each tried on a server.
    pub refused: u32,
    /// Of these, refusals to choose between branches.
    pub branches: u32,
    /// Base backups that were verified.
    pub verified: u32,
}

impl Tally {
    /// Adds another tally.
    pub fn add(&mut self, other: Tally) {
        self.rounds += other.rounds;
        self.targets += other.targets;
        self.possible += other.possible;
        self.refused += other.refused;
        self.branches += other.branches;
        self.verified += other.verified;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rounds: {} targets judged, {} possible, {} refused ({} of them to choose between branches); {} base backups verified",
            self.rounds, self.targets, self.possible, self.refused, self.branches, self.verified
        )
    }
}

/// What `restore-plan` says.
pub enum Answer {
    /// The backup and the timeline of a plan.
    Possible { backup: String, timeline: u32, plan: Value },
    /// The reason, the facts and the hints of a refusal.
    Refused(String),
}

impl World {
    /// Asks for a plan.
    pub fn plan(&self, request: &Request) -> Answer {
        let options = request.options();
        let words = ["restore-plan", request.backup.as_str(), "--json"].into_iter();
        let options = options.iter().flat_map(|(option, value)| [*option, value.as_str()]);
        let finished = run_wal_e(&self.archive, words.chain(options));
        match (finished.status.success(), serde_json::from_str::<Value>(&finished.stdout)) {
            (true, Ok(plan)) => Answer::Possible {
                backup: plan["backup_name"].as_str().unwrap_or_default().to_owned(),
                timeline: plan["timeline"]
                    .as_u64()
                    .and_then(|t| u32::try_from(t).ok())
                    .unwrap_or(0),
                plan,
            },
            _ => Answer::Refused(format!("{}{}", finished.stderr, finished.stdout)),
        }
    }

    /// The base backups of the model that the archive lists.
    fn listed(&self) -> Vec<Backup> {
        let names = self.archive.backups();
        self.model.backups.iter().filter(|backup| names.contains(&backup.name)).cloned().collect()
    }
}

/// Asks about random targets, and tries every answer.
pub fn judge(world: &mut World, random: &mut Rng) -> Tally {
    // A first look at a table may write WAL (hint bits, with page checksums): nothing looks
    // at the live servers from here on until all questions are answered.
    let fingerprints = world.live_fingerprints();
    for index in world.running() {
        world.wait_for_archiver_of(index);
    }
    let truth = Truth::of(&world.archive, &world.keys);
    let known = Known {
        immediate: world.knows("restore-plan", "--recovery-target <"),
        exclusive: world.knows("restore-plan", "--recovery-target-inclusive"),
    };
    let objects = objects_of(world);
    let mut tally = Tally { rounds: 1, ..Tally::default() };
    let mut refused = Vec::new();
    for _ in 0..random.u32(REQUESTS) {
        let request = Request::random(world, &truth, known, random);
        tally.targets += 1;
        match world.plan(&request) {
            Answer::Possible { backup, timeline, plan } => {
                tally.possible += 1;
                world.note(format!(
                    "? {request}: possible, from {backup} along timeline {timeline}"
                ));
                judge_possible(world, &truth, &request, (&backup, timeline), &plan);
            }
            Answer::Refused(why) => {
                tally.refused += 1;
                world.note(format!("? {request}: impossible: {}", why.replace('\n', " ")));
                refused.push((request, why));
            }
        }
    }
    let sound = super::verification::verify_backups(world, &truth, &mut tally);
    if objects_of(world) != objects {
        world.breach("questions and restores have changed the archive");
    }
    world.check_live_clusters(&fingerprints);
    world.set_tablespaces_aside();
    for (request, why) in refused {
        tally.branches += u32::from(judge_refused(world, &truth, &request, &why, random));
    }
    super::verification::start_one(world, &truth, &sound, random);
    tally
}

/// The names of the objects that only servers and users change.
fn objects_of(world: &World) -> Vec<String> {
    let mut objects = world.archive.objects();
    // Each verification notes there what it has found.
    objects.retain(|object| !object.starts_with("wal_e/verifications/"));
    objects
}

/// The target must be reached, with the rows of that moment.
fn judge_possible(
    world: &mut World,
    truth: &Truth,
    request: &Request,
    (name, timeline): (&str, u32),
    plan: &Value,
) {
    let Some(backup) = world.model.backup(name).cloned() else {
        world.breach(format!("{request}: the plan names {name}, which was not taken"));
        return;
    };
    let asked = match request.timeline {
        Timeline::Unsaid => None,
        said => Some(timeline_followed(truth, said, &backup, &world.model)),
    };
    if asked.is_some_and(|asked| asked != timeline) {
        world.breach(format!("{request}: the plan follows timeline {timeline}, not {asked:?}"));
    }
    let outcome = predict(&world.model, truth, &backup, timeline, request);
    // The end of a base backup is on one timeline.
    if request.timeline == Timeline::Unsaid && request.target != Target::Immediate {
        let backups = match request.backup.as_str() {
            "AUTO" => world.listed(),
            _ => vec![backup.clone()],
        };
        let chosen = (timeline, &outcome);
        if let Some(other) = must_ask(&world.model, truth, request, &backups, chosen) {
            world.breach(format!(
                "{request}: timeline {timeline} is chosen without a word, though timeline {other} lives"
            ));
        }
    }
    let ended = world.restore(request, &backup);
    match (&outcome, &ended) {
        (Outcome::Reaches(expected), Ended::Open(rows)) if rows == expected => {}
        (Outcome::Fails(_), Ended::Otherwise(why)) if harmed(world, name) => {
            // A plan does not read the content of tars; but the restore must have seen it.
            world.note(format!("    (fails: {why})"));
        }
        (Outcome::Reaches(_), Ended::Otherwise(why)) if harmed(world, name) => {
            world.note(format!("    (a damaged base backup is not restored: {why})"));
        }
        _ => world.breach(format!(
            "{request}: \"possible\" ({plan}), but a server ends otherwise\n  expected: {outcome:?}\n  server: {ended:?}"
        )),
    }
}

/// Whether an object of the base backup itself, or of one that it builds on, was taken away or
/// damaged.
pub fn harmed(world: &World, backup: &str) -> bool {
    let is_harmed = |name: &str| {
        let own = [format!("/{name}/"), format!("/{name}_backup_stop_sentinel.json")];
        world.harmed.iter().any(|object| own.iter().any(|own| object.contains(own)))
    };
    let mut name = backup.to_owned();
    loop {
        if is_harmed(&name) {
            return true;
        }
        // The name says where the parent begins, and the model knows the parent.
        let Some((_, segment)) = name.split_once("_D_") else { return false };
        let beginning = format!("base_{segment}");
        let backups = world.model.backups.iter().map(|backup| &backup.name);
        let Some(parent) = backups.rev().find(|name| name.starts_with(&beginning)) else {
            return false;
        };
        name.clone_from(parent);
    }
}

/// Whether what was refused is impossible. True when the refusal asks for a branch.
fn judge_refused(
    world: &mut World,
    truth: &Truth,
    request: &Request,
    why: &str,
    random: &mut Rng,
) -> bool {
    let asks = asks_for_branch(why);
    if asks && request.timeline == Timeline::Unsaid {
        if !may_ask(&world.model, truth) {
            world.breach(format!("{request}: asks for a branch, and there is but one\n{why}"));
        }
        return true;
    }
    let listed = world.listed();
    let candidates: Vec<Backup> = match request.backup.as_str() {
        "AUTO" => listed,
        "LATEST" => listed.last().cloned().into_iter().collect(),
        name => listed.into_iter().filter(|backup| backup.name == name).collect(),
    };
    let predicted: Vec<(Backup, Outcome)> = candidates
        .into_iter()
        .filter(|backup| !harmed(world, &backup.name))
        .map(|backup| {
            let timeline = timeline_followed(truth, request.timeline, &backup, &world.model);
            let outcome = predict(&world.model, truth, &backup, timeline, request);
            (backup, outcome)
        })
        .collect();
    let reachable =
        predicted.iter().rev().find(|(_, outcome)| matches!(outcome, Outcome::Reaches(_)));
    let chosen = match reachable {
        Some(chosen) => Some(chosen.clone()),
        None => super::history::one_of(random, &predicted),
    };
    let Some((backup, outcome)) = chosen else { return asks };
    let ended = world.restore_by_hand(request, &backup, truth);
    match (&outcome, &ended) {
        (Outcome::Reaches(expected), Ended::Open(rows)) if expected == rows => {
            // A damaged history file is not an absent one, which a server cannot know.
            if !world.harmed.iter().any(|object| object.contains(".history")) {
                world.breach(format!(
                    "{request}: refused, but a server reaches it from {} with {rows:?}\n{why}",
                    backup.name
                ));
            }
        }
        (Outcome::Early(expected, _), Ended::Open(rows)) if expected == rows => {}
        (Outcome::Fails(_), Ended::Otherwise(_)) => {}
        _ => world.breach(format!(
            "{request}: refused; the harness does not understand the server\n  expected from {}: {outcome:?}\n  server: {ended:?}\n{why}",
            backup.name
        )),
    }
    asks
}

/// Whether a refusal says that there are several branches.
fn asks_for_branch(why: &str) -> bool {
    ["more than one timeline could be meant", "the target time lies on timeline"]
        .iter()
        .any(|words| why.contains(words))
}

impl Request {
    /// Whether anything sets recovery up.
    pub fn sets_up(&self) -> bool {
        self.backup == "AUTO" || !self.options().is_empty()
    }

    /// Whether there is a target.
    pub fn has_target(&self) -> bool {
        self.target != Target::End
    }
}
