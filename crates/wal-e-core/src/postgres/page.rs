//! Checksums of table and index pages.
//!
//! PostgreSQL 15, `src/include/storage/checksum_impl.h` (the algorithm, FNV-1a
//! in 32 parallel columns) and `src/backend/backup/basebackup.c` (which pages
//! can be judged while the server writes to them).

use super::{BLOCK_SIZE, Lsn};

const COLUMNS: usize = 32;
const ROWS: usize = BLOCK_SIZE / 4 / COLUMNS;
const FNV_PRIME: u32 = 16_777_619;

/// Where `pd_checksum` lies in a page header.
const CHECKSUM_OFFSET: usize = 8;
/// Where `pd_upper` lies in a page header.
const UPPER_OFFSET: usize = 14;

/// The start value of each column.
const OFFSETS: [u32; COLUMNS] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// Pages of a relation's file before the next one begins (`RELSEG_SIZE`, PostgreSQL's default).
pub const BLOCKS_PER_SEGMENT_FILE: u32 = 131_072;

/// One page of a relation file.
pub type Page = [u8; BLOCK_SIZE];

/// Why a page's checksum is not what its content asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// What the page header says.
    pub stored: u16,
    /// What the content asks for.
    pub computed: u16,
}

/// The checksum that PostgreSQL would store in `page` at `block` of its relation
/// (counted over all segment files).
pub fn checksum(page: &Page, block: u32) -> u16 {
    let mut sums = OFFSETS;
    for row in 0..ROWS {
        for (column, sum) in sums.iter_mut().enumerate() {
            let at = (row * COLUMNS + column) * 4;
            let mut word = [page[at], page[at + 1], page[at + 2], page[at + 3]];
            if at == CHECKSUM_OFFSET {
                // The checksum itself counts as zero.
                word[0] = 0;
                word[1] = 0;
            }
            *sum = mix(*sum, u32::from_le_bytes(word));
        }
    }
    for _ in 0..2 {
        for sum in &mut sums {
            *sum = mix(*sum, 0);
        }
    }
    let all = sums.iter().fold(0, |all, sum| all ^ sum) ^ block;
    u16::try_from(all % 65535 + 1).expect("at most 65535")
}

#[inline(always)]
fn mix(sum: u32, value: u32) -> u32 {
    let mixed = sum ^ value;
    mixed.wrapping_mul(FNV_PRIME) ^ (mixed >> 17)
}

/// `pd_lsn`: the end of the last WAL record that changed the page.
pub fn lsn(page: &Page) -> Lsn {
    let half = |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
    Lsn(u64::from(half(0)) << 32 | u64::from(half(4)))
}

/// Whether a page was never used (`PageIsNew`).
pub fn is_new(page: &Page) -> bool {
    u16::from_le_bytes([page[UPPER_OFFSET], page[UPPER_OFFSET + 1]]) == 0
}

/// Judges a page that was read while the server may write to it.
///
/// A page that was never used has no checksum. A page changed after the backup
/// began may be torn, and replay of WAL writes it again, so only pages whose LSN
/// is before `start_lsn` are judged.
pub fn verify(page: &Page, block: u32, start_lsn: Lsn) -> Result<(), Mismatch> {
    if is_new(page) || lsn(page) >= start_lsn {
        return Ok(());
    }
    let stored = u16::from_le_bytes([page[CHECKSUM_OFFSET], page[CHECKSUM_OFFSET + 1]]);
    let computed = checksum(page, block);
    if stored == computed { Ok(()) } else { Err(Mismatch { stored, computed }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page with an LSN of 0/100, something in it, and the right checksum.
    fn sound_page(block: u32) -> Page {
        let mut page = [0; BLOCK_SIZE];
        page[4..8].copy_from_slice(&0x100_u32.to_le_bytes());
        page[UPPER_OFFSET..UPPER_OFFSET + 2].copy_from_slice(&8000_u16.to_le_bytes());
        page[8100..8110].copy_from_slice(b"some tuple");
        let sum = checksum(&page, block);
        page[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&sum.to_le_bytes());
        page
    }

    #[test]
    fn a_sound_page_passes_at_its_own_block_only() {
        let page = sound_page(7);
        assert_eq!(verify(&page, 7, Lsn(0x200)), Ok(()));
        assert!(verify(&page, 8, Lsn(0x200)).is_err());
    }

    #[test]
    fn a_changed_byte_is_noticed_unless_replay_writes_the_page() {
        let mut page = sound_page(7);
        page[5000] ^= 1;
        assert!(verify(&page, 7, Lsn(0x200)).is_err());
        assert_eq!(verify(&page, 7, Lsn(0x100)), Ok(()));
    }

    #[test]
    fn an_unused_page_has_no_checksum() {
        assert_eq!(verify(&[0; BLOCK_SIZE], 0, Lsn(u64::MAX)), Ok(()));
    }
}
