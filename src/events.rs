//! What happens to the archive, on its way to those who listen.
//!
//! The process where it happens puts it into a small queue in shared memory, and goes on. The
//! scheduler starts a [`notifier`] when there is something in the queue. Nothing waits for
//! that: what the queue has no room for, and what cannot be announced, is dropped.

pub mod notifier;

use time::OffsetDateTime;
use wal_e_core::event::{Event, Kind, LONGEST_DETAIL, LONGEST_OBJECT};

use crate::error::in_words;
use crate::pg::interrupts;
use crate::pg::shared_memory::{self, InSharedMemory, SharedMemory};
use crate::shared_values::{FixedText, SharedTime};

/// How many events wait at most; of more, the oldest are dropped.
const LENGTH: usize = 32;

static QUEUE: SharedMemory<Queue> = SharedMemory::new(c"wal_e events");

/// Events that wait, as they lie in shared memory: plain bytes, valid in every process.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    /// The process that sees to them; 0 while there is none.
    scheduler: i32,
    /// The number of the oldest; the same as `next` when none waits.
    oldest: u64,
    /// The number of the next one.
    next: u64,
    /// Each in the place of its number.
    events: [SharedEvent; LENGTH],
}

#[derive(Debug, Clone, Copy)]
struct SharedEvent {
    kind: Kind,
    time: SharedTime,
    object: FixedText<LONGEST_OBJECT>,
    detail: FixedText<LONGEST_DETAIL>,
    bytes: Option<u64>,
}

impl SharedEvent {
    const NONE: Self = SharedEvent {
        kind: Kind::Deleted,
        time: SharedTime::NONE,
        object: FixedText::EMPTY,
        detail: FixedText::EMPTY,
        bytes: None,
    };

    fn new(event: &Event) -> Self {
        SharedEvent {
            kind: event.kind,
            time: SharedTime::new(event.time),
            object: FixedText::new(event.object.as_deref().unwrap_or_default()),
            detail: FixedText::new(&in_words(event.detail.as_deref().unwrap_or_default())),
            bytes: event.bytes,
        }
    }

    fn get(&self) -> Event {
        Event {
            kind: self.kind,
            time: self.time.get().unwrap_or(OffsetDateTime::UNIX_EPOCH),
            object: self.object.get(),
            detail: self.detail.get(),
            bytes: self.bytes,
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Queue { scheduler: 0, oldest: 0, next: 0, events: [SharedEvent::NONE; LENGTH] }
    }
}

impl Queue {
    fn push(&mut self, event: SharedEvent) {
        self.events[(self.next % LENGTH as u64) as usize] = event;
        self.next += 1;
        self.oldest = self.oldest.max(self.next.saturating_sub(LENGTH as u64));
    }

    fn drop_before(&mut self, number: u64) {
        self.oldest = self.oldest.max(number.min(self.next));
    }
}

/// The queue, for the process that reserves shared memory.
pub fn in_shared_memory() -> &'static dyn InSharedMemory {
    &QUEUE
}

/// Has an event announced. Does nothing when the library was not preloaded.
pub fn send(event: &Event) {
    if !shared_memory::is_available() {
        return;
    }
    let shared = SharedEvent::new(event);
    let scheduler = QUEUE.update(|queue| {
        queue.push(shared);
        queue.scheduler
    });
    interrupts::wake_process(scheduler);
}

/// Announces what was deleted, unless that is nothing.
pub fn deleted(objects: u64, bytes: u64) {
    if objects > 0 {
        let event = Event::new(Kind::Deleted).saying(format!("deleted {objects} objects"));
        send(&event.with_bytes(bytes));
    }
}

/// This process sees to the events from now on.
pub fn attend(pid: i32) {
    QUEUE.update(|queue| queue.scheduler = pid);
}

/// The numbers of the events that wait: the oldest, and the one after the newest.
pub fn waiting() -> std::ops::Range<u64> {
    QUEUE.read(|queue| queue.oldest..queue.next)
}

/// Takes those out of the queue whose numbers are lower, because they were announced or never
/// will be.
pub fn drop_before(number: u64) {
    QUEUE.update(|queue| queue.drop_before(number));
}

/// The events that wait, the oldest first, and the number after the newest.
fn copy() -> (Vec<Event>, u64) {
    let queue = QUEUE.read(|queue| *queue);
    let number = |number: u64| queue.events[(number % LENGTH as u64) as usize].get();
    ((queue.oldest..queue.next).map(number).collect(), queue.next)
}
