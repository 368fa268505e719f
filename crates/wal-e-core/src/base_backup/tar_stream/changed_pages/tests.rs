use std::fs;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::changed_blocks::{ChangedBlocks, RelationId};
use crate::notice;

const RELATION: RelationId = RelationId { tablespace: 1663, database: 5, number: 16384 };

/// The start of the parent, and that of this backup.
const SINCE: Lsn = Lsn(0x200_0028);
const UNTIL: Lsn = Lsn(0x300_0028);

/// A page with this LSN and the right checksum for its block.
fn page(block: u32, lsn: u64) -> Vec<u8> {
    let mut page = [0; BLOCK_SIZE];
    page[..4].copy_from_slice(&u32::try_from(lsn >> 32).unwrap().to_le_bytes());
    page[4..8].copy_from_slice(&u32::try_from(lsn & 0xFFFF_FFFF).unwrap().to_le_bytes());
    page[14..16].copy_from_slice(&8000_u16.to_le_bytes());
    page[8100] = u8::try_from(block % 251).unwrap();
    let sum = page::checksum(&page, block);
    page[8..10].copy_from_slice(&sum.to_le_bytes());
    page.to_vec()
}

struct Found {
    numbers: Option<Vec<u32>>,
    increment: Option<Vec<u8>>,
    warnings: Vec<String>,
}

/// What of a file of these pages an increment has, of which `first_block` is the first.
fn find(pages: &[Vec<u8>], first_block: u32, candidates: Candidates<'_>) -> Found {
    let data = tempfile::tempdir().unwrap();
    fs::create_dir(data.path().join("pg_wal")).unwrap();
    fs::write(data.path().join("pg_wal/000000010000000000000003"), "").unwrap();
    let path = data.path().join("16384");
    fs::write(&path, pages.concat()).unwrap();
    let file = File::open(&path).unwrap();
    let (notices, queue) = notice::channel();
    let source = Source {
        rate_limit: None,
        verify_before: Some(UNTIL),
        delta: None,
        progress: Default::default(),
        notices,
        cancel: CancellationToken::new(),
    };
    let delta = Delta::of_test(data.path());
    let size_bytes = (pages.len() * BLOCK_SIZE) as u64;
    let pages = PageFile {
        file: &file,
        path: &path,
        size_bytes,
        first_block,
        source: &source,
        delta: &delta,
    };
    let numbers = pages.changed(candidates).unwrap();
    let increment = numbers.clone().map(|numbers| {
        let mut increment = pages.increment(numbers);
        let mut bytes = Vec::new();
        increment.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, increment.member_bytes());
        bytes
    });
    let warnings = queue.drain().into_iter().map(|notice| notice.message).collect();
    Found { numbers, increment, warnings }
}

fn by_lsn() -> Candidates<'static> {
    Candidates::ByPageLsn { since: SINCE }
}

#[test]
fn pages_that_are_new_or_have_a_later_lsn_are_stored() {
    let first = page::BLOCKS_PER_SEGMENT_FILE;
    let mut pages: Vec<Vec<u8>> = (0..100).map(|number| page(first + number, 0x100_0000)).collect();
    pages[3] = page(first + 3, SINCE.0);
    pages[4] = page(first + 4, SINCE.0 - 1);
    pages[49] = page(first + 49, 1);
    pages[50] = vec![0; BLOCK_SIZE];
    pages[51] = page(first + 51, UNTIL.0 + 500);
    let found = find(&pages, first, by_lsn());
    assert_eq!(found.numbers.as_deref(), Some(&[3, 49, 50, 51][..]));
    let increment = found.increment.unwrap();
    let head = Head::read(&mut increment.as_slice(), increment.len() as u64).unwrap();
    assert_eq!(head.file_bytes, 100 * BLOCK_SIZE as u64);
    let content = &increment[increment.len() - 4 * BLOCK_SIZE..];
    assert_eq!(content, [&pages[3][..], &pages[49], &pages[50], &pages[51]].concat());
}

#[test]
fn a_file_without_a_change_has_an_empty_increment() {
    let pages: Vec<Vec<u8>> = (0..3).map(|number| page(number, 0x100_0000)).collect();
    assert_eq!(find(&pages, 0, by_lsn()).numbers, Some(vec![]));
}

#[test]
fn a_file_of_which_most_has_changed_is_stored_whole() {
    let pages: Vec<Vec<u8>> = (0..20).map(|number| page(number, SINCE.0 + 8)).collect();
    assert_eq!(find(&pages, 0, by_lsn()).numbers, None);
}

#[test]
fn a_page_that_is_not_what_it_should_be_makes_the_file_whole() {
    let sound: Vec<Vec<u8>> = (0..20).map(|number| page(number, 0x100_0000)).collect();
    let mut torn = sound.clone();
    torn[7][4000] ^= 1;
    assert_eq!(find(&torn, 0, by_lsn()).numbers, None);

    let mut impossible = sound.clone();
    impossible[7] = page(7, 0x7_0000_0000);
    let found = find(&impossible, 0, by_lsn());
    assert_eq!(found.numbers, None);
    assert!(found.warnings[0].contains("block 7"), "{:?}", found.warnings);

    // A map says nothing about a page that only its checksum shows to be damaged.
    let mut map = ChangedBlocks::default();
    map.note_block(RELATION, 7);
    let mapped = Candidates::Mapped { changes: map.of(RELATION), since: SINCE, until: UNTIL };
    assert_eq!(find(&torn, 0, mapped).numbers, None);
    assert_eq!(find(&sound, 0, mapped).numbers, Some(vec![7]));
}

#[test]
fn what_a_map_has_is_stored_and_what_it_lacks_is_noticed() {
    let mut pages: Vec<Vec<u8>> = (0..8).map(|number| page(number, 0x100_0000)).collect();
    let mut map = ChangedBlocks::default();
    map.note_block(RELATION, 2);
    map.note_block(RELATION, 700);
    map.note_limit(RELATION, 6);
    let mapped = || Candidates::Mapped { changes: map.of(RELATION), since: SINCE, until: UNTIL };
    assert_eq!(find(&pages, 0, mapped()).numbers, Some(vec![2, 6, 7]));

    // Each page that the map does not have changed after the parent began, so any will do.
    for number in [0, 1, 3, 4, 5] {
        pages[usize::try_from(number).unwrap()] = page(number, SINCE.0 + 1);
    }
    let found = (0..20).map(|_| find(&pages, 0, mapped())).find(|found| found.numbers.is_none());
    let found = found.expect("some page is looked at");
    assert!(found.warnings[0].contains("does not have"), "{:?}", found.warnings);

    // Since this backup began the map is not asked for them: replay has them.
    for number in [0, 1, 3, 4, 5] {
        pages[usize::try_from(number).unwrap()] = page(number, UNTIL.0 + 1);
    }
    assert!((0..20).all(|_| find(&pages, 0, mapped()).numbers == Some(vec![2, 6, 7])));
}
