use super::*;
use crate::postgres::wal_summary::sample;

const TIMELINE: TimelineId = TimelineId(2);

fn name(start: u64, end: u64) -> WalSummaryName {
    WalSummaryName { start: Lsn(start), end: Lsn(end), timeline: TIMELINE }
}

fn stretch(from: u64, to: u64) -> Stretch {
    Stretch { timeline: TIMELINE, from: Lsn(from), to: Lsn(to) }
}

fn fork(relation: u32, fork: u32, limit: Option<u32>, blocks: &[u32]) -> SummarizedFork {
    let blocks = blocks.iter().copied().collect();
    SummarizedFork { tablespace: 1663, database: 5, relation, fork, limit, blocks }
}

fn relation(number: u32) -> RelationId {
    RelationId { tablespace: 1663, database: 5, number }
}

/// A data directory with summaries.
struct Server(tempfile::TempDir);

impl Server {
    fn new() -> Self {
        let server = Server(tempfile::tempdir().unwrap());
        fs::create_dir_all(server.summaries()).unwrap();
        server
    }

    fn summaries(&self) -> PathBuf {
        self.0.path().join(DIRECTORY)
    }

    /// As the server does it.
    fn summarizes(&self, name: WalSummaryName, forks: &[SummarizedFork]) {
        let temporary = self.summaries().join("temp.summary");
        fs::write(&temporary, sample(forks)).unwrap();
        fs::rename(temporary, self.summaries().join(name.to_string())).unwrap();
    }

    /// What there is without waiting.
    async fn told(&self, stretch: Stretch) -> Result<ChangedBlocks, NotTold> {
        let cancel = CancellationToken::new();
        let directory = self.0.path();
        changed_since(directory, stretch, false, far_off(), &cancel).await.unwrap()
    }
}

fn far_off() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn gap(at: u64) -> NotTold {
    NotTold::Gap { timeline: TIMELINE, at: Lsn(at) }
}

#[test]
fn those_that_overlap_with_the_stretch_are_needed() {
    let names = [name(30, 40), name(10, 20), name(20, 30), name(40, 50)];
    let (first, second, third) = (names[1], names[2], names[0]);
    let covers = |from, to| covering(&names, stretch(from, to));
    assert_eq!(covers(10, 40), Ok(vec![first, second, third]));
    assert_eq!(covers(19, 31), Ok(vec![first, second, third]));
    assert_eq!(covers(20, 30), Ok(vec![second]));
    assert_eq!(covers(29, 30), Ok(vec![second]));
    assert_eq!(covers(30, 31), Ok(vec![third]));
    assert_eq!(covers(20, 20), Ok(vec![]));
}

#[test]
fn overlapping_summaries_are_all_read() {
    let names = [name(10, 40), name(20, 30), name(25, 60), name(25, 50)];
    let covered = covering(&names, stretch(15, 60)).unwrap();
    assert_eq!(covered, [name(10, 40), name(20, 30), name(25, 50), name(25, 60)]);
}

#[test]
fn a_gap_is_told_with_its_beginning() {
    let names = [name(10, 20), name(21, 30), name(30, 40)];
    let at = |from, to| covering(&names, stretch(from, to)).map_err(|uncovered| uncovered.at.0);
    assert_eq!(at(10, 40), Err(20));
    assert_eq!(at(20, 40), Err(20));
    assert_eq!(at(9, 15), Err(9));
    assert_eq!(at(21, 41), Err(40));
    assert_eq!(at(50, 60), Err(50));
    assert!(at(10, 20).is_ok() && at(21, 40).is_ok());
    let other = Stretch { timeline: TimelineId(3), ..stretch(10, 20) };
    assert_eq!(covering(&names, other), Err(Uncovered { at: Lsn(10) }));
}

#[tokio::test]
async fn main_forks_of_all_summaries_add_up() {
    let server = Server::new();
    let whole = SummarizedFork { tablespace: 9999, ..fork(0, MAIN_FORK, Some(0), &[]) };
    let first = [fork(0, MAIN_FORK, Some(0), &[]), fork(7, MAIN_FORK, Some(20), &[1, 30])];
    server.summarizes(name(10, 20), &first);
    let second = [fork(7, MAIN_FORK, None, &[3]), fork(7, 2, Some(0), &[]), fork(8, 3, None, &[0])];
    server.summarizes(name(20, 30), &[&second[..], &[whole]].concat());
    server.summarizes(name(30, 40), &[fork(9, MAIN_FORK, None, &[1])]);
    fs::write(server.summaries().join("temp.summary"), "x").unwrap();

    let mut expected = ChangedBlocks::default();
    expected.note_database(1663, 5);
    expected.note_database(9999, 5);
    for block in [1, 3, 30] {
        expected.note_block(relation(7), block);
    }
    expected.note_limit(relation(7), 20);
    assert_eq!(server.told(stretch(12, 30)).await, Ok(expected));
    assert_eq!(server.told(stretch(12, 12)).await, Ok(ChangedBlocks::default()));
}

#[tokio::test]
async fn a_server_without_a_directory_for_summaries_is_told() {
    let server = Server::new();
    assert_eq!(server.told(stretch(10, 20)).await, Err(gap(10)));
    fs::remove_dir(server.summaries()).unwrap();
    let none = server.told(stretch(10, 20)).await.unwrap_err();
    assert_eq!(none, NotTold::NoDirectory);
    assert_eq!(none.to_string(), "the server has no directory \"pg_wal/summaries\"");
    let at = gap(0x1_0000_0028).to_string();
    assert_eq!(at, "no WAL summary covers timeline 2 from 1/28 on");
}

#[tokio::test]
async fn a_damaged_summary_among_sound_ones_is_named() {
    let server = Server::new();
    server.summarizes(name(10, 20), &[fork(7, MAIN_FORK, None, &[1])]);
    let damaged = server.summaries().join(name(20, 30).to_string());
    fs::write(&damaged, &sample(&[fork(7, MAIN_FORK, None, &[2])])[..40]).unwrap();
    server.summarizes(name(30, 40), &[]);
    assert!(server.told(stretch(10, 20)).await.is_ok());
    let Err(NotTold::Unreadable(error)) = server.told(stretch(10, 40)).await else { panic!() };
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let file = "000000020000000000000014000000000000001E.summary";
    assert!(error.message().contains(file), "{error}");
}

#[test]
fn a_summary_that_is_removed_before_it_is_read_is_a_gap() {
    let server = Server::new();
    let read = |from| read(&server.summaries(), name(10, 20), stretch(from, 30));
    assert_eq!(read(5), Err(gap(10)));
    assert_eq!(read(15), Err(gap(15)));
    // Not a file at all.
    fs::create_dir(server.summaries().join(name(10, 20).to_string())).unwrap();
    assert!(matches!(read(5), Err(NotTold::Unreadable(error)) if error.kind() == ErrorKind::Io));
}

#[tokio::test]
async fn what_is_to_come_is_waited_for() {
    let server = Server::new();
    server.summarizes(name(10, 20), &[fork(7, MAIN_FORK, None, &[1])]);
    let cancel = CancellationToken::new();
    let waiting = changed_since(server.0.path(), stretch(10, 30), true, far_off(), &cancel);
    let summarizing = async {
        tokio::task::yield_now().await;
        server.summarizes(name(20, 25), &[fork(7, MAIN_FORK, None, &[2])]);
        tokio::time::sleep(POLL / 2).await;
        server.summarizes(name(25, 30), &[fork(7, MAIN_FORK, None, &[3])]);
    };
    let (told, ()) = tokio::join!(waiting, summarizing);
    let mut expected = ChangedBlocks::default();
    expected.note_blocks(relation(7), [1, 2, 3].into_iter().collect());
    assert_eq!(told.unwrap(), Ok(expected));
}

#[tokio::test]
async fn waiting_ends_at_the_deadline_and_with_the_work() {
    let server = Server::new();
    server.summarizes(name(10, 20), &[]);
    let cancel = CancellationToken::new();
    let wait = |deadline| changed_since(server.0.path(), stretch(10, 30), true, deadline, &cancel);
    assert_eq!(wait(Instant::now()).await.unwrap(), Err(gap(20)));
    assert_eq!(wait(Instant::now() + POLL / 10).await.unwrap(), Err(gap(20)));
    let (told, ()) = tokio::join!(wait(far_off()), async { cancel.cancel() });
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn a_gap_that_the_server_has_passed_is_not_waited_for() {
    let server = Server::new();
    server.summarizes(name(10, 20), &[]);
    let cancel = CancellationToken::new();
    let wait = |to| changed_since(server.0.path(), stretch(10, to), true, far_off(), &cancel);
    // Beyond the stretch.
    server.summarizes(name(50, 60), &[]);
    assert_eq!(wait(30).await.unwrap(), Err(gap(20)));
    assert_eq!(wait(70).await.unwrap(), Err(gap(20)));
    // On a later timeline.
    let server = Server::new();
    server.summarizes(name(10, 20), &[]);
    server.summarizes(WalSummaryName { timeline: TimelineId(3), ..name(30, 40) }, &[]);
    let waiting = changed_since(server.0.path(), stretch(10, 30), true, far_off(), &cancel);
    assert_eq!(waiting.await.unwrap(), Err(gap(20)));
}

#[tokio::test]
async fn a_stretch_does_not_end_before_it_begins() {
    let server = Server::new();
    let cancel = CancellationToken::new();
    let backwards = changed_since(server.0.path(), stretch(20, 10), false, far_off(), &cancel);
    assert_eq!(backwards.await.unwrap_err().kind(), ErrorKind::Bug);
}

#[test]
fn how_far_summaries_reach_is_seen_by_their_names() {
    let server = Server::new();
    let reach = |from, to| reach(server.0.path(), stretch(from, to));
    assert_eq!(reach(100, 300), Ok(Lsn(100)), "all may still come");
    server.summarizes(name(50, 200), &[]);
    assert_eq!(reach(100, 300), Ok(Lsn(200)));
    assert_eq!(reach(100, 150), Ok(Lsn(150)));
    server.summarizes(name(250, 300), &[]);
    assert_eq!(reach(100, 300), Err(gap(200)));
    assert_eq!(super::reach(Path::new("/nowhere"), stretch(1, 2)), Err(NotTold::NoDirectory));
}
