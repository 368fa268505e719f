//! What a server and the program ask of an S3 store: how many requests of each kind an operation
//! takes, and how much it sends. A request more for each segment is a loss of time and money for
//! every user, and nothing else would show it.

use std::collections::BTreeMap;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::s3_server::RequestSeen;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::run_wal_e;

/// Segments that are archived one after the other.
const SEGMENTS: u32 = 4;

/// The requests of an operation: how often, what, and about which objects.
type Table = [(usize, &'static str)];

/// The first file that a server archives to an empty prefix: it makes it its own.
const FIRST_SEGMENT: &Table = &[
    (2, "GET wal_e/owner.json"),
    (1, "LIST basebackups_005/"),
    (2, "LIST wal_005/"),
    (1, "LIST wal_e/encryption/"),
    (2, "LIST wal_e/wal_encodings/"),
    (1, "PUT wal_005/SEGMENT.lz4"),
    (2, "PUT wal_e/create_only_probe"),
    (1, "PUT wal_e/owner.json"),
    (1, "PUT wal_e/wal_encodings/lz4"),
];

const MORE_SEGMENTS: &Table = &[(SEGMENTS as usize, "PUT wal_005/SEGMENT.lz4")];

/// A base backup of a cluster that is new, and the WAL that is archived for it: up to its start,
/// that of itself, and its history file.
const BASE_BACKUP: &Table = &[
    (1, "GET wal_005/SEGMENT.lz4"),
    (1, "GET wal_e/owner.json"),
    (1, "HEAD basebackups_005/BACKUP_backup_stop_sentinel.json"),
    (1, "LIST basebackups_005/BACKUP/"),
    (1, "LIST basebackups_005/BACKUP/tar_partitions/"),
    (1, "LIST uploads of basebackups_005/BACKUP/"),
    (1, "LIST wal_005/SEGMENT"),
    (1, "LIST wal_e/encryption/"),
    (1, "PUT basebackups_005/BACKUP/backup_manifest.lz4"),
    (1, "PUT basebackups_005/BACKUP/begun.json"),
    (1, "PUT basebackups_005/BACKUP/files_metadata.json"),
    (1, "PUT basebackups_005/BACKUP/metadata.json"),
    (4, "PUT basebackups_005/BACKUP/tar_partitions/TAR"),
    (1, "PUT basebackups_005/BACKUP_backup_stop_sentinel.json"),
    (1, "PUT wal_005/SEGMENT.00000028.backup.lz4"),
    (2, "PUT wal_005/SEGMENT.lz4"),
    (1, "PUT wal_e/create_only_probe"),
];

const BACKUP_LIST: &Table = &[
    (1, "GET basebackups_005/BACKUP/metadata.json"),
    (1, "GET basebackups_005/BACKUP_backup_stop_sentinel.json"),
    (1, "LIST basebackups_005/"),
];

const VERIFICATION: &Table = &[
    (1, "GET basebackups_005/BACKUP/backup_manifest.lz4"),
    (2, "GET basebackups_005/BACKUP/files_metadata.json"),
    (1, "GET basebackups_005/BACKUP/metadata.json"),
    (4, "GET basebackups_005/BACKUP/tar_partitions/TAR"),
    (2, "GET basebackups_005/BACKUP_backup_stop_sentinel.json"),
    (1, "GET wal_005/SEGMENT.lz4"),
    (2, "LIST basebackups_005/"),
    (1, "LIST basebackups_005/BACKUP/backup_manifest"),
    (2, "LIST basebackups_005/BACKUP/tar_partitions/"),
    (1, "LIST wal_005/SEGMENT"),
    (1, "PUT wal_e/verifications/BACKUP/sound.json"),
];

const WAL_FETCH: &Table = &[(1, "GET wal_005/SEGMENT.lz4")];

/// By the program, which has to find out each time what the server's archiver remembers.
const WAL_PUSH: &Table = &[
    (1, "GET wal_e/owner.json"),
    (1, "LIST wal_e/encryption/"),
    (1, "LIST wal_e/wal_encodings/"),
    (1, "PUT wal_005/SEGMENT.lz4"),
    (1, "PUT wal_e/create_only_probe"),
];

/// What is asked again after a minute, however many segments there are.
const NOW_AND_THEN: &str = "LIST wal_e/wal_encodings/";

/// What a base backup asks until its WAL is archived. How often depends on the archiver;
/// `wal_is_waited_for_with_listings_alone` in the core counts them when nothing is waited for.
const WAITING: &str = "LIST wal_005/TIMELINE";

#[test]
fn each_operation_takes_the_requests_that_it_needs_and_sends_what_it_stores() {
    for &version in PgVersion::complete() {
        let archive = Archive::s3();
        let cluster = Cluster::build(version).start_archiving_to(&archive);

        let first = asked(&archive, || cluster.archive_current_wal()).1;
        first.is("archiving the first segment", FIRST_SEGMENT);

        let (last, more) = asked(&archive, || {
            let last = cluster.write_wal_segments(SEGMENTS);
            cluster.wait_until_archived(&last);
            last
        });
        more.without(NOW_AND_THEN).is("archiving more segments", MORE_SEGMENTS);

        let (name, backup) = asked(&archive, || {
            let name = cluster.backup_push();
            wait_for("all WAL to be archived", || cluster.ready_files().is_empty());
            name
        });
        backup.without(WAITING).without(NOW_AND_THEN).is("a base backup", BASE_BACKUP);

        let program = |arguments: &[&str]| {
            asked(&archive, || run_wal_e(&archive, arguments.iter().copied()).success()).1
        };
        program(&["backup-list"]).is("backup-list", BACKUP_LIST);
        program(&["backup-verify", &name]).is("backup-verify", VERIFICATION);

        let copy = archive.scratch().create("pg_wal").join(&last);
        let path = copy.to_str().expect("it is text");
        program(&["wal-fetch", &last, path]).is("wal-fetch", WAL_FETCH);
        archive.remove_object(&format!("wal_005/{last}.lz4"));
        program(&["wal-push", path]).is("wal-push", WAL_PUSH);
    }
}

/// The requests of one operation.
struct Asked {
    requests: Vec<RequestSeen>,
    /// How much more is stored than before it.
    stored_bytes: u64,
}

/// Does something, and tells what it has asked of the store.
fn asked<T>(archive: &Archive, operation: impl FnOnce() -> T) -> (T, Asked) {
    let (before, had_bytes) = (archive.server().requests().len(), archive.bytes_below(""));
    let result = operation();
    let requests = archive.server().requests().split_off(before);
    (result, Asked { requests, stored_bytes: archive.bytes_below("") - had_bytes })
}

impl Asked {
    fn without(mut self, what: &str) -> Self {
        self.requests.retain(|request| name_of(request) != what);
        self
    }

    /// Each request is expected, and nothing was sent but what is stored now.
    #[track_caller]
    fn is(&self, operation: &str, expected: &Table) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for request in &self.requests {
            *counts.entry(name_of(request)).or_default() += 1;
        }
        let found: Vec<String> =
            counts.iter().map(|(name, count)| format!("({count}, \"{name}\"),")).collect();
        let expected: Vec<String> =
            expected.iter().map(|(count, name)| format!("({count}, \"{name}\"),")).collect();
        assert!(
            found == expected,
            "{operation} takes other requests now:\n{}\nand not:\n{}",
            found.join("\n"),
            expected.join("\n")
        );
        let sent = self.requests.iter().filter(|request| request.status == 200);
        let sent: u64 = sent.filter_map(content_length).sum();
        assert_eq!(sent, self.stored_bytes, "{operation} sends something that is not stored");
    }
}

fn content_length(request: &RequestSeen) -> Option<u64> {
    request.header("content-length")?.parse().ok()
}

/// What kind of request it is, and what it is about, without the names that differ.
fn name_of(request: &RequestSeen) -> String {
    let prefix = || {
        let mut parameters = request.query.split('&');
        let prefix = parameters.find_map(|parameter| parameter.strip_prefix("prefix="));
        prefix.unwrap_or_default().replace("%2F", "/")
    };
    let (kind, key) = match request.query.split(['=', '&']).next() {
        Some("list-type") => ("LIST ", prefix()),
        Some("uploads") if request.method == "GET" => ("LIST uploads of ", prefix()),
        _ => (&*format!("{} ", request.method), request.key.clone()),
    };
    let path = key.strip_prefix("clusters/one/").unwrap_or(&key);
    let parts: Vec<String> = path.split('/').map(without_name).collect();
    format!("{kind}{}", parts.join("/"))
}

/// A part of a key without what differs from one run to the next.
fn without_name(part: &str) -> String {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(rest) = part.strip_prefix("base_").and_then(|rest| rest.get(24..)) {
        return format!("BACKUP{rest}");
    }
    match (part.get(..24), part) {
        (Some(name), _) if is_hex(name) => format!("SEGMENT{}", &part[24..]),
        (_, timeline) if timeline.len() == 8 && is_hex(timeline) => "TIMELINE".to_owned(),
        (_, tar) if tar.contains(".tar") => "TAR".to_owned(),
        _ => part.to_owned(),
    }
}
