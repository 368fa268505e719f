//! What a server and the program ask of an S3 store: how many requests of each kind an operation
//! takes, and how much it sends. More than that is a loss of time and money for each user, and
//! nothing else would show it.

use std::collections::BTreeMap;
use std::fmt::Write;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::s3_server::RequestSeen;
use wal_e_e2e::wal_e::run_wal_e;

/// The requests between two moments.
struct Asked(Vec<RequestSeen>);

impl Asked {
    /// Requests by their kind and what they are about, a line for each.
    fn table(&self) -> String {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for request in &self.0 {
            *counts.entry(kind(request)).or_default() += 1;
        }
        counts.iter().fold(String::new(), |mut table, (kind, count)| {
            let _ = writeln!(table, "{count} {kind}");
            table
        })
    }

    /// Bytes of content that were sent.
    fn bytes_sent(&self) -> u64 {
        let length = |request: &RequestSeen| request.header("content-length")?.parse::<u64>().ok();
        self.0.iter().filter_map(length).sum()
    }
}

/// What S3 bills, and what it is about.
fn kind(request: &RequestSeen) -> String {
    format!("{} {} ? {} -> {}", request.method, request.key, request.query, request.status)
}

fn asked<T>(archive: &Archive, operation: impl FnOnce() -> T) -> (T, Asked) {
    let before = archive.server().requests().len();
    let result = operation();
    (result, Asked(archive.server().requests().split_off(before)))
}

#[test]
fn each_operation_takes_as_many_requests_as_it_needs() {
    for &version in PgVersion::complete() {
        let archive = Archive::s3();
        let cluster = Cluster::build(version).start_archiving_to(&archive);
        let (first, begun) = asked(&archive, || cluster.archive_current_wal());
        println!("begin\n{}", begun.table());
        let (last, archived) = asked(&archive, || {
            let last = cluster.write_wal_segments(4);
            cluster.wait_until_archived(&last);
            last
        });
        println!("archived {}\n{}", archived.bytes_sent(), archived.table());
        let (name, backup) = asked(&archive, || cluster.backup_push());
        println!("backup {}\n{}", backup.bytes_sent(), backup.table());
        let (_, listed) = asked(&archive, || run_wal_e(&archive, ["backup-list"]).success());
        println!("list\n{}", listed.table());
        let destination = archive.scratch().create("fetched").join("segment");
        let destination = destination.to_str().expect("it is text");
        let (_, fetched) =
            asked(&archive, || run_wal_e(&archive, ["wal-fetch", &last, destination]).success());
        println!("fetch\n{}", fetched.table());
        let (_, verified) =
            asked(&archive, || run_wal_e(&archive, ["backup-verify", &name]).success());
        println!("verify\n{}", verified.table());
        let _ = first;
    }
}
