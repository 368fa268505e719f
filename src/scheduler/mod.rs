//! The background worker that does by itself, at certain times, what can also be asked for:
//! base backups, verifications, and retention after backups.
//!
//! It is started with the server and has no database, as the workers that it starts have
//! none. While nothing is due it sleeps, without threads and without a connection to the
//! store. Which server of several does what is due, the prefix decides
//! ([`wal_e_core::schedule`]).
//!
//! * [`lane`]: what one job does from slot to slot; `work`: the workers that do it.
//! * `waiting`: what a base backup waits for when settings ask for that; `complaints`: what
//!   keeps a job from being done, in the log.
//! * `session`: the threads and the store, while something is due.
//! * `holes`: looks for WAL that is missing.
//! * `watching`: whether archiving stands still; `announcing`: has notifiers announce what
//!   happened.

mod announcing;
mod complaints;
mod holes;
mod lane;
mod session;
mod waiting;
mod watching;
mod work;

use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use wal_e_core::schedule::{Job, Node};

use crate::events;
use crate::pg::{interrupts, server, signals, worker_process};
use announcing::Announcing;
use holes::Holes;
use lane::Lane;
use session::Session;
use watching::Watching;

/// Its name and type, as `pg_stat_activity` shows them.
const PROCESS: &str = "wal_e scheduler";

/// When it is started again after it was terminated or has failed.
const RESTART_AFTER: Duration = Duration::from_secs(10);

/// The longest sleep: a clock that was set is noticed after so long, and a promotion.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The sleep while there is nothing to do by schedule. A reload ends it.
const SLEEP_WITHOUT_SCHEDULE: Duration = Duration::from_secs(24 * 60 * 60);

/// Has the postmaster start the scheduler with the server. Only while it preloads libraries.
pub fn register() {
    BackgroundWorkerBuilder::new(PROCESS)
        .set_type(PROCESS)
        .set_library("wal_e")
        .set_function(worker_process::SCHEDULER_MAIN)
        // A worker without it has no entry among the processes of the server.
        .enable_spi_access()
        // A standby that can be read may verify backups, and may become a primary.
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_restart_time(Some(RESTART_AFTER))
        .load();
}

/// The scheduler's process. It ends when the server stops.
pub fn run() {
    signals::install_scheduler_handlers();
    worker_process::join_server();
    events::attend(server::current_pid());
    let mut holes = Holes::new();
    let (mut watching, mut announcing) = (Watching::new(), Announcing::default());
    let claimant = server::claimant();
    let node = Node::starting(claimant.hostname, claimant.data_directory);
    let mut session = Session::new(node);
    let mut lanes = [Job::Backup, Job::Retention, Job::Verification].map(Lane::new);
    loop {
        if interrupts::end_requested() {
            worker_process::end();
        }
        // A request to cancel means work that runs, of which there is none in this process.
        let _ = interrupts::check();
        if signals::reload_requested() {
            worker_process::reload_settings();
            lanes.iter_mut().for_each(Lane::forget);
            holes.look_soon();
        }
        let sleep = step(&mut lanes, &mut session).min(watching.step());
        let sleep = sleep.min(look_for_holes(&mut holes, &mut lanes, &mut session));
        // After all that may have something to announce.
        let sleep = sleep.min(announcing.step());
        if !lanes.iter().any(Lane::is_busy) {
            session.close();
        }
        if !interrupts::end_requested() {
            interrupts::wait_on_latch(sleep);
        }
    }
}

/// Does what is due now, and returns how long to sleep.
fn step(lanes: &mut [Lane; 3], session: &mut Session) -> Duration {
    let mut sleep = SLEEP_WITHOUT_SCHEDULE;
    let mut backup = None;
    for lane in lanes {
        // Retention follows a backup that this process has taken, so that nothing is
        // deleted because a setting was changed.
        if let Some(slot) = backup {
            lane.follow(slot);
        }
        sleep = sleep.min(lane.step(session));
        backup = lane.take_completed_backup();
    }
    sleep
}

/// Looks for missing WAL when that is due, or damage was found. What is lost is bridged by a
/// base backup beside the schedule.
fn look_for_holes(holes: &mut Holes, lanes: &mut [Lane; 3], session: &mut Session) -> Duration {
    let [backup, _, verification] = lanes;
    if verification.take_found_damage() {
        holes.look_soon();
    }
    let (sleep, slot) = holes.step(session);
    match slot {
        Some(slot) => {
            backup.begin_beside(slot);
            Duration::ZERO
        }
        None => sleep,
    }
}
