//! WAL files on their way to the store and back.

pub mod archive_status;
mod compare;
mod confirmed;
mod fetch;
mod locate;
mod open;
pub mod pipeline;
mod push;

#[cfg(test)]
mod pipeline_tests;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

pub use confirmed::ConfirmedFiles;
pub use fetch::fetch;
pub use locate::{Located, locate};
pub use open::{Archiving, open};
pub use pipeline::Pipeline;
pub use push::{PushOptions, PushOutcome, Pushed, Pusher};
