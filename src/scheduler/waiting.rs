//! What a base backup waits for before it begins, where settings ask for that.

use std::fmt;
use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;
use wal_e_core::event::{Event, Kind};
use wal_e_core::pace;
use wal_e_core::schedule::Slot;

use crate::error::Failure;
use crate::pg::processes;
use crate::{events, gucs, server_log};

/// How often it is looked whether that is over. It takes no request to the store.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// That a slot waits is said again after so long.
const REPEAT: Duration = Duration::from_secs(60 * 60);

/// The slot that waits, if one does.
#[derive(Default)]
pub struct Waiting {
    held: Option<Held>,
}

struct Held {
    slot: Slot,
    reason: Reason,
    said: Instant,
}

/// What is waited for.
enum Reason {
    Checkpoint,
    Standby { name: String, missing_bytes: u64 },
}

impl fmt::Display for Reason {
    /// Ends a sentence that says that something waits for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Checkpoint => f.write_str("the end of a checkpoint"),
            Reason::Standby { name, missing_bytes } => {
                let size = pace::size(*missing_bytes);
                write!(f, "standby \"{name}\" to receive {size} of WAL")
            }
        }
    }
}

impl Reason {
    /// What there is to wait for now.
    fn now() -> Option<Reason> {
        if let Some(limit) = gucs::backup_max_replication_lag() {
            let standbys = processes::standbys().into_iter();
            let last = standbys.max_by_key(|standby| standby.missing_bytes);
            if let Some(standby) = last.filter(|standby| standby.missing_bytes > limit) {
                let processes::Standby { name, missing_bytes } = standby;
                return Some(Reason::Standby { name, missing_bytes });
            }
        }
        let waits = gucs::backup_wait_for_checkpoint() && processes::checkpoint_runs();
        waits.then_some(Reason::Checkpoint)
    }
}

impl Waiting {
    /// Whether the base backup of a slot that is due has to wait. Says that it does, and
    /// afterwards that it begins.
    pub fn hold(&mut self, slot: Slot) -> bool {
        let held = self.held.take().filter(|held| held.slot == slot);
        match (Reason::now(), held) {
            (None, None) => false,
            (None, Some(held)) => {
                let Held { reason, .. } = held;
                server_log::log(
                    &format!("base backup by schedule begins: it waited for {reason}"),
                    Some(&format!("It was due at {slot}.")),
                );
                false
            }
            (Some(reason), held) => {
                let said = held.map(|held| held.said).filter(|said| said.elapsed() < REPEAT);
                let said = said.unwrap_or_else(|| {
                    say_waits(slot, &reason);
                    Instant::now()
                });
                self.held = Some(Held { slot, reason, said });
                true
            }
        }
    }

    /// Whether a slot waits, and nothing is there to wait for any more.
    pub fn is_over(&self) -> bool {
        self.held.is_some() && Reason::now().is_none()
    }

    /// How long to sleep at most, when there is nothing else to do for `rest`.
    pub fn sleep(&self, rest: Duration) -> Duration {
        if self.held.is_some() { rest.min(LOOK_EVERY) } else { rest }
    }

    /// The slot that waits, when a later one is due, and what the job history says of it.
    pub fn missed(&self, due: Slot) -> Option<(Slot, String)> {
        let Held { slot, reason, .. } = self.held.as_ref().filter(|held| held.slot < due)?;
        Some((*slot, format!("was not begun: it waited for {reason} until the next one was due")))
    }

    /// Nothing waits any more.
    pub fn forget(&mut self) {
        self.held = None;
    }
}

fn say_waits(slot: Slot, reason: &Reason) {
    server_log::log(
        &format!("base backup by schedule waits for {reason}"),
        Some(&format!("It was due at {slot}, and is not taken if it waits until the next one is.")),
    );
}

/// Says that the base backup of a slot was not taken.
pub fn say_missed(slot: Slot, summary: &str) {
    let message = format!("base backup by schedule {summary}");
    events::send(&Event::new(Kind::BackupFailed).saying(&*message));
    let failure = Failure::new(PgSqlErrorCode::ERRCODE_WARNING, message);
    server_log::warn(&failure.with_detail(format!("It was due at {slot}.")));
}
