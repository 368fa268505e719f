//! Columns and numbers for people.

pub use wal_e_core::columns::align;
pub use wal_e_core::pace::{percentage, size};
