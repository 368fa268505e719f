use super::*;
use crate::error::ErrorKind;

const NAME: &str = "base/5/16384";

/// An increment of a file of so many pages.
fn increment(file_pages: u32, changed: &[(u32, u8)]) -> Vec<u8> {
    let numbers = changed.iter().map(|(number, _)| *number).collect();
    let mut bytes = Head { file_bytes: u64::from(file_pages) * PAGE, numbers }.to_bytes();
    bytes.extend(changed.iter().flat_map(|(_, fill)| [*fill; BLOCK_SIZE]));
    bytes
}

fn whole(pages: &[u8]) -> Vec<u8> {
    pages.iter().flat_map(|fill| [*fill; BLOCK_SIZE]).collect()
}

/// A file on its way through a chain.
struct Fixture {
    assembly: Assembly,
    waiting: tempfile::NamedTempFile,
}

impl Fixture {
    fn new() -> Self {
        let waiting = tempfile::NamedTempFile::new().unwrap();
        Fixture { assembly: Assembly::default(), waiting }
    }

    /// The next older backup has these pages. A tar that turns out to be damaged does not count.
    fn pages(&mut self, bytes: &[u8], counts: bool) -> Result<()> {
        let mut content = bytes;
        let head = Head::read(&mut content, bytes.len() as u64)?;
        let begun = self.assembly.begun_or_new(Path::new(NAME), head.file_bytes);
        let missing = begun.missing(&head.numbers);
        let (file, place) = (self.waiting.as_file(), self.waiting.path());
        begun.keep_pages(&head, &missing, &mut content, file, place)?;
        if counts {
            self.assembly.settle(NAME.into(), head.file_bytes, missing);
        }
        Ok(())
    }

    /// The oldest backup has the whole file. Returns the first byte of each page.
    fn whole(&mut self, bytes: &[u8]) -> Vec<u8> {
        let begun = self.assembly.begun(Path::new(NAME)).unwrap();
        let mut content = Vec::new();
        let mut whole = WholeFile::new(bytes, &begun, self.waiting.path()).unwrap();
        whole.read_to_end(&mut content).unwrap();
        assert_eq!(content.len() as u64, begun.file_bytes());
        let (pages, rest) = content.as_chunks::<BLOCK_SIZE>();
        assert!(rest.is_empty() && pages.iter().all(|page| page.iter().all(|it| *it == page[0])));
        pages.iter().map(|page| page[0]).collect()
    }
}

#[test]
fn each_page_is_kept_once_and_is_the_newest() {
    let mut fixture = Fixture::new();
    fixture.pages(&increment(4, &[(2, 30)]), true).unwrap();
    fixture.pages(&increment(4, &[(3, 20), (2, 21), (0, 22)]), true).unwrap();
    assert_eq!(fixture.whole(&whole(&[1, 2, 3, 4])), [22, 2, 30, 20]);
    assert_eq!(fixture.waiting.as_file().metadata().unwrap().len(), 3 * PAGE);
    // One that had nothing but its size.
    let mut fixture = Fixture::new();
    fixture.pages(&increment(2, &[]), true).unwrap();
    assert_eq!(fixture.whole(&whole(&[1, 2, 3])), [1, 2]);
    assert_eq!(fixture.waiting.as_file().metadata().unwrap().len(), 0);
}

#[test]
fn what_was_cut_off_in_between_does_not_come_back() {
    let mut fixture = Fixture::new();
    // Extended by pages without content, after it had been cut.
    fixture.pages(&increment(6, &[(4, 30)]), true).unwrap();
    fixture.pages(&increment(2, &[(1, 20)]), true).unwrap();
    assert_eq!(fixture.whole(&whole(&[1, 2, 3, 4, 5])), [1, 20, 0, 0, 30, 0]);
    // The older file is shorter than all others.
    let mut fixture = Fixture::new();
    fixture.pages(&increment(4, &[(3, 30)]), true).unwrap();
    assert_eq!(fixture.whole(&whole(&[1])), [1, 0, 0, 30]);
    let mut fixture = Fixture::new();
    fixture.pages(&increment(0, &[]), true).unwrap();
    assert!(fixture.whole(&whole(&[1])).is_empty());
}

#[test]
fn what_a_damaged_tar_wrote_does_not_count() {
    let mut fixture = Fixture::new();
    fixture.pages(&increment(5, &[(0, 9), (1, 9), (4, 9)]), false).unwrap();
    fixture.pages(&increment(5, &[(1, 30)]), true).unwrap();
    fixture.pages(&increment(5, &[(0, 9), (1, 9), (2, 9), (3, 9), (4, 9)]), false).unwrap();
    fixture.pages(&increment(3, &[(2, 20)]), true).unwrap();
    assert_eq!(fixture.whole(&whole(&[1, 2, 3, 4])), [1, 30, 20, 0, 0]);
}

/// Backups with random pages, put together newest first, against the same applied one after the
/// other.
#[test]
fn it_is_what_the_backups_give_from_the_oldest_on() {
    let mut random = fastrand::Rng::with_seed(16);
    for round in 0..500 {
        let old: Vec<u8> = (0..random.usize(0..90)).map(|_| random.u8(1..)).collect();
        let mut expected = old.clone();
        let mut increments = Vec::new();
        for _ in 0..random.usize(1..6) {
            let pages = random.u32(0..90);
            let mut changed: Vec<(u32, u8)> =
                (0..pages).filter(|_| random.u8(..) < 60).map(|number| (number, 0)).collect();
            changed.iter_mut().for_each(|(_, fill)| *fill = random.u8(1..));
            expected.resize(pages as usize, 0);
            for (number, fill) in &changed {
                expected[*number as usize] = *fill;
            }
            increments.push(increment(pages, &changed));
        }
        let mut fixture = Fixture::new();
        for increment in increments.iter().rev() {
            if random.bool() {
                fixture.pages(increment, false).unwrap();
            }
            fixture.pages(increment, true).unwrap();
        }
        assert_eq!(fixture.whole(&whole(&old)), expected, "round {round}");
    }
}

#[test]
fn an_increment_that_ends_early_is_damaged() {
    let sound = increment(3, &[(1, 7)]);
    let mut content = &sound[..sound.len() - 100];
    let head = Head::read(&mut content, sound.len() as u64).unwrap();
    let begun = Begun::new(head.file_bytes);
    let (file, missing) = (tempfile::tempfile().unwrap(), begun.missing(&head.numbers));
    let error = begun.keep_pages(&head, &missing, &mut content, &file, Path::new("x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn pages_that_are_gone_are_missed() {
    let mut fixture = Fixture::new();
    fixture.pages(&increment(3, &[(0, 7), (2, 8)]), true).unwrap();
    fixture.waiting.as_file().set_len(PAGE + 1).unwrap();
    let begun = fixture.assembly.begun(Path::new(NAME)).unwrap();
    let old = whole(&[1, 1, 1]);
    let mut file = WholeFile::new(old.as_slice(), &begun, fixture.waiting.path()).unwrap();
    let error = file.next_piece().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.message().contains(fixture.waiting.path().to_str().unwrap()));
}
