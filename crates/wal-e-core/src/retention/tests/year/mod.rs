//! A year in the life of an archive, and retention every day: WAL all day, failovers, upgrades
//! and what else happens to servers and stores. After each day, what is left is what
//! docs/retention.md says, and can be restored.
//!
//! * `servers`: those that write; `world`: their days, and the archive.
//! * `model`: what must stay and what may, from what really happened.
//! * `checks`: what is compared.

mod checks;
mod model;
mod servers;
mod world;

use std::sync::atomic::AtomicU64;

use time::Duration;

use checks::Before;
use model::Model;
use world::World;

use crate::error::ErrorKind;
use crate::notice;
use crate::retention::{Calendar, Item, Plan, Policy, Request, Survey, Tally, carry_out};
use crate::store::faulty::{Fault, Operation, When};

fn policy(random: &mut fastrand::Rng) -> Policy {
    let mut calendar = Calendar::default();
    if random.bool() {
        calendar = Calendar {
            daily: random.u32(0..8),
            weekly: random.u32(0..5),
            monthly: random.u32(0..7),
            yearly: random.u32(0..2),
        };
    }
    let window = random.bool().then(|| Duration::hours(random.i64(1..24 * 21)));
    let is_empty = window.is_none() && calendar.is_empty();
    let full_backups = if is_empty || random.bool() { random.u32(1..8) } else { 0 };
    Policy { full_backups, window, calendar }
}

async fn plan_of(world: &World, request: &Request) -> Plan {
    let (notices, _queue) = notice::channel();
    let survey = Survey::of(&world.store(), world.host_now(), &notices).await.unwrap();
    Plan::new(&survey, request).unwrap()
}

async fn year(seed: u64, days: u32) {
    let mut world = World::new(seed).await;
    let mut current = policy(&mut world.random);
    for day in 0..days {
        world.day().await;
        if world.once_in(45) {
            current = policy(&mut world.random);
        }
        // A server that is down has no retention.
        if world.once_in(20) {
            continue;
        }
        let luck = Luck::of(&mut world);
        let at = format!("seed {seed}, day {day}, {luck:?}, {current:?}");
        retain(&world, current, luck, &at).await;
        // It is begun again at once, or on another day.
        if matches!(luck, Luck::Fails { .. }) && world.random.bool() {
            retain(&world, current, Luck::Well, &format!("{at}, again")).await;
        }
    }
}

/// What happens during a deletion.
#[derive(Debug, Clone, Copy)]
enum Luck {
    Well,
    /// The store fails at this part of the work.
    Fails {
        at: f64,
        fault: Fault,
    },
}

impl Luck {
    fn of(world: &mut World) -> Luck {
        if !world.once_in(6) {
            return Luck::Well;
        }
        let fault = match world.random.bool() {
            true => Fault::Refuse(ErrorKind::Unavailable),
            false => Fault::LoseAnswer(ErrorKind::Unavailable),
        };
        Luck::Fails { at: world.random.f64(), fault }
    }
}

fn lines(plan: &Plan) -> Vec<String> {
    let line =
        |item: &Item| format!("{} {} {}: {}", item.action, item.kind, item.name, item.reason);
    plan.items.iter().map(line).collect()
}

async fn retain(world: &World, policy: Policy, luck: Luck, at: &str) {
    let request = Request::Retain(policy);
    let before = Before::of(world).await;
    let model = Model::new(world, policy, &before.keys);
    let (notices, _queue) = notice::channel();
    let plan = plan_of(world, &request).await;
    let at = &format!("{at}: {:#?}", lines(&plan));
    let objects = plan.deletes().objects;
    if let Luck::Fails { at: part, fault } = luck
        && objects > 0
    {
        let calls = world.store.calls(Operation::Delete) + 1;
        let call = When::From(calls + (objects as f64 * part) as u64);
        let store = world.store.clone().with(Operation::Delete, call, fault);
        carry_out(&store, &plan, &AtomicU64::new(0), &notices).await.unwrap_err();
        store.heal();
        before.check_what_must_stay(world, &model, at).await;
        return;
    }
    carry_out(&world.store, &plan, &AtomicU64::new(0), &notices).await.unwrap();
    before.check_what_was_planned(world, &plan, at).await;
    before.check_what_must_stay(world, &model, at).await;
    let allowed = model.allowed(before.newest.min(world.host_now()));
    let again = plan_of(world, &request).await;
    before.check_what_is_left(world, &model, &allowed, at).await;
    assert_eq!(again.deletes(), Tally::default(), "{at}: again {:#?}", lines(&again));
}

/// `YEARS` asks for more than one, and `SEED` for others.
#[tokio::test]
async fn what_is_left_of_a_year_is_what_the_policy_says_and_can_be_restored() {
    #[expect(clippy::disallowed_methods, reason = "it is how a developer asks a test for more")]
    let number = |name| std::env::var(name).map_or(1, |text| text.parse::<u64>().unwrap());
    let first = number("SEED");
    for seed in first..first + number("YEARS") {
        year(seed, 365).await;
    }
}
