//! Random histories: servers that write, fail, fork and come back, and an archive that is
//! harmed; then random targets. What wal_e says of them is compared with what real servers do.
//!
//! * [`history`] chooses the [`operations`] on the servers of a [`world`]; [`copies`] are
//!   second servers of one history, and [`retention`] deletes what a policy does not keep. The
//!   [`model`] notes every write.
//! * [`truth`] reads the archive with PostgreSQL's own [`waldump`], and [`prediction`] knows by
//!   PostgreSQL's rules where a recovery ends; [`branches`], whether several could be meant.
//! * [`targets`] are the questions. The [`judge`] compares the answers with [`restores`],
//!   whose end [`recovered`] knows, and [`verification`] with servers that start.

mod branches;
mod copies;
mod history;
mod judge;
mod model;
mod operations;
mod prediction;
mod recovered;
mod restores;
mod retention;
mod targets;
mod truth;
mod verification;
mod waldump;
mod world;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;

pub use judge::Tally;

use crate::archive::Archive;
use crate::keys::Keys;
use world::World;

/// Lives through the history of a seed and judges what wal_e says of it: what was judged,
/// and the script of the history.
///
/// # Errors
///
/// The script with what is wrong, when a promise is broken or the harness fails.
pub fn round(seed: u64) -> Result<(Tally, String), String> {
    let mut random = Rng::with_seed(seed);
    let archive = if random.u32(0..6) == 0 { Archive::s3() } else { Archive::file() };
    let keys = Keys::begin(&archive, &mut random);
    let mut world = World::new(archive, keys);
    let encrypted = if world.keys.count() > 0 { ", encrypted" } else { "" };
    world.note(format!("a: archives to {}{encrypted}", world.archive.url()));
    let judged = catch_unwind(AssertUnwindSafe(|| {
        history::live(&mut world, &mut random);
        judge::judge(&mut world, &mut random)
    }));
    let tally = match judged {
        Ok(tally) => tally,
        Err(panic) => {
            world.breach(format!("the harness stops: {}", text_of(panic.as_ref())));
            Tally::default()
        }
    };
    if world.broken.is_empty() {
        return Ok((tally, world.script.join("\n")));
    }
    let broken: Vec<String> = world.broken.iter().map(|what| format!("BROKEN: {what}")).collect();
    Err(format!("SEED={seed}\n{}\n{}", world.script.join("\n"), broken.join("\n")))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
