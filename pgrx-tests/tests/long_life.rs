//! A server that has archived, backed up and verified many times needs no more than one that has
//! done so a few times: memory, threads, open files.
//!
//! `make long-life` does it thousands of times.

use std::fmt;
use std::fs;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;

/// How often what the server has done is looked at.
const ROUNDS: u32 = 10;

/// In so many rounds a server gets what it needs for good.
const ROUNDS_TO_WARM_UP: usize = 3;

/// What memory may differ by, in bytes: allocators give back what is free in their own time.
const MEMORY_TOLERANCE_BYTES: u64 = 8 << 20;

/// What a process may have more of while it works on something.
const COUNT_TOLERANCE: usize = 4;

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
    /// Its own memory, without what it shares with others or has of files.
    memory_bytes: u64,
    threads: usize,
    files: usize,
}

impl Reading {
    fn of(pid: i32) -> Reading {
        let path = |file: &str| format!("/proc/{pid}/{file}");
        let status = fs::read_to_string(path("status")).expect("the process runs");
        let field = |label: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(label));
            let value = line.and_then(|line| line.split_whitespace().next());
            value.and_then(|value| value.parse().ok()).expect("Linux tells this of a process")
        };
        Reading {
            memory_bytes: field("RssAnon:") << 10,
            threads: field("Threads:") as usize,
            files: fs::read_dir(path("fd")).expect("the process runs").count(),
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
    fn assert_flat(&self) {
        let (young, old) = self.readings.split_at(ROUNDS_TO_WARM_UP);
        let most = |of: fn(&Reading) -> u64| young.iter().map(of).max().unwrap_or(0);
        let (memory, threads, files) = (
            most(|it| it.memory_bytes),
            most(|it| it.threads as u64) as usize,
            most(|it| it.files as u64) as usize,
        );
        let last = old.last().expect("there are rounds after those to warm up");
        let all: Vec<String> = self.readings.iter().map(Reading::to_string).collect();
        assert!(
            last.memory_bytes <= memory + MEMORY_TOLERANCE_BYTES
                && last.threads <= threads + COUNT_TOLERANCE
                && last.files <= files + COUNT_TOLERANCE,
            "the {} grows:\n{}",
            self.name,
            all.join("\n")
        );
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
