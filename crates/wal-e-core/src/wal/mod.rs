//! WAL files on their way to the store and back.

mod fetch;
mod locate;
mod push;

#[cfg(test)]
mod tests;

pub use fetch::fetch;
pub use locate::{Located, locate};
pub use push::{PushOutcome, Pushed, push};
