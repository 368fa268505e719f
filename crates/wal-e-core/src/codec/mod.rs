//! How objects are compressed: one LZ4 frame an object.

mod frame;
mod lz4;

pub use frame::FrameReader;
pub use lz4::{Lz4Reader, Lz4Writer};
