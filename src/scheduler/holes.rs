//! Looks for WAL that the archive lacks: archives again what the server still has, and asks for
//! a base backup when the rest is lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;
use time::OffsetDateTime;
use wal_e_core::coverage::{Archive, LostWal, Repaired};
use wal_e_core::event::{Event, Kind};
use wal_e_core::owner;
use wal_e_core::schedule::{Job, Slot};
use wal_e_core::store::{self, retry::Patience};

use super::session::Session;
use super::{LONGEST_SLEEP, SLEEP_WITHOUT_SCHEDULE};
use crate::error::{Failure, Result};
use crate::pg::{interrupts, server};
use crate::{archiver_stats, events, gucs, own_wal, rate_limits, server_log};

/// How often the archive is looked at. That lists all of its WAL.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);

/// What is known of the holes.
pub struct Holes {
    look_at: Instant,
    /// Those that were said, by their first segments.
    said: BTreeSet<String>,
    complaint: Option<String>,
}

impl Holes {
    /// Nothing was looked at yet.
    pub fn new() -> Self {
        Holes { look_at: Instant::now(), said: BTreeSet::new(), complaint: None }
    }

    /// Has the archive looked at now.
    pub fn look_soon(&mut self) {
        self.look_at = Instant::now();
    }

    /// Does what is due. Returns for how long nothing is, and a slot for a base backup when one
    /// is wanted at once.
    pub fn step(&mut self, session: &mut Session) -> (Duration, Option<Slot>) {
        if gucs::schedule(Job::Backup).is_none() {
            return (SLEEP_WITHOUT_SCHEDULE, None);
        }
        if server::in_recovery() || !archiver_stats::archives() {
            return (LONGEST_SLEEP, None);
        }
        let left = self.look_at.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return (left, None);
        }
        self.look_at = Instant::now() + LOOK_EVERY;
        match look(session) {
            Ok((repaired, lost)) => {
                self.complaint = None;
                repaired.iter().for_each(say_repaired);
                let slot = self.note(&lost).then(|| slot_of_now(session));
                (LOOK_EVERY, slot)
            }
            Err(failure) => {
                self.complain(failure);
                (LOOK_EVERY, None)
            }
        }
    }

    /// Says what is lost, each hole once, and whether a base backup is needed because of one
    /// that is new. So what is wrong with that backup does not lead to another each hour.
    fn note(&mut self, lost: &[LostWal]) -> bool {
        self.said.retain(|first| lost.iter().any(|hole| hole.first_segment == *first));
        let mut needs_backup = false;
        for hole in lost {
            if self.said.insert(hole.first_segment.clone()) {
                say_lost(hole);
                needs_backup |= hole.needs_backup;
            }
        }
        needs_backup
    }

    /// Says what keeps the archive from being looked at, and the same not again.
    fn complain(&mut self, failure: Failure) {
        if interrupts::end_requested() || self.complaint.as_ref() == Some(&failure.message) {
            return;
        }
        self.complaint = Some(failure.message.clone());
        let message = format!("the archive was not searched for missing WAL: {}", failure.message);
        server_log::warn(&Failure { message, ..failure });
    }
}

/// What was missing and is archived now, and what is lost.
fn look(session: &mut Session) -> Result<(Vec<Repaired>, Vec<LostWal>)> {
    let (config, claimant) = (gucs::store_config()?, server::claimant());
    let (own, archiving) = (own_wal::read()?, own_wal::archiving()?);
    let notices = session.notices();
    session.run(async move {
        let limit = Some(rate_limits::upload());
        let opening = store::open_limited(&config, Patience::command(), notices.clone(), limit);
        let store = opening.await?;
        // What another cluster lacks, this one cannot know.
        owner::inspect(&*store, &claimant).await?;
        let now = OffsetDateTime::now_utc();
        let archive = Archive::of(&store, Some(own), now, &notices).await?;
        let repaired = own_wal::repair(&store, &archive, (claimant, archiving), notices).await?;
        Ok((repaired, archive.lost()))
    })
}

/// A slot of its own, to the minute: servers that find the same at the same time share it, and
/// none begins while another is at work.
fn slot_of_now(session: &Session) -> Slot {
    let now = session.clock.now();
    Slot::at(now - time::Duration::seconds(i64::from(now.second())))
}

fn say_repaired(repaired: &Repaired) {
    let Repaired { segment, .. } = repaired;
    server_log::log(&format!("WAL segment \"{segment}\" was missing: {}", repaired.as_str()), None);
}

fn say_lost(hole: &LostWal) {
    let LostWal { first_segment, last_segment, segments, needs_backup } = hole;
    let message = format!(
        "WAL is missing in the archive, and is lost: from \"{first_segment}\" to \"{last_segment}\" ({segments} segments)"
    );
    events::send(&Event::new(Kind::HoleFound).of(Some(first_segment.clone())).saying(&*message));
    let failure = Failure::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, message);
    server_log::warn(&failure.with_detail(match needs_backup {
        true => "Nothing after it can be restored. A new base backup is taken.",
        false => "A base backup was completed after it.",
    }));
}
