//! How the bytes of objects are encoded: as one LZ4 frame, as one zstd frame,
//! or as they are; and, in what WAL-G and WAL-E wrote, as `lzop`, `.lzma`, brotli
//! or gzip have it.
//!
//! [`Compressor`] writes as a [`Compression`] says; [`Decompressor`] reads as an
//! [`Encoding`] says, which is the extension of an object's name.
//! LZ4, zstd and gzip end with a checksum of their content, and `lzop` has one in
//! each block, unless it was run without. `.lzma` and brotli have none: damage may go
//! unnoticed there as long as something can be decoded, as it may in bytes that are
//! stored as they are. There only what is known from elsewhere shows it: the
//! attributes, header and size of a WAL file, the structure and the sums of a tar.
//!
//! An encrypted object is decrypted before it comes here, by `archived`.

mod beginning;
mod brotli;
mod compression;
mod damage;
mod decompressor;
mod encoding;
mod gzip;
mod lz4;
mod lzma;
mod lzop;
mod plain;
mod single_stream;
mod sink;
mod zstd;

#[cfg(test)]
mod tests;

pub use compression::{Compression, Compressor};
pub use decompressor::{Decompressor, named};
pub use encoding::{Encoding, StoredEncoding};
pub use plain::looks_plain;
