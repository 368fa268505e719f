//! WAL archiving, in the archiver process.
//!
//! The callbacks of [`crate::pg::archive_abi`] end up here. The threads, the
//! store and its connections are made at the first file and live as long as
//! the archiver; when a setting or a credential has changed, the next file gets
//! a new store.

mod complaints;
mod stop;

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use wal_e_core::config::StoreConfig;
use wal_e_core::notice::{self, NoticeQueue, Notices};
use wal_e_core::postgres::{SegmentSize, WalFileKind, WalFileName};
use wal_e_core::store::{self, ObjectStore, retry::Patience};
use wal_e_core::wal::{self, Pushed};

use self::complaints::Complaints;
use self::stop::StopWatch;
use crate::archiver_stats;
use crate::error::{Failure, Result};
use crate::gucs;
use crate::pg::interrupts;
use crate::runtime::{Runtime, Watch};
use crate::server_log;

thread_local! {
    static ARCHIVER: RefCell<Archiver> = RefCell::new(Archiver::new());
}

/// Whether files can be archived at all; else why not. PostgreSQL asks before
/// each file, and leaves the file alone without counting a failure. The reason
/// is logged here unless the server says it.
///
/// # Errors
/// No prefix, or a malformed one.
pub fn check_configured(server_tells_reason: bool) -> Result<()> {
    let checked = gucs::prefix().map(|_| ()).map_err(Failure::from);
    if let Err(reason) = &checked
        && !server_tells_reason
    {
        ARCHIVER.with_borrow_mut(|archiver| archiver.complaints.warn("", reason));
    }
    checked
}

/// Archives one file: true once the store has confirmed it.
pub fn archive_file(name: &str, path: &Path) -> bool {
    ARCHIVER.with_borrow_mut(|archiver| archiver.archive(name, path))
}

/// The archiver ends.
pub fn shutdown() {
    ARCHIVER.with_borrow_mut(|archiver| {
        archiver.connection = None;
        archiver.runtime = None;
        server_log::emit(&archiver.queue);
    });
}

/// Counts a file that the store has confirmed.
fn note_archived(name: &str, pushed: &Pushed) {
    let Ok(file) = name.parse::<WalFileName>() else { return };
    let mark = format!("pg_wal/archive_status/{name}.ready");
    let finished_at = std::fs::metadata(mark).and_then(|mark| mark.modified()).ok();
    let end_lsn = SegmentSize::new(pushed.bytes_read)
        .filter(|_| file.kind() == WalFileKind::Segment)
        .and_then(|size| Some(file.segment_number(size)?.end_lsn(size)));
    archiver_stats::note_archived(
        &file,
        finished_at,
        end_lsn,
        pushed.bytes_read,
        pushed.bytes_stored,
    );
}

/// The state of the archiver process.
struct Archiver {
    runtime: Option<Runtime>,
    connection: Option<Connection>,
    notices: Notices,
    queue: NoticeQueue,
    complaints: Complaints,
    stop: StopWatch,
}

/// An open store, and what it was opened with.
struct Connection {
    config: StoreConfig,
    store: Arc<dyn ObjectStore>,
}

impl Archiver {
    fn new() -> Self {
        let (notices, queue) = notice::channel();
        Archiver {
            runtime: None,
            connection: None,
            notices,
            queue,
            complaints: Complaints::default(),
            stop: StopWatch::default(),
        }
    }

    fn archive(&mut self, name: &str, path: &Path) -> bool {
        if self.stop.has_given_up() {
            return false;
        }
        let result = self.push(name, path);
        server_log::emit(&self.queue);
        match result {
            Ok(pushed) => {
                note_archived(name, &pushed);
                self.stop.note_success();
                self.complaints.note_success();
                true
            }
            Err(_) if self.stop.has_given_up() => {
                self.stop.log_files_left();
                false
            }
            Err(failure) => {
                archiver_stats::note_failed(name, &failure);
                self.complaints.warn(name, &failure);
                false
            }
        }
    }

    fn push(&mut self, name: &str, path: &Path) -> Result<Pushed> {
        let file: WalFileName = name.parse()?;
        let config = gucs::store_config()?;
        let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        self.stop.begin_file(bytes);

        let store = self.store(config)?;
        let path = path.to_owned();
        self.run(async move { wal::push(store, &file, &path).await })
    }

    /// The open store, or a new one when the settings are not those it was opened with.
    fn store(&mut self, config: StoreConfig) -> Result<Arc<dyn ObjectStore>> {
        if let Some(open) = self.connection.as_ref().filter(|open| open.config == config) {
            return Ok(Arc::clone(&open.store));
        }
        self.connection = None;
        let (wanted, notices) = (config.clone(), self.notices.clone());
        let store =
            self.run(async move { store::open(&wanted, Patience::archiver(), notices).await })?;
        self.connection = Some(Connection { config, store: Arc::clone(&store) });
        Ok(store)
    }

    /// Runs `work` while looking around for a request to stop.
    fn run<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = wal_e_core::Result<T>> + Send + 'static,
    ) -> Result<T> {
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => Runtime::start()?,
        };
        let runtime = self.runtime.insert(runtime);
        let (queue, stop) = (&self.queue, &mut self.stop);
        runtime.run(work, || {
            server_log::emit(queue);
            interrupts::absorb_barrier();
            if !interrupts::postmaster_is_alive() || stop.is_overdue(Instant::now()) {
                stop.give_up();
                return Watch::GiveUp(Failure::canceled());
            }
            Watch::Continue
        })
    }
}
