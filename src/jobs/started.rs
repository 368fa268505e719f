//! Work that was started by a process that does something else meanwhile.

use pgrx::bgworkers::DynamicBackgroundWorker;

use super::caller::lost;
use super::slot::{self, Status, View};
use super::{Job, worker};
use crate::error::Result;
use crate::pg::worker_process::has_ended;

/// A job on its way. Its worker gives up when the process that started it ends.
pub struct Started<J: Job> {
    generation: u64,
    worker: DynamicBackgroundWorker,
    job: std::marker::PhantomData<J>,
}

impl<J: Job> Started<J> {
    /// Has the job done in a worker. The latch of this process is set when that ends.
    ///
    /// # Errors
    /// When such work is running already, or no worker can be started.
    pub fn start(request: &J::Request) -> Result<Self> {
        let generation = slot::reserve::<J>(request, true)?;
        let worker = worker::start::<J>(generation).inspect_err(|failure| {
            slot::end_abandoned::<J>(generation, failure.clone());
        })?;
        Ok(Started { generation, worker, job: std::marker::PhantomData })
    }

    /// What it came to; `None` while it is on its way.
    pub fn ended(&self) -> Option<Result<View<J>>> {
        if has_ended(&self.worker) {
            // Without an outcome, unless it came in the meantime.
            slot::end_abandoned::<J>(self.generation, lost::<J>());
        }
        match slot::view_of::<J>(self.generation) {
            None => Some(Err(lost::<J>())),
            Some(View { status: Status::Active, .. }) => None,
            Some(View { status: Status::Failed(failure), .. }) => Some(Err(failure)),
            Some(view) => Some(Ok(view)),
        }
    }

    /// Asks it to stop.
    pub fn cancel(&self) {
        slot::request_cancel::<J>(Some(self.generation));
    }
}
