//! Makes the maps of the blocks that WAL segments change, as the archiver does while it compresses
//! them: `mapped_wal FILE...`. For `scripts/costs`.

use std::path::Path;

use wal_e_core::changed_blocks::SegmentMapper;
use wal_e_core::postgres::{SegmentSize, WalFileName, WalSegment};

/// How much of a segment the archiver has at a time.
const PIECE_BYTES: usize = 256 * 1024;

#[expect(clippy::disallowed_methods, reason = "a program has arguments")]
fn main() {
    let maps = std::env::args().skip(1).map(|path| map(Path::new(&path)).len());
    assert!(maps.sum::<usize>() > 0, "there are no segments");
}

fn map(path: &Path) -> Vec<u8> {
    let content = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let size = SegmentSize::new(content.len() as u64).expect("it is a whole segment");
    let name = path.file_name().and_then(|name| name.to_str()?.parse::<WalFileName>().ok());
    let name = name.expect("it is named like a segment");
    let number = name.segment_number(size).expect("it is a segment");
    let mut mapper = SegmentMapper::new(WalSegment { timeline: name.timeline(), number }, size);
    for piece in content.chunks(PIECE_BYTES) {
        mapper.feed(piece).expect("it is valid");
    }
    mapper.finish().expect("it is whole").to_bytes()
}
