//! WAL files on their way to the store and back.

mod compare;
mod confirmed;
mod fetch;
mod file_identity;
mod follow;
mod gap;
mod left_segment;
mod open;
mod open_uploads;
mod own_wal;
mod pipeline;
mod prefetch;
mod push;
mod reading;
mod tablespace_guard;
mod temporary;

/// How files are read, in bytes.
const READ_BYTES: usize = 256 * 1024;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

pub(crate) use compare::compare_with_archived;
pub use confirmed::ConfirmedFiles;
pub use fetch::{FetchOptions, Fetched, fetch, locate_sound, replace_local, verify};
pub use file_identity::FileIdentity;
pub use follow::{ArchivedWal, Followed, RecordVisitor, Stop};
pub use gap::{Continuation, continuation};
pub use open::{Archiving, open, open_beside_archiver};
pub(crate) use own_wal::OwnWal;
pub use pipeline::Pipeline;
pub use prefetch::{Position, PrefetchDirectory, Taken, prefetch_ahead};
pub use push::{PushOptions, PushOutcome, Pushed, Pusher};
pub use reading::ReadingProgress;
pub use tablespace_guard::{NewTablespaces, TablespaceGuard, UnusablePlace};
