use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn fork(relation: u32, fork: u32, limit: Option<u32>, blocks: &[u32]) -> SummarizedFork {
    let blocks = blocks.iter().copied().collect();
    SummarizedFork { tablespace: 1663, database: 5, relation, fork, limit, blocks }
}

fn parse(file: &[u8]) -> Result<Vec<SummarizedFork>> {
    let mut forks = Vec::new();
    read(Path::new("x"), file, |fork| forks.push(fork))?;
    Ok(forks)
}

/// What is said of a file with `content`, whose frame and CRC are right.
fn flaw_of(content: impl IntoIterator<Item = u8>) -> String {
    let error = parse(&sample_of(&content.into_iter().collect::<Vec<_>>())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.message(), "WAL summary \"x\" is damaged");
    error.detail().unwrap().to_owned()
}

fn entry(numbers: [u32; 6]) -> impl Iterator<Item = u8> {
    numbers.into_iter().flat_map(u32::to_ne_bytes)
}

fn words(words: impl IntoIterator<Item = u16>) -> impl Iterator<Item = u8> {
    words.into_iter().flat_map(u16::to_ne_bytes)
}

/// A file with all that there can be, and not too long to be harmed byte by byte.
fn all_kinds() -> Vec<SummarizedFork> {
    vec![
        fork(0, MAIN_FORK, Some(0), &[]),
        fork(16384, MAIN_FORK, None, &[0, 65535, 65536, 3 * 65536 + 7]),
        fork(16384, 2, Some(1), &[0]),
        fork(16385, MAIN_FORK, Some(12), &[11, 12, 900]),
    ]
}

#[test]
fn a_name_says_timeline_start_and_end() {
    let name = WalSummaryName {
        start: Lsn(0x1_0200_0028),
        end: Lsn(0xA1_0300_0100),
        timeline: TimelineId(0x1B),
    };
    let text = "0000001B0000000102000028000000A103000100.summary";
    assert_eq!(name.to_string(), text);
    assert_eq!(text.parse::<WalSummaryName>().unwrap(), name);
}

#[test]
fn other_names_are_refused() {
    for name in [
        "",
        "temp.summary",
        "0000001b0000000102000028000000A103000100.summary",
        "0000001B0000000102000028000000A103000100",
        "0000001B0000000102000028000000A103000100.summary.1",
        "0000001B0000000102000028000000A10300010.summary",
        "0000001B0000000102000028000000A1030001000.summary",
        "+000001B0000000102000028000000A103000100.summary",
        "000000000000000102000028000000A103000100.summary",
        "0000001B000000A10300010000000001020000280.summary",
        "0000001B000000A103000100000000A103000100.summary",
        "é000001B000000010200002800000A103000100.summary",
    ] {
        assert!(name.parse::<WalSummaryName>().is_err(), "{name}");
    }
}

#[test]
fn forks_limits_and_blocks_are_read() {
    assert_eq!(parse(&sample(&all_kinds())).unwrap(), all_kinds());
    assert_eq!(parse(&sample(&[])).unwrap(), []);
}

#[test]
fn lists_and_bitmaps_hold_the_same() {
    for (count, length) in [(4095, 4095_u16), (4096, 4096), (65536, 4096)] {
        let blocks: Vec<u32> = (0..count).map(|block| 65536 + block * (65536 / count)).collect();
        let forks = [fork(9, MAIN_FORK, None, &blocks)];
        let file = sample(&forks);
        assert_eq!(file[28..32], words([0, length]).collect::<Vec<_>>());
        assert_eq!(parse(&file).unwrap(), forks);
    }
    // The server lists blocks as they come, and forgets those of a bitmap after a truncation.
    let list = entry([1663, 5, 9, 0, NO_BLOCK, 1]).chain(words([3, 40, 7, 300]));
    let forks = parse(&sample_of(&list.collect::<Vec<_>>())).unwrap();
    assert_eq!(forks, [fork(9, MAIN_FORK, None, &[7, 40, 300])]);
    let bitmap = entry([1663, 5, 9, 0, 0, 1]).chain(words([4096])).chain(words([0; 4096]));
    let forks = parse(&sample_of(&bitmap.collect::<Vec<_>>())).unwrap();
    assert_eq!(forks, [fork(9, MAIN_FORK, Some(0), &[])]);
}

#[test]
fn the_last_block_that_there_can_be_is_read() {
    let forks = [fork(9, MAIN_FORK, Some(NO_BLOCK - 1), &[NO_BLOCK - 1])];
    assert_eq!(parse(&sample(&forks)).unwrap(), forks);
    let mut bitmap = fork(9, MAIN_FORK, None, &[]);
    bitmap.blocks.insert_range(NO_BLOCK - 65535..NO_BLOCK);
    assert_eq!(parse(&sample(&[bitmap.clone()])).unwrap(), [bitmap.clone()]);
    bitmap.blocks.insert(NO_BLOCK);
    let error = parse(&sample(&[bitmap])).unwrap_err();
    assert_eq!(error.detail(), Some("A block has a number that no block has."));
}

#[test]
fn a_truncated_file_is_damaged() {
    let whole = sample(&all_kinds());
    for length in 0..whole.len() {
        let error = parse(&whole[..length]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{length}");
        assert_eq!(error.detail(), Some("It ends too early."), "{length}");
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let whole = sample(&all_kinds());
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = parse(&damaged).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}");
    }
}

#[test]
fn another_format_is_told_as_such() {
    let mut file = sample(&[]);
    file[..4].copy_from_slice(&0x652b_137c_u32.to_ne_bytes());
    let error = parse(&file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.message(), "WAL summary \"x\" has an unknown format");
    assert_eq!(error.detail(), Some("It begins with 0x652b137c, not with 0x652b137b."));
}

#[test]
fn nothing_comes_after_the_end() {
    let mut file = sample(&all_kinds());
    file.push(0);
    let error = parse(&file).unwrap_err();
    assert_eq!(error.detail(), Some("There is something after its end."));
}

#[test]
fn what_postgresql_does_not_write_is_refused_though_its_crc_is_right() {
    let order = "Its relations are not in order.";
    let one = |number| entry([1663, 5, number, 0, 0, 0]);
    assert_eq!(flaw_of(one(8).chain(one(7))), order);
    assert_eq!(flaw_of(one(8).chain(one(8))), order);
    assert_eq!(flaw_of(entry([0, 5, 7, 0, 0, 0])), "A relation is in no tablespace.");
    for fork in [4, u32::MAX] {
        assert_eq!(flaw_of(entry([1663, 5, 7, fork, 0, 0])), "A fork is of an unknown kind.");
    }
    assert_eq!(flaw_of(entry([1663, 5, 7, 0, NO_BLOCK, 0])), "A fork has no changes.");
    let nameless = "A relation has no number.";
    assert_eq!(flaw_of(entry([1663, 5, 0, 1, 0, 0])), nameless);
    assert_eq!(flaw_of(entry([1663, 5, 0, 0, 1, 0])), nameless);
    assert_eq!(flaw_of(entry([1663, 5, 0, 0, NO_BLOCK, 0])), nameless);
    assert_eq!(flaw_of(entry([1663, 5, 0, 0, 0, 1]).chain(words([1, 0]))), nameless);
    let chunks = |chunks| entry([1663, 5, 7, 0, 0, chunks]);
    let too_many = "A fork has more blocks than there can be.";
    assert_eq!(flaw_of(chunks(65537)), too_many);
    assert_eq!(flaw_of(chunks(u32::MAX)), too_many);
    assert_eq!(flaw_of(chunks(2).chain(words([1, 0, 9]))), "A fork ends with an empty chunk.");
    assert_eq!(flaw_of(chunks(1).chain(words([2, 9, 9]))), "A block is listed twice.");
    let long = chunks(1).chain(words([4097])).chain(words([0; 4097]));
    assert_eq!(flaw_of(long), "A chunk is longer than a chunk can be.");
}

#[test]
fn a_file_that_cannot_be_read_is_not_called_damaged() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
    let error = read(Path::new("x"), Broken, |_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

fn any_forks() -> impl Strategy<Value = Vec<SummarizedFork>> {
    // Small ranges, so that relations have several forks, and large blocks.
    let key = (1..4_u32, 0..3_u32, 1..5_u32, 0..=LAST_FORK);
    let list = proptest::collection::btree_set(0..3_u32 << 16, 0..40);
    let far = proptest::collection::btree_set(NO_BLOCK - 9..NO_BLOCK, 1..3);
    let far = prop_oneof![9 => Just(BTreeSet::new()), 1 => far];
    let runs = (0..70_000_u32, 1..70_000_u32);
    let changes = (proptest::option::of(any::<u32>()), list, far, proptest::option::of(runs));
    proptest::collection::btree_map(key, changes, 0..6).prop_map(|forks: BTreeMap<_, _>| {
        let forks = forks.into_iter().map(|(key, (limit, list, far, run))| {
            let (tablespace, database, relation, fork) = key;
            let mut blocks: RoaringBitmap = list.into_iter().chain(far).collect();
            if let Some((first, count)) = run {
                blocks.insert_range(first..first + count);
            }
            let limit = limit.filter(|limit| *limit != NO_BLOCK);
            SummarizedFork { tablespace, database, relation, fork, limit, blocks }
        });
        forks.filter(|fork| fork.flaw().is_none()).collect()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(forks in any_forks()) {
        prop_assert_eq!(parse(&sample(&forks)).unwrap(), forks);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes);
        let _ = parse(&sample_of(&bytes));
    }
}
