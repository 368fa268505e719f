//! WAL files on their way to the store, several at a time.
//!
//! PostgreSQL asks for one file after the other and waits for each answer,
//! which takes longer than filling a segment does. So while one answer is
//! awaited, the files that come after it are compressed and sent as well, and
//! when their turn comes the answer is there. What is acknowledged, and in
//! which order, stays the server's business: this only looks at its marks.
//!
//! What is sent ahead takes names in the archive before the server has asked for
//! it. That is only right while this cluster's history is the archive's: a copy
//! of a cluster, or the second of two promoted standbys, must not take the names
//! that the other one needs. So files are sent ahead only on the timeline of the
//! last segment that went well, none accompanies a timeline history file, and
//! none is sent while the archive has a different file of the name of one that
//! waits. What is under way in the moment in which two histories part remains:
//! as many files as there are places.
//!
//! A file that was sent ahead and never acknowledged, because the process was
//! killed, is found by [`archived_already`] when the next one begins.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::file_identity::FileIdentity;
use super::push::{Pushed, Pusher};
use crate::error::Result;
use crate::postgres::archive_status::{is_ready, ready_files};
use crate::postgres::{WalFileKind, WalFileName};
use crate::tasks::{Work, joined};

mod archived_already;
mod state;

pub(super) use archived_already::archived_already;

use state::{Ahead, State};

/// At most so many files are stored before the server has asked for them.
/// Enough for hours of work after a file that an administrator has to look at first.
const MOST_AHEAD: usize = 4096;

/// How long a file that could not be sent ahead is left alone.
const SET_ASIDE: Duration = Duration::from_secs(60);

/// Sends WAL files ahead. Dropping it gives up what is under way.
#[derive(Debug)]
pub struct Pipeline {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pusher: Pusher,
    directory: PathBuf,
    /// How many files may be under way.
    places: usize,
    /// Files that were stored, or found stored, so far.
    stored: AtomicU64,
    /// Notified whenever a file is no longer under way.
    ended: Notify,
    state: Mutex<State>,
}

impl Pipeline {
    /// Files of `wal_directory`, as many at a time as `pusher` has room for, and
    /// the one that the server asks for. Within a runtime.
    pub fn new(pusher: Pusher, wal_directory: &Path) -> Self {
        Pipeline {
            shared: Arc::new(Shared {
                places: pusher.under_way(),
                pusher,
                directory: wal_directory.to_owned(),
                stored: AtomicU64::new(0),
                ended: Notify::new(),
                state: Mutex::default(),
            }),
        }
    }

    /// Archives the file that the server asks for, and returns once the store
    /// has confirmed it.
    ///
    /// # Errors
    /// As [`Pusher::push`]. What failed before the server asked is tried anew.
    ///
    /// # Cancel safety
    /// When the future is dropped the file stays under way.
    pub fn push<'a>(&'a self, name: &'a WalFileName) -> Work<'a, Result<Pushed>> {
        Box::pin(async move {
            let task = self.shared.ask_for(name);
            self.shared.look_ahead();
            joined("archiving a WAL file", task.await)
        })
    }

    /// Files under way.
    pub fn in_flight(&self) -> usize {
        self.shared.lock().running
    }

    /// A number that grows as long as uploads move.
    pub fn progress(&self) -> u64 {
        self.shared.stored.load(Ordering::Relaxed) + self.shared.pusher.activity()
    }

    /// Gives up what is under way, and returns when nothing is any more. A request
    /// that had been sent may still be carried out.
    pub fn close(&self) -> Work<'_, ()> {
        Box::pin(async move {
            self.shared.lock().closed = true;
            self.shared.pusher.cancel();
            loop {
                let mut ended = std::pin::pin!(self.shared.ended.notified());
                ended.as_mut().enable();
                if self.in_flight() == 0 {
                    return;
                }
                ended.await;
            }
        })
    }

    /// Waits for what is under way, at most `patience`, gives up the rest, and
    /// returns the files that were stored before the server asked for them.
    pub fn finish(&self, patience: Duration) -> Work<'_, Vec<(WalFileName, FileIdentity)>> {
        Box::pin(async move {
            let ahead = {
                let mut state = self.shared.lock();
                state.closed = true;
                std::mem::take(&mut state.ahead)
            };
            let deadline = tokio::time::Instant::now() + patience;
            let mut stored = Vec::new();
            for (name, Ahead { task, file, .. }) in ahead {
                if let Ok(ended) = tokio::time::timeout_at(deadline, task).await
                    && joined("archiving a WAL file", ended).is_ok()
                {
                    stored.push((name, file));
                }
            }
            self.close().await;
            stored
        })
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        // Uploads in parts clean up after themselves, as long as the runtime lets them.
        self.shared.pusher.cancel();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file's upload, which may have ended already.
    fn ask_for(self: &Arc<Self>, name: &WalFileName) -> JoinHandle<Result<Pushed>> {
        let file = FileIdentity::of(&self.directory.join(name.as_str()));
        let mut state = self.lock();
        state.queue.retain(|queued| queued != name);
        state.rescan = true;
        state.asked = Some(name.clone());
        state.asked_is_bad = false;
        // Such a file may have been moved away.
        state.conflicting.retain(|file| is_ready(&self.directory, file));
        match state.ahead.remove(name) {
            Some(ahead) if ahead.failed.is_none() && Some(&ahead.file) == file.as_ref() => {
                ahead.task
            }
            _ => self.begin(&mut state, name),
        }
    }

    /// Begins with files that wait, as many as there are places.
    fn look_ahead(self: &Arc<Self>) {
        let mut state = self.lock();
        let mut scanned = false;
        while self.places > 1
            && !state.closed
            && !state.store_failed
            && state.running < self.places
            && state.ahead.len() < MOST_AHEAD
        {
            let Some(name) = state.queue.pop_front() else {
                if scanned || !state.rescan {
                    return;
                }
                scanned = true;
                self.scan(&mut state);
                continue;
            };
            if state.ahead.contains_key(&name) || !is_ready(&self.directory, &name) {
                continue;
            }
            if !state.may_go_ahead(&name) {
                state.queue.push_front(name);
                return;
            }
            if let Some(file) = FileIdentity::of(&self.directory.join(name.as_str())) {
                let task = self.begin(&mut state, &name);
                state.ahead.insert(name, Ahead { task, file, failed: None });
            }
        }
    }

    /// Fills the queue.
    fn scan(&self, state: &mut State) {
        state.rescan = false;
        // The server reads the same directory, and says why when it cannot.
        let Ok(ready) = ready_files(&self.directory, MOST_AHEAD) else { return };
        let known: HashSet<&WalFileName> = ready.files.iter().collect();
        // What failed is tried again after a while; what the server no longer
        // wants need not be remembered.
        state.ahead.retain(|name, ahead| match ahead.failed {
            Some(failed) => failed.elapsed() < SET_ASIDE,
            None => ready.truncated || known.contains(name) || !ahead.task.is_finished(),
        });
        state.rescan = ready.truncated;
        let is_new = |name: &WalFileName| {
            !state.ahead.contains_key(name) && state.asked.as_ref() != Some(name)
        };
        state.queue = ready.files.into_iter().filter(is_new).collect();
    }

    fn begin(
        self: &Arc<Self>,
        state: &mut State,
        name: &WalFileName,
    ) -> JoinHandle<Result<Pushed>> {
        let is_history = name.kind() == WalFileKind::TimelineHistory;
        state.running += 1;
        state.running_histories += usize::from(is_history);
        let (shared, name) = (Arc::clone(self), name.clone());
        tokio::spawn(async move {
            // Made here: a runtime that has ended drops the task at once, while
            // the state is locked.
            let place = Place { shared, is_history };
            let shared = &place.shared;
            let result = shared.pusher.push(&name, &shared.directory.join(name.as_str())).await;
            if result.is_ok() {
                shared.stored.fetch_add(1, Ordering::Relaxed);
            }
            shared.lock().note(&name, &result);
            let shared = Arc::clone(shared);
            drop(place);
            shared.look_ahead();
            result
        })
    }
}

/// Counts a file under way, however it ends.
struct Place {
    shared: Arc<Shared>,
    is_history: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.running -= 1;
        state.running_histories -= usize::from(self.is_history);
        drop(state);
        self.shared.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
