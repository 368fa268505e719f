//! WAL files on their way to the store and back.

mod fetch;
mod push;

#[cfg(test)]
mod tests;

pub use fetch::fetch;
pub use push::{PushOutcome, Pushed, push};
