//! WAL files on their way to the store and back.

mod compare;
mod confirmed;
mod fetch;
mod locate;
mod open;
mod pipeline;
mod push;
mod verify;

/// How files are read, in bytes.
const READ_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod pipeline_tests;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

pub use confirmed::ConfirmedFiles;
pub use fetch::fetch;
pub use locate::{Located, locate};
pub use open::{Archiving, open};
pub use pipeline::{FileIdentity, Pipeline};
pub use push::{PushOptions, PushOutcome, Pushed, Pusher};
pub use verify::verify;
