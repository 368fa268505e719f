//! WAL files on their way to the store and back.

mod fetch;
mod push;

pub use fetch::fetch;
pub use push::{PushOutcome, Pushed, push};
