//! Whether an object begins as content that is not encrypted.

use super::Encoding;
use super::beginning::{Beginning, LZ4_LEGACY, begins_as};
use super::brotli::BrotliReader;

/// How much of what has no magic number is looked at.
const TEXT_BYTES: usize = 64;

/// Whether the first bytes of an object, which may be all there are, are those of content of this
/// encoding, and not of something encrypted, which looks like random bytes.
pub fn looks_plain(head: &[u8], encoding: Encoding) -> bool {
    match encoding {
        _ if head.is_empty() => true,
        Encoding::None => is_known(head),
        // Of random bytes, few are brotli for long.
        Encoding::Brotli => BrotliReader::brotli(Beginning::new(head, encoding))
            .read(&mut [0; 1024])
            .is_ok_and(|length| length > 0),
        // It is told apart when it is decoded.
        Encoding::Lz4 if head.starts_with(&LZ4_LEGACY) => true,
        _ => begins_as(encoding, head),
    }
}

/// What is stored as it is: WAL, a tar, or text.
fn is_known(head: &[u8]) -> bool {
    // The magic number of a page of WAL, and its flags (`xlog_internal.h`).
    let is_wal = matches!(head, [_, 0xD1, 0..=0x0F, 0, ..]);
    let is_tar = head.get(257..262) == Some(b"ustar");
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let beginning = &head[..head.len().min(TEXT_BYTES)];
    is_wal || is_tar || beginning.iter().all(is_text) || beginning.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Compression, Compressor};

    #[test]
    fn content_is_told_from_random_bytes() {
        let content = b"some text of a timeline history file".repeat(300);
        for encoding in Encoding::WRITABLE {
            let compression = Compression::new(encoding, None).unwrap();
            let mut writer = Compressor::new(Vec::new(), compression).unwrap();
            std::io::Write::write_all(&mut writer, &content).unwrap();
            let stored = writer.finish().unwrap();
            assert!(looks_plain(&stored, encoding), "{encoding}");
            assert!(looks_plain(&stored[..stored.len().min(40)], encoding), "{encoding}");
        }
        let mut random = fastrand::Rng::with_seed(17);
        for _ in 0..200 {
            let mut bytes = vec![0; 8192];
            random.fill(&mut bytes);
            for encoding in [Encoding::Lz4, Encoding::Zstd, Encoding::None, Encoding::Lzma] {
                assert!(!looks_plain(&bytes, encoding), "{encoding}");
            }
        }
    }
}
