//! When something is due, and who does it.

mod claims;
mod times;
