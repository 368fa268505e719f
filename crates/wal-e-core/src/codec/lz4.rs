//! Streams through the LZ4 frame format.
//!
//! What is written is what WAL-G writes and reads: one modern frame with independent blocks and
//! a checksum of the content. What is read is every frame that `lz4` writes without `-l`.
//!
//! lzzzz compresses and decompresses the blocks. The frame around them is written and read here:
//! lz4's own functions for frames, as lzzzz builds them, need about as long for the checksum as
//! for the compression.

mod header;
mod reader;
mod writer;

pub(super) use reader::Lz4Reader;
pub(super) use writer::Lz4Writer;

/// The size of a block before compression. Larger blocks compress hardly
/// better and cost memory in every stream.
pub(super) const BLOCK_BYTES: usize = 256 * 1024;
