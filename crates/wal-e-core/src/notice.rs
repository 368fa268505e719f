//! What is worth saying while work goes on.
//!
//! The core has no logger. The caller that starts a piece of work hands in a
//! [`Notices`] and empties the other end where it may print or log: the
//! extension on its main thread, the program on standard error. A full queue
//! never blocks the work: the notice is counted as dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// How many notices wait at most before further ones are dropped.
const QUEUE_LENGTH: usize = 256;

/// How loud a [`Notice`] is, in PostgreSQL's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Only for those who look for it.
    Debug,
    /// Of interest to the administrator.
    Log,
    /// Needs the attention of a person.
    Warning,
}

/// One line for the log, with its detail and hint where it has any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How loud it is.
    pub level: Level,
    /// Message in PostgreSQL's style: lower case, no final stop.
    pub message: String,
    /// A whole sentence that says how to fix it.
    pub hint: Option<String>,
}

/// The sending end; cheap to clone, and never blocks.
#[derive(Debug, Clone)]
pub struct Notices {
    sender: SyncSender<Notice>,
    dropped: Arc<AtomicU64>,
}

/// The receiving end, for the one thread that may print or log.
#[derive(Debug)]
pub struct NoticeQueue {
    receiver: Receiver<Notice>,
    dropped: Arc<AtomicU64>,
}

/// A new queue and its sending end.
pub fn channel() -> (Notices, NoticeQueue) {
    let (sender, receiver) = sync_channel(QUEUE_LENGTH);
    let dropped = Arc::new(AtomicU64::new(0));
    (Notices { sender, dropped: Arc::clone(&dropped) }, NoticeQueue { receiver, dropped })
}

impl Notices {
    /// Queues a notice, or counts it as dropped when the queue is full.
    pub fn send(&self, level: Level, message: impl Into<String>, hint: Option<String>) {
        let notice = Notice { level, message: message.into(), hint };
        if self.sender.try_send(notice).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Something that needs the attention of a person.
    pub fn warning(&self, message: impl Into<String>) {
        self.send(Level::Warning, message, None);
    }

    /// Something of interest to the administrator.
    pub fn log(&self, message: impl Into<String>) {
        self.send(Level::Log, message, None);
    }

    /// Something only for those who look for it.
    pub fn debug(&self, message: impl Into<String>) {
        self.send(Level::Debug, message, None);
    }
}

impl NoticeQueue {
    /// Takes what has been queued; says so when some were dropped.
    pub fn drain(&self) -> Vec<Notice> {
        let mut notices: Vec<Notice> = self.receiver.try_iter().collect();
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            notices.push(Notice {
                level: Level::Warning,
                message: format!("{dropped} further messages were dropped"),
                hint: None,
            });
        }
        notices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_says_so() {
        let (notices, queue) = channel();
        for n in 0..QUEUE_LENGTH + 3 {
            notices.log(format!("line {n}"));
        }
        let drained = queue.drain();
        assert_eq!(drained.len(), QUEUE_LENGTH + 1);
        assert_eq!(drained.last().unwrap().message, "3 further messages were dropped");
        assert!(queue.drain().is_empty());
    }
}
