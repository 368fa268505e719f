//! A server that has archived, backed up and verified many times needs no more than one that has
//! done so a few times: memory, threads, open files.
//!
//! `make long-life` does it thousands of times.

use std::fmt;
use std::fs;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::proc_field;
use wal_e_e2e::wait::wait_for;

/// How often what the server has done is looked at.
const ROUNDS: u32 = 10;

/// In so many rounds a server gets what it needs for good.
const ROUNDS_TO_WARM_UP: usize = 3;

/// What memory may differ by, in bytes: allocators give back what is free in their own time, and
/// how much is in use at once is a matter of how much waits.
const MEMORY_TOLERANCE_BYTES: u64 = 24 << 20;

/// How many threads and files more than in its youth a server may have once it is at rest.
const COUNT_TOLERANCE: usize = 2;

/// A number of the environment.
fn number(name: &str, default: u32) -> u32 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not \"{text}\"")),
        Err(_) => default,
    }
}

/// What a process has.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// Its own, without what it shares with others or has of files.
    memory_bytes: u64,
    threads: usize,
    files: usize,
}

impl Reading {
    fn of(pid: i32) -> Reading {
        let status = |label| proc_field(format!("/proc/{pid}/status"), label);
        let known = "the process runs, and Linux tells this of it";
        Reading {
            memory_bytes: status("RssAnon:").expect(known) << 10,
            threads: status("Threads:").expect(known) as usize,
            files: fs::read_dir(format!("/proc/{pid}/fd")).expect(known).count(),
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = self.memory_bytes as f64 / f64::from(1 << 20);
        write!(f, "{megabytes:.1} MB, {} threads, {} files", self.threads, self.files)
    }
}

/// What has been read of one process, by round.
struct Life {
    name: &'static str,
    pid: i32,
    readings: Vec<Reading>,
}

impl Life {
    /// A process at work has as many threads as it works on things at once, and how many these are
    /// is chance. Threads and files are judged once it is at rest, when the threads that had
    /// nothing to do any more have ended.
    fn assert_flat(&self) {
        let (young, old) = self.readings.split_at(ROUNDS_TO_WARM_UP);
        let memory = young.iter().map(|it| it.memory_bytes).max().expect("it has warmed up");
        let threads = young.iter().map(|it| it.threads).min().expect("it has warmed up");
        let files = young.iter().map(|it| it.files).max().expect("it has warmed up");
        let last = old.last().expect("there are rounds after those to warm up");
        let all: Vec<String> = self.readings.iter().map(Reading::to_string).collect();
        assert!(
            last.memory_bytes <= memory + MEMORY_TOLERANCE_BYTES,
            "the {} grows:\n{}",
            self.name,
            all.join("\n")
        );
        let rest =
            format!("the {} comes to rest, with {threads} threads, {files} files", self.name);
        wait_for(&rest, || {
            let now = Reading::of(self.pid);
            now.threads <= threads + COUNT_TOLERANCE && now.files <= files + COUNT_TOLERANCE
        });
    }
}

fn a_server_needs_no_more_when_it_is_old(version: PgVersion, archive: &Archive) {
    let segments = number("WALE_LONG_LIFE_SEGMENTS", 200) / ROUNDS;
    let backups = number("WALE_LONG_LIFE_BACKUPS", 10) / ROUNDS;
    let cluster = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(archive);
    let mut session = cluster.client();
    let pid: i32 = session.query_one("SELECT pg_backend_pid()", &[]).expect("it is known").get(0);
    let postmaster: i32 = fs::read_to_string(cluster.data_directory().join("postmaster.pid"))
        .ok()
        .and_then(|text| text.lines().next()?.parse().ok())
        .expect("the server runs");
    let mut lives: Vec<Life> = [
        ("postmaster", postmaster),
        ("archiver", cluster.pid_of("archiver")),
        ("scheduler", cluster.pid_of("wal_e scheduler")),
        ("session", pid),
    ]
    .map(|(name, pid)| Life { name, pid, readings: Vec::new() })
    .into();
    for round in 1..=ROUNDS {
        cluster.write_wal_segments(segments);
        for _ in 0..backups {
            for statement in [
                "SELECT wale_backup_push()",
                "SELECT count(*) FROM wale_backup_verify()",
                "SELECT count(*) FROM wale_backup_list()",
                "SELECT count(*) FROM wale_wal_verify()",
                "SELECT count(*) FROM wale_recovery_window()",
                "SELECT count(*) FROM wale_check()",
            ] {
                session.execute(statement, &[]).expect("the function works");
            }
        }
        cluster.archive_current_wal();
        println!("round {round} of {ROUNDS}, PostgreSQL {}", version.major());
        for life in &mut lives {
            let reading = Reading::of(life.pid);
            println!("  {:10} {reading}", life.name);
            life.readings.push(reading);
        }
    }
    lives.iter().for_each(Life::assert_flat);
    assert_eq!(cluster.pid_of("archiver"), lives[1].pid, "it is the archiver that began");
    assert_eq!(cluster.archiver_count("failed_count"), 0);
}

#[test]
fn a_server_that_archives_to_a_directory_needs_no_more_when_it_is_old() {
    a_server_needs_no_more_when_it_is_old(PgVersion::oldest(), &Archive::file());
}

#[test]
fn a_server_that_archives_to_a_bucket_needs_no_more_when_it_is_old() {
    a_server_needs_no_more_when_it_is_old(PgVersion::newest(), &Archive::s3());
}
