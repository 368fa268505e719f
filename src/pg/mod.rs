//! The only room for `unsafe`, for hand-declared parts of PostgreSQL's ABI and
//! for differences between its versions. The rest of the extension compiles
//! unchanged on all of them.

pub mod archive_abi;
pub mod backup_mode;
pub mod clock;
pub mod guc_hooks;
pub mod interrupts;
pub mod lsn_datum;
pub mod notify;
pub mod processes;
pub mod progress_view;
pub mod report;
pub mod server;
pub mod shared_memory;
pub mod signals;
pub mod text;
pub mod timeouts;
pub mod version;
pub mod worker_process;
