//! What is known of the files that wait and of those under way, and what that allows.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{TimelineId, WalFileKind, WalFileName};
use crate::wal::file_identity::FileIdentity;
use crate::wal::push::Pushed;

#[derive(Debug, Default)]
pub(super) struct State {
    /// Waiting files that are yet to be sent, in the server's order.
    pub(super) queue: VecDeque<WalFileName>,
    /// Whether there may be marks that were not seen yet.
    pub(super) rescan: bool,
    /// Sent, or being sent, before the server asked.
    pub(super) ahead: HashMap<WalFileName, Ahead>,
    /// What the server asked for last. Its mark may stay for a moment longer.
    pub(super) asked: Option<WalFileName>,
    /// It cannot be archived as it is, through no fault of the store.
    pub(super) asked_is_bad: bool,
    /// Files under way, the one that was asked for included.
    pub(super) running: usize,
    /// How many of these are timeline history files.
    pub(super) running_histories: usize,
    /// The timeline of the last segment that the archive has taken, or had.
    pub(super) sound_on: Option<TimelineId>,
    /// Waiting files of which the archive has different ones.
    pub(super) conflicting: HashSet<WalFileName>,
    /// The store failed: only what the server asks for is tried until it works again.
    pub(super) store_failed: bool,
    /// Nothing is begun any more.
    pub(super) closed: bool,
}

impl State {
    /// Whether a file may be sent ahead, as far as history goes.
    pub(super) fn may_go_ahead(&self, name: &WalFileName) -> bool {
        // No reader may find a segment in the archive before it can know where
        // its timeline came from.
        self.conflicting.is_empty()
            && self.running_histories == 0
            && (self.sound_on == Some(name.timeline()) || self.asked_is_bad && self.running == 0)
    }

    /// Takes note of how a file ended.
    pub(super) fn note(&mut self, name: &WalFileName, result: &Result<Pushed>) {
        match result {
            Ok(_) => {
                if std::mem::take(&mut self.store_failed) {
                    // What failed with the store need not wait.
                    self.ahead.retain(|_, ahead| ahead.failed.is_none());
                    self.rescan = true;
                }
                self.sound_on = match name.kind() {
                    WalFileKind::Segment | WalFileKind::Partial => Some(name.timeline()),
                    WalFileKind::TimelineHistory => None,
                    WalFileKind::BackupHistory => self.sound_on,
                };
                self.conflicting.remove(name);
            }
            Err(error) => {
                match error.kind() {
                    ErrorKind::Conflict => {
                        self.conflicting.insert(name.clone());
                    }
                    ErrorKind::Corrupt | ErrorKind::Io if self.asked.as_ref() == Some(name) => {
                        self.asked_is_bad = true;
                    }
                    _ => {}
                }
                self.store_failed |= is_of_store(error);
                if let Some(ahead) = self.ahead.get_mut(name) {
                    ahead.failed = Some(Instant::now());
                }
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) task: JoinHandle<Result<Pushed>>,
    pub(super) file: FileIdentity,
    pub(super) failed: Option<Instant>,
}

/// Whether other files would fail in the same way.
fn is_of_store(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Conflict | ErrorKind::Io)
}
