//! WAL files on their way to the store and back.

mod push;

pub use push::{PushOutcome, Pushed, push};
