//! The files of WAL-G's delta backups: changed pages of a relation's file.

const PAGE_BYTES: usize = 8192;

/// Whether WAL-G looks at the pages of a file of this name (below the data
/// directory) and content.
pub fn is_paged(path: &str, content: &[u8]) -> bool {
    let Some((directory, name)) = path.rsplit_once('/') else { return false };
    let (number, segment) = name.split_once('.').unwrap_or((name, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (directory.contains("base") || directory.contains("pg_tblspc"))
        && digits(number)
        && digits(segment)
        && !content.is_empty()
        && content.len().is_multiple_of(PAGE_BYTES)
}

/// The increment of `content` with the pages that changed since `lsn`, and new
/// ones; `None` when a page does not look like one, and the file is stored whole.
pub fn increment(content: &[u8], lsn: u64) -> Option<Vec<u8>> {
    let mut blocks = Vec::new();
    for (number, page) in content.chunks_exact(PAGE_BYTES).enumerate() {
        let half = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
        let word = |at: usize| u64::from(half(at + 2)) << 16 | u64::from(half(at));
        let (lower, upper, special) = (half(12), half(14), half(16));
        let is_new = upper == 0;
        let is_sound = 24 <= lower && lower <= upper && upper <= special && special <= 8192;
        if !is_new && !is_sound {
            return None;
        }
        // The two halves of an LSN are words of their own, the higher one first.
        if is_new || word(0) << 32 | word(4) >= lsn {
            blocks.push(u32::try_from(number).expect("a segment has 131072 pages"));
        }
    }
    let mut file = b"wi1\x55".to_vec();
    file.extend((content.len() as u64).to_le_bytes());
    file.extend((blocks.len() as u32).to_le_bytes());
    file.extend(blocks.iter().flat_map(|block| block.to_le_bytes()));
    for block in blocks {
        let start = block as usize * PAGE_BYTES;
        file.extend(&content[start..start + PAGE_BYTES]);
    }
    Some(file)
}
