//! Secret streams of libsodium (XChaCha20-Poly1305) as WAL-G writes them.
//!
//! A header of 24 random bytes, then chunks. Each is a message of the stream with 8192 bytes
//! of content and the tag MESSAGE, and 17 bytes longer when it is stored; there is no
//! additional data. The last has what is left, which is less than 8192 bytes and may be
//! nothing, and the tag FINAL: content of 8192 bytes is a full chunk and an empty one, since
//! WAL-G does not read a full one that is FINAL.
//!
//! Each chunk is authentic only in its place after those before it, and FINAL only at the
//! end. So all of the content is known to be what was written, once the end has been read.
//!
//! The cipher is that of `dryoc`: of the crates in Rust, it is the fastest and wipes its
//! state. What it makes is compared with libsodium's own in the tests.

mod reader;
mod writer;

pub use reader::SecretStreamReader;
pub(super) use reader::opens;
pub use writer::SecretStreamWriter;

use dryoc::constants::{
    CRYPTO_SECRETSTREAM_XCHACHA20POLY1305_ABYTES, CRYPTO_SECRETSTREAM_XCHACHA20POLY1305_HEADERBYTES,
};

/// Bytes before the first chunk.
pub(super) const HEADER_BYTES: usize = CRYPTO_SECRETSTREAM_XCHACHA20POLY1305_HEADERBYTES;

/// Bytes of content in a chunk.
const CHUNK_BYTES: usize = 8192;

/// Bytes of a full chunk as it is stored.
pub(super) const STORED_CHUNK_BYTES: usize =
    CHUNK_BYTES + CRYPTO_SECRETSTREAM_XCHACHA20POLY1305_ABYTES;
