//! How the bytes of objects are encoded: as one LZ4 frame, as one zstd frame,
//! or as they are.
//!
//! [`Compressor`] writes as a [`Compression`] says; [`Decompressor`] reads what
//! an [`Encoding`] says, which an object tells by the extension of its name.
//! Both frames end with a checksum of their content. Bytes that are stored as
//! they are have none of their own: only what is kept beside them (the
//! attributes of a WAL object, the sums of a tar's headers) can tell damage.

mod compression;
mod decompressor;
mod encoding;
mod frame;
mod lz4;
mod sink;
mod zstd;

#[cfg(test)]
mod tests;

pub use compression::{Compression, Compressor};
pub use decompressor::Decompressor;
pub use encoding::{Encoding, StoredEncoding};
