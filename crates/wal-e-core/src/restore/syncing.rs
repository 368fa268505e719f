//! Files on their way to the disk, while the next ones are written.
//!
//! A writer that syncs each file itself waits for the disk each time. So it hands the
//! files over, continues, and waits once for all the files of a tar.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::{Error, ErrorKind, Result};

/// Threads that wait for the disk.
const THREADS: usize = 4;

/// How many files may wait, each with an open descriptor.
const QUEUE_LENGTH: usize = 64;

/// Threads that sync files. They end when the pool is dropped.
#[derive(Debug)]
pub(super) struct SyncPool {
    jobs: SyncSender<Job>,
}

#[derive(Debug)]
struct Job {
    file: File,
    path: PathBuf,
    batch: Arc<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: u64,
    failure: Option<Error>,
}

/// Files whose sync is awaited together.
#[derive(Debug)]
pub(super) struct Batch {
    jobs: SyncSender<Job>,
    pending: Arc<Pending>,
}

impl SyncPool {
    /// # Errors
    /// [`ErrorKind::Io`] when the system cannot start a thread.
    pub(super) fn start() -> Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE_LENGTH);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name("sync".to_owned())
                .spawn(move || work(&queue))
                .map_err(|error| Error::io("could not start a thread", &error))?;
        }
        Ok(SyncPool { jobs })
    }

    /// A new batch.
    pub(super) fn batch(&self) -> Batch {
        Batch { jobs: self.jobs.clone(), pending: Arc::default() }
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { file, path, batch }) = next else { return };
        let result = file.sync_all().map_err(|error| Error::file("sync file", &path, &error));
        let mut state = batch.lock();
        state.waiting -= 1;
        if let Err(error) = result {
            state.failure.get_or_insert(error);
        }
        batch.done.notify_all();
    }
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    /// Hands over a written file. Blocks while the queue is full.
    pub(super) fn sync(&self, file: File, path: PathBuf) -> Result<()> {
        self.pending.lock().waiting += 1;
        let job = Job { file, path, batch: Arc::clone(&self.pending) };
        self.jobs
            .send(job)
            .map_err(|_| Error::new(ErrorKind::Bug, "the threads that sync files have ended"))
    }

    /// Waits until all files of the batch are on disk.
    ///
    /// # Errors
    /// The first error of any of them.
    pub(super) fn wait(self) -> Result<()> {
        let mut state = self.pending.lock();
        while state.waiting > 0 {
            state = self.pending.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.failure.take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_waited_for_and_reports_its_own_failure() {
        let pool = SyncPool::start().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (good, bad) = (pool.batch(), pool.batch());
        for number in 0..200 {
            let path = dir.path().join(number.to_string());
            good.sync(File::create(&path).unwrap(), path).unwrap();
        }
        // /dev/full and its kind cannot be synced.
        bad.sync(File::open("/dev/null").unwrap(), PathBuf::from("/dev/null")).unwrap();
        good.wait().unwrap();
        assert!(bad.wait().unwrap_err().message().contains("/dev/null"));
        pool.batch().wait().unwrap();
    }
}
