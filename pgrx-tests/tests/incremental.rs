//! Incremental base backups: what is restored from a chain of them is what a full one gives.

use fastrand::Rng;
use wal_e_core::changed_blocks::SegmentMapper;
use wal_e_core::postgres::{SegmentSize, WalFileName, WalSegment};
use wal_e_e2e::archive::Archive;
use wal_e_e2e::chains::{end_of_wal, increments, let_databases_age, push_incremental, restore_to};
use wal_e_e2e::changes::Changes;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::keys::Keys;
use wal_e_e2e::pages::assert_same_pages;
use wal_e_e2e::process::run;
use wal_e_e2e::random::seeded;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::{backup_push, run_wal_e};

/// Where an incremental backup has it from what has changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    PageLsn,
    Maps,
    Summaries,
}

impl Source {
    /// As the server's log has it.
    fn name(self) -> &'static str {
        match self {
            Source::PageLsn => "the LSN of each page",
            Source::Maps => "the archiver's maps of changed blocks",
            Source::Summaries => "the server's WAL summaries",
        }
    }

    fn setting(self) -> Option<&'static str> {
        match self {
            Source::PageLsn => None,
            Source::Maps => Some("wal_e.backup_max_deltas = 100"),
            Source::Summaries => Some("summarize_wal = on"),
        }
    }

    /// A server of any kind on which this source can be used.
    fn cluster(self, version: PgVersion, archive: &Archive, random: &mut Rng) -> Cluster {
        let mut cluster = Cluster::build(version)
            .wal_segment_size_mb([1, 16, 64][random.usize(0..3)])
            .configuration("max_prepared_transactions = 5")
            .configuration("autovacuum_naptime = 1s")
            .configuration_lines(self.setting().map(str::to_owned));
        let mut choose = |on: &str, off: &str| if random.bool() { on } else { off }.to_owned();
        cluster = cluster.configuration(choose("wal_compression = on", "wal_compression = off"));
        let hints = choose("wal_log_hints = on", "wal_log_hints = off");
        // Pages have to show all changes if nothing else does.
        if (self != Source::PageLsn || hints.ends_with("on")) && choose("", "without").is_empty() {
            cluster = cluster.without_data_checksums();
            // With hints in the WAL and without whole pages, a page gets an LSN that replay
            // does not give it (src/backend/access/transam/xlog.c, XLOG_FPI_FOR_HINT).
            if hints.ends_with("off") {
                cluster = cluster.configuration("full_page_writes = off");
            }
        }
        cluster.configuration(hints).start_archiving_to(archive)
    }
}

/// The server crashes, or is started anew, if nothing is lost by that.
fn interrupt(cluster: &mut Cluster, source: Source, random: &mut Rng) {
    match random.u32(0..6) {
        0 => cluster.kill_process(cluster.pid_of("checkpointer")),
        1 if source != Source::PageLsn => {
            cluster.kill_postmaster();
            cluster.start();
        }
        2 if source != Source::PageLsn => cluster.restart(),
        _ => {}
    }
}

/// Chains of backups of a cluster that goes through everything; each is compared page by page
/// with a full backup at the same LSN.
fn every_page_comes_back(version: PgVersion, source: Source, mut random: Rng) {
    let archive = Archive::file();
    let mut keys = Keys::begin(&archive, &mut random);
    let mut cluster = source.cluster(version, &archive, &mut random);
    cluster.create_tablespace("extra");
    let mut changes = Changes::begin(&cluster, random.fork());
    let_databases_age(&cluster);
    let mut parent = cluster.backup_push();
    let (mut chain, mut merged) = (Vec::new(), Vec::new());
    for _ in 0..random.u32(2..if rounds() > 1 { 9 } else { 5 }) {
        let count = random.u32(1..25);
        changes.make(&cluster, count);
        interrupt(&mut cluster, source, &mut random);
        let load = random.bool().then(|| {
            cluster.pgbench_init(1);
            cluster.start_pgbench()
        });
        cluster.forget_wal();
        keys.sometimes_change(&archive, &mut random);
        let name = push_incremental(&cluster);
        drop(load);
        assert_eq!(name.split_once("_D_").map(|(_, of)| of), parent.get(5..29), "{name}");
        assert!(increments(&archive, &name) > 100, "{}", increments(&archive, &name));
        parent = name.clone();
        chain.push(name);
        // The next one builds on it then.
        if random.u32(0..3) == 0 {
            parent = run_wal_e(&archive, ["backup-merge"]).success().trim().to_owned();
            merged.push(parent.clone());
        }
    }
    changes.make(&cluster, random.u32(0..10));
    let full = cluster.backup_push();
    changes.make(&cluster, 3);
    interrupt(&mut cluster, source, &mut random);
    let (lsn, end) = end_of_wal(&cluster);
    let used = format!("is known from {}", source.name());
    let log = cluster.log();
    let from: Vec<&str> = log.lines().filter(|line| line.contains("builds on")).collect();
    assert_eq!(from.len(), chain.len(), "{from:#?}");
    assert!(from.iter().all(|line| line.contains(&used)), "{from:#?}");
    assert!(!cluster.log().contains("which the record of changed blocks does not have"));
    let expected = restore_to(&cluster, &archive, &full, &lsn);
    for name in chain.iter().chain(&merged) {
        let restored = restore_to(&cluster, &archive, name, &lsn);
        assert_same_pages(restored.data_directory(), expected.data_directory(), end);
    }
    let mut last = restore_to(&cluster, &archive, &chain[chain.len() - 1], &lsn);
    last.start();
    last.amcheck();
    assert_eq!(last.fingerprint(), cluster.fingerprint());
}

/// How many clusters are made for each source.
fn rounds() -> u32 {
    let given = std::env::var("WALE_TEST_INCREMENTAL_ROUNDS").ok();
    given.map_or(1, |rounds| rounds.parse().expect("WALE_TEST_INCREMENTAL_ROUNDS is a number"))
}

fn every_page_of_many_clusters(version: PgVersion, source: Source) {
    for _ in 0..rounds() {
        every_page_comes_back(version, source, seeded());
    }
}

#[test]
fn every_page_comes_back_by_the_lsn_of_pages() {
    every_page_of_many_clusters(PgVersion::oldest(), Source::PageLsn);
}

#[test]
fn every_page_comes_back_by_the_archivers_maps() {
    every_page_of_many_clusters(PgVersion::oldest(), Source::Maps);
    every_page_of_many_clusters(PgVersion::newest(), Source::Maps);
}

#[test]
fn every_page_comes_back_by_wal_summaries() {
    every_page_of_many_clusters(PgVersion::newest(), Source::Summaries);
}

/// Takes a base backup that should be incremental, and is a full one for this reason.
#[track_caller]
fn is_full_because(cluster: &Cluster, reason: &str) -> String {
    let offset = cluster.log_offset();
    let name = push_incremental(cluster);
    assert!(!name.contains("_D_"), "{name}");
    let log = cluster.wait_for_log_after(offset, "a full base backup is taken instead");
    let line = log.lines().find(|line| line.contains("a full base backup is taken instead"));
    let line = line.expect("it has just been found");
    assert!(line.contains(reason), "{line}");
    name
}

#[track_caller]
fn is_incremental(cluster: &Cluster, parent: &str) -> String {
    let name = push_incremental(cluster);
    assert_eq!(name.split_once("_D_").map(|(_, of)| of), parent.get(5..29), "{name}");
    name
}

#[test]
fn a_full_backup_is_taken_where_an_incremental_one_could_be_wrong() {
    let archive = Archive::file();
    let mut cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    cluster.pgbench_init(1);
    let first = is_full_because(&cluster, "there is no base backup that it could build on");
    let second = is_incremental(&cluster, &first);

    // Whether hints were logged all the time is not known.
    cluster.restart();
    cluster.forget_wal();
    let third = is_full_because(&cluster, "the server was started after base backup");
    is_incremental(&cluster, &third);

    // Each page has another checksum, and the WAL knows nothing of it.
    for (change, reason) in [
        ("--disable", "data checksums were on when it was taken"),
        ("--enable", "data checksums were off when it was taken"),
    ] {
        cluster.stop(StopMode::Fast);
        let mut program = cluster.installation().command("pg_checksums");
        run(program.args([change, "--pgdata"]).arg(cluster.data_directory())).success();
        cluster.start();
        is_full_because(&cluster, reason);
    }
    is_incremental(&cluster, &archive.backups()[archive.backups().len() - 1]);

    // A backup that lost a tar, and one that a verification has found damaged.
    let parent = is_incremental(&cluster, &archive.backups()[archive.backups().len() - 1]);
    let tar = format!("basebackups_005/{parent}/tar_partitions/part_001.tar.lz4");
    let content = archive.object(&tar).expect("it has one");
    archive.remove_object(&tar);
    is_full_because(&cluster, "cannot be built on");
    archive.replace_object(&tar, content);
    let latest = archive.backups()[archive.backups().len() - 1].clone();
    archive.corrupt_object(&format!("basebackups_005/{latest}/tar_partitions/part_001.tar.lz4"));
    cluster.query("SELECT * FROM wale_backup_verify()");
    is_full_because(&cluster, "the last verification of");

    // Another server's backup, for all that the data directory knows. PostgreSQL's own note of the
    // last backup counts as well.
    let last = cluster.backup_push();
    std::fs::remove_file(cluster.data_directory().join("wal_e.taken_backups"))
        .expect("the cluster has noted its backups");
    let last = is_incremental(&cluster, &last);
    std::fs::remove_file(cluster.data_directory().join("wal_e.taken_backups"))
        .expect("the cluster has noted this one");
    let notes = std::fs::read_dir(cluster.data_directory().join("pg_wal")).expect("it is there");
    for note in notes {
        let path = note.expect("it can be read").path();
        if path.extension().is_some_and(|extension| extension == "backup") {
            std::fs::remove_file(path).expect("it can be removed");
        }
    }
    is_full_because(&cluster, "shows that it was taken of this data directory");
    assert!(second.contains("_D_") && last.contains("_D_"));
}

#[test]
fn a_parent_that_is_deleted_meanwhile_fails_the_backup() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    let parent = cluster.backup_push();
    cluster.create_incompressible_table("noise", 20);
    archive.proxy().set(Fault::Throttle(4_000_000));
    let delta = cluster.query_one("SELECT wale_backup_push(incremental => true, wait => false)");
    assert!(delta.contains("_D_"), "{delta}");
    archive.remove_object(&format!("basebackups_005/{parent}_backup_stop_sentinel.json"));
    archive.proxy().set(Fault::None);
    wait_for("the backup to fail", || {
        cluster.backup_progress().get("phase").is_some_and(|phase| phase == "failed")
    });
    let error = cluster.backup_progress().remove("error").unwrap_or_default();
    assert!(error.contains(&parent) && error.contains("which this one builds on"), "{error}");
    assert_eq!(archive.backups(), Vec::<String>::new());
}

#[test]
fn by_schedule_so_many_follow_a_full_one() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::newest())
        .configuration("wal_e.backup_schedule = '* * * * * *'")
        .configuration("wal_e.backup_max_deltas = 2")
        .start_archiving_to(&archive);
    let kinds = || {
        let backups = archive.backups();
        backups.iter().map(|name| name.contains("_D_")).collect::<Vec<_>>()
    };
    wait_for("five base backups", || {
        cluster.archive_current_wal();
        kinds().len() >= 5
    });
    assert_eq!(kinds()[..5], [false, true, true, false, true], "{:?}", archive.backups());
}

/// The row of `wale_check()` for incremental backups: whether all is well, and what is said.
fn outlook(cluster: &Cluster) -> Vec<String> {
    let row = "SELECT coalesce(ok::text, '') || ' ' || detail FROM wale_check() \
               WHERE check_name = 'incremental'";
    cluster.query(row).concat()
}

#[test]
fn the_check_says_what_the_next_one_would_be() {
    for (version, settings, source) in [
        (PgVersion::oldest(), &["wal_e.backup_max_deltas = 2"][..], "the archiver's maps"),
        (PgVersion::oldest(), &[], "the LSN of each page"),
        (
            PgVersion::newest(),
            &["wal_e.backup_max_deltas = 1", "summarize_wal = on"],
            "the server's WAL summaries",
        ),
    ] {
        let archive = Archive::file();
        let built = Cluster::build(version);
        let built = settings.iter().fold(built, |built, setting| built.configuration(*setting));
        let cluster = built.start_archiving_to(&archive);
        let before = outlook(&cluster).concat();
        assert_eq!(before.contains("there is no base backup"), !settings.is_empty(), "{before}");
        let full = cluster.backup_push();
        let latest = match settings {
            // There is a row since there is a delta.
            [] => {
                assert_eq!(outlook(&cluster), [""; 0]);
                is_incremental(&cluster, &full)
            }
            _ => full,
        };
        cluster.forget_wal();
        let said = outlook(&cluster).concat();
        assert!(said.starts_with("true ") && said.contains(&latest), "{said}");
        assert!(said.contains(&format!("from {source}")), "{said}");
        let offset = cluster.log_offset();
        is_incremental(&cluster, &latest);
        cluster.wait_for_log_after(offset, &format!("is known from {source}"));
        let said = outlook(&cluster).concat();
        assert_eq!(said.contains("1 delta backup may follow"), settings.len() == 2, "{said}");
    }
}

#[test]
fn pages_that_do_not_show_all_changes_are_not_trusted() {
    let archive = Archive::file();
    let cluster =
        Cluster::build(PgVersion::oldest()).without_data_checksums().start_archiving_to(&archive);
    cluster.query_one("SELECT wale_backup_push()");
    cluster.forget_wal();
    is_full_because(&cluster, "neither data checksums nor \"wal_log_hints\"");
}

#[test]
fn a_restored_cluster_begins_with_a_full_backup() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    let first = cluster.backup_push();
    let delta = is_incremental(&cluster, &first);
    let (lsn, _) = end_of_wal(&cluster);
    drop(cluster);
    let restored = Restore::of(PgVersion::oldest(), &delta)
        .option("--recovery-target-lsn", &lsn)
        .option("--recovery-target-action", "promote")
        .recover(&archive);
    let full = is_full_because(&restored, "it is of another timeline");
    is_incremental(&restored, &full);
}

#[test]
fn the_program_takes_them_too_and_knows_wal_gs_words() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    cluster.pgbench_init(5);
    let_databases_age(&cluster);
    let push = |options: &[&str]| {
        let pushed = run(backup_push(&cluster, &archive).args(options)).success();
        pushed.trim().to_owned()
    };
    let full = push(&["--delta"]);
    assert!(!full.contains("_D_"));
    let first = push(&["--delta"]);
    assert!(first.ends_with(&format!("_D_{}", &full[5..29])), "{first}");
    let second = push(&["--delta-max-steps", "2"]);
    assert!(second.ends_with(&format!("_D_{}", &first[5..29])), "{second}");
    let of_full = push(&["--delta", "--delta-origin", "latest_full"]);
    assert!(of_full.ends_with(&format!("_D_{}", &full[5..29])), "{of_full}");
    let limited = push(&["--delta-max-steps", "2"]);
    assert!(!limited.contains("_D_"), "{limited}");
    let none = run(backup_push(&cluster, &archive).args(["--delta-max-steps", "0"]));
    assert!(none.stderr.contains("no delta backup may follow a full one"), "{none}");
    assert!(!none.success().contains("_D_"));
    assert!(!push(&[]).contains("_D_"));

    let sentinel = archive.backup_sentinel(&second);
    assert_eq!(sentinel["DeltaFrom"], first);
    assert_eq!(sentinel["DeltaFullName"], full);
    assert_eq!(sentinel["DeltaCount"], 2);
    assert_eq!(sentinel["DeltaLSN"], archive.backup_sentinel(&first)["LSN"]);
    let listed = cluster.query(&format!(
        "SELECT delta_from, full_backup, deltas, saved_bytes > cluster_bytes / 2, \
            restore_bytes > compressed_bytes, backup_type \
         FROM wale_backup_chains() JOIN wale_backup_list() USING (backup_name) \
         WHERE backup_name = '{second}'"
    ));
    assert_eq!(listed, [[&first, &full, "2", "t", "t", "delta"]]);
    assert_eq!(cluster.query("SELECT * FROM wale_backup_verify() WHERE NOT ok").len(), 0);
}

/// Makes the kept maps anew from WAL that `change` has changed.
fn falsify_maps(cluster: &Cluster, archive: &Archive, change: impl Fn(&mut [u8])) {
    let maps = cluster.data_directory().join("pg_wal/wal_e.changed_blocks");
    for entry in std::fs::read_dir(maps).expect("the archiver keeps maps") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        let mut content = archive.wal_file(&name);
        change(&mut content);
        let name: WalFileName = name.parse().expect("a map is named as its segment");
        let size = SegmentSize::DEFAULT;
        let number = name.segment_number(size).expect("it is a segment");
        let mut mapper = SegmentMapper::new(WalSegment { timeline: name.timeline(), number }, size);
        mapper.feed(&content).expect("it is still WAL");
        let map = mapper.finish().expect("it is still WAL");
        std::fs::write(path, map.to_bytes()).expect("it can be replaced");
    }
}

/// How a record refers to a block of this table, but for the number of the block.
fn reference_to(cluster: &Cluster, table: &str) -> Vec<u8> {
    let numbers = cluster.query(&format!(
        "SELECT 1663, oid, pg_relation_filenode('{table}') FROM pg_database \
         WHERE datname = current_database()"
    ));
    let number = |text: &String| text.parse::<u32>().expect("an OID is a number").to_le_bytes();
    numbers[0].iter().flat_map(number).collect()
}

/// Every place in `content` where `pattern` is.
fn places(content: &[u8], pattern: &[u8]) -> Vec<usize> {
    let places = content.windows(pattern.len()).enumerate();
    places.filter(|(_, window)| *window == pattern).map(|(place, _)| place).collect()
}

/// A cluster with maps, a table of many pages, and a full backup.
fn mapped_cluster(archive: &Archive) -> Cluster {
    let cluster = Cluster::build(PgVersion::oldest())
        .configuration("wal_e.backup_max_deltas = 100")
        .configuration("autovacuum = off")
        .start_archiving_to(archive);
    cluster.execute(
        "CREATE TABLE t WITH (fillfactor = 50) AS SELECT g, md5(g::text) FROM generate_series(1, 60000) g; CHECKPOINT",
    );
    cluster.query("SELECT count(*) FROM t");
    let_databases_age(&cluster);
    cluster.backup_push();
    cluster
}

/// If this passes while nothing is noticed, the tests above prove nothing.
#[test]
fn a_forgotten_block_is_found_by_the_comparison_of_pages() {
    let archive = Archive::file();
    let cluster = mapped_cluster(&archive);
    cluster.execute("UPDATE t SET md5 = 'changed' WHERE ctid IN ('(7,1)', '(300,1)')");
    cluster.forget_wal();
    let reference = reference_to(&cluster, "t");
    falsify_maps(&cluster, &archive, |content| {
        let forgotten = [&reference[..], &300_u32.to_le_bytes()].concat();
        for place in places(content, &forgotten) {
            content[place + 12..place + 16].copy_from_slice(&7_u32.to_le_bytes());
        }
    });
    let delta = push_incremental(&cluster);
    assert!(delta.contains("_D_"), "{delta}");
    // One of a thousand blocks that is looked at by chance is noticed at once.
    if cluster.log().contains("block 300 of file") {
        return;
    }
    let full = cluster.backup_push();
    let (lsn, end) = end_of_wal(&cluster);
    let expected = restore_to(&cluster, &archive, &full, &lsn);
    let restored = restore_to(&cluster, &archive, &delta, &lsn);
    let compared = std::panic::catch_unwind(|| {
        assert_same_pages(restored.data_directory(), expected.data_directory(), end);
    });
    let message = compared.expect_err("a page is missing");
    let message = message.downcast_ref::<String>().expect("it is text");
    assert!(message.contains("block 300"), "{message}");
}

#[test]
fn a_map_that_lacks_changes_is_noticed_and_the_file_stored_whole() {
    let archive = Archive::file();
    let cluster = mapped_cluster(&archive);
    cluster.execute("UPDATE t SET md5 = 'changed' WHERE g % 5 = 0");
    cluster.forget_wal();
    let reference = reference_to(&cluster, "t");
    falsify_maps(&cluster, &archive, |content| {
        for place in places(content, &reference) {
            content[place + 8..place + 12].copy_from_slice(&999_999_u32.to_le_bytes());
        }
    });
    let offset = cluster.log_offset();
    let delta = push_incremental(&cluster);
    assert!(delta.contains("_D_"), "{delta}");
    cluster.wait_for_log_after(offset, "which the record of changed blocks does not have");
    let full = cluster.backup_push();
    let (lsn, end) = end_of_wal(&cluster);
    let expected = restore_to(&cluster, &archive, &full, &lsn);
    let restored = restore_to(&cluster, &archive, &delta, &lsn);
    assert_same_pages(restored.data_directory(), expected.data_directory(), end);
}
