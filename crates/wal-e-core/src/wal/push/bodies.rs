//! Memory for compressed WAL files.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What the files that are being compressed and sent take together: enough for nine of the size to
/// which segments of 16 MB are usually compressed, and for two that cannot be compressed.
const SENT_BYTES: usize = 40 << 20;

/// To what the first file is taken to be compressed.
const FIRST_LIKELY_BYTES: usize = 4 << 20;

/// Permits are for so many bytes: there are not enough for single ones.
const UNIT_BYTES: usize = 64 << 10;

/// Buffers for compressed files. Each is used again as long as any is in use: fresh memory costs
/// the system a zeroed page for each 4 kB, and an allocator keeps what threads by turns have had.
#[derive(Debug)]
pub(super) struct Bodies {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    /// The size of the last compressed file.
    likely_bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    free: Vec<Memory>,
    in_use: usize,
    /// What the free ones and those in use have in memory, as far as it is known.
    touched_bytes: usize,
}

/// Room for a compressed file.
#[derive(Debug, Default)]
struct Memory {
    content: Vec<u8>,
    /// How much of it has been written to: only that is in memory.
    touched_bytes: usize,
}

impl Default for Bodies {
    fn default() -> Self {
        let room = Arc::new(Semaphore::new(SENT_BYTES / UNIT_BYTES));
        let likely_bytes = AtomicUsize::new(FIRST_LIKELY_BYTES);
        Bodies { shared: Arc::default(), room, likely_bytes }
    }
}

impl Bodies {
    /// An empty buffer with room for `bytes`.
    pub(super) fn buffer(&self, bytes: usize) -> Buffer {
        let mut state = self.shared.lock();
        state.in_use += 1;
        let mut memory = state.free.pop().unwrap_or_default();
        drop(state);
        // Memory that is not written to is not used, so a size that is not needed wastes nothing.
        memory.content.reserve(bytes);
        Buffer { memory, shared: Arc::clone(&self.shared) }
    }

    /// Waits for room for one more file, as much as it is likely to take.
    pub(super) async fn room(&self) -> OwnedSemaphorePermit {
        self.room_for(self.likely_bytes.load(Ordering::Relaxed)).await
    }

    /// Makes `room` what the compressed file takes. What is larger than all is sent alone.
    pub(super) async fn fit(
        &self,
        mut room: OwnedSemaphorePermit,
        bytes: usize,
    ) -> OwnedSemaphorePermit {
        self.likely_bytes.store(bytes, Ordering::Relaxed);
        if let Some(too_much) = room.num_permits().checked_sub(units(bytes)) {
            drop(room.split(too_much));
            return room;
        }
        // To wait with some of it could be for ever, as others do the same.
        drop(room);
        self.room_for(bytes).await
    }

    async fn room_for(&self, bytes: usize) -> OwnedSemaphorePermit {
        let units = u32::try_from(units(bytes)).expect("there are fewer units");
        let acquired = Arc::clone(&self.room).acquire_many_owned(units).await;
        acquired.expect("it is never closed")
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES).min(SENT_BYTES / UNIT_BYTES)
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Memory,
    shared: Arc<Shared>,
}

impl Buffer {
    /// What is in it.
    pub(super) fn content(&mut self) -> &mut Vec<u8> {
        &mut self.memory.content
    }

    /// Its content, which gives it back in the end.
    pub(super) fn into_bytes(mut self) -> Bytes {
        self.note_touched();
        Bytes::from_owner(self)
    }

    fn note_touched(&mut self) {
        let more = self.memory.content.len().saturating_sub(self.memory.touched_bytes);
        self.memory.touched_bytes += more;
        self.shared.lock().touched_bytes += more;
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory.content
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.note_touched();
        let mut memory = std::mem::take(&mut self.memory);
        memory.content.clear();
        let mut state = self.shared.lock();
        state.in_use -= 1;
        // Those that have had a file that hardly could be compressed would hold on to its memory.
        let is_kept = state.in_use > 0 && state.touched_bytes <= SENT_BYTES;
        if is_kept {
            state.free.push(memory);
            return;
        }
        state.touched_bytes -= memory.touched_bytes;
        if state.in_use == 0 {
            // Nothing waits: the memory is given back.
            *state = State::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_while_another_is_in_use() {
        let bodies = Bodies::default();
        let mut first = bodies.buffer(1000);
        first.content().extend_from_slice(b"first");
        let place = first.content().as_ptr();
        let second = bodies.buffer(1000);
        let sent = first.into_bytes();
        assert_eq!(&sent[..], b"first");
        drop(sent);
        let mut third = bodies.buffer(1000);
        assert!(third.content().is_empty() && third.content().as_ptr() == place);
        drop((second, third));
        let state = bodies.shared.lock();
        assert!(state.free.is_empty() && state.touched_bytes == 0);
    }

    #[test]
    fn what_large_files_took_is_given_back_while_small_ones_are_sent() {
        let bodies = Bodies::default();
        let filled = |bytes: usize| {
            let mut buffer = bodies.buffer(bytes);
            buffer.content().resize(bytes, 1);
            buffer.into_bytes()
        };
        let large = [filled(17 << 20), filled(17 << 20), filled(17 << 20)];
        let small = filled(1 << 20);
        drop(large);
        let touched = bodies.shared.lock().touched_bytes;
        assert!(touched <= SENT_BYTES, "{touched}");
        let again = filled(1 << 20);
        assert!(bodies.shared.lock().touched_bytes <= SENT_BYTES);
        drop((small, again));
        assert_eq!(bodies.shared.lock().touched_bytes, 0);
    }

    #[tokio::test]
    async fn the_room_of_a_file_becomes_what_it_takes() {
        let bodies = Bodies::default();
        let all = SENT_BYTES / UNIT_BYTES;
        let room = bodies.fit(bodies.room().await, UNIT_BYTES).await;
        assert_eq!(bodies.room.available_permits(), all - 1);
        // The next is likely to take as much; what is too large for all room is sent alone.
        let next = bodies.room().await;
        assert_eq!(bodies.room.available_permits(), all - 2);
        drop(room);
        let next = bodies.fit(next, 100 * SENT_BYTES).await;
        assert_eq!(bodies.room.available_permits(), 0);
        drop(next);
        assert_eq!(bodies.room.available_permits(), all);
    }

    #[tokio::test]
    async fn many_files_that_take_more_than_is_likely_do_not_wait_for_each_other() {
        let bodies = Bodies::default();
        let mut rooms = Vec::new();
        while bodies.room.available_permits() >= units(FIRST_LIKELY_BYTES) {
            rooms.push(bodies.room().await);
        }
        let sent = rooms.into_iter().map(|room| async { drop(bodies.fit(room, 17 << 20).await) });
        futures_util::future::join_all(sent).await;
        assert_eq!(bodies.room.available_permits(), SENT_BYTES / UNIT_BYTES);
    }
}
