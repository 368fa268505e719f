//! What a person sees of a set-up: `wale_check()`, the view
//! `wale_stat_archiver`, and whose prefix it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, SqlFailure, rows as rows_of};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run;
use wal_e_e2e::s3_server::Refusal;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::wal_e;

/// Those that only an archive on S3 has.
const OF_S3_ONLY: [&str; 9] = [
    "proxy",
    "certificates",
    "credentials",
    "clock_skew",
    "upload_checksum",
    "multipart",
    "missing_objects",
    "listing_order",
    "server_address",
];

/// The rows for an archive on S3, in their order.
const CHECKS: [&str; 29] = [
    "preload",
    "extension",
    "archive_mode",
    "archive_library",
    "wal_level",
    "prefix",
    "readable",
    "writable",
    "listable",
    "create_only",
    "checksum",
    "deletable",
    "owner",
    "base_backup",
    "encryption",
    "proxy",
    "certificates",
    "credentials",
    "clock_skew",
    "upload_checksum",
    "multipart",
    "missing_objects",
    "listing_order",
    "server_address",
    "data_directory",
    "variables",
    "compression",
    "archiver",
    "lag",
];

/// One row of `wale_check()`.
#[derive(Debug)]
struct Row {
    ok: Option<bool>,
    detail: String,
    hint: Option<String>,
}

/// The rows of `wale_check()` by name. Each that fails has to say how to fix it.
#[track_caller]
fn check(cluster: &Cluster) -> BTreeMap<String, Row> {
    let answer = cluster
        .try_query("postgres", "SELECT check_name, ok, detail, hint FROM wale_check()")
        .unwrap_or_else(|error| panic!("wale_check() failed: {error:?}"));
    let rows = answer.into_iter().map(|row| {
        let [name, ok, detail, hint] = row.try_into().expect("four columns");
        let name = name.expect("a check has a name");
        let detail = detail.unwrap_or_else(|| panic!("{name} has no detail"));
        let ok = ok.map(|ok| ok == "t");
        match ok {
            Some(true) => assert_eq!(hint, None, "{name}: {detail}"),
            Some(false) => assert!(hint.is_some(), "{name} has no hint: {detail}"),
            None => {
                assert!(hint.is_some() || detail.starts_with("not checked: "), "{name}: {detail}")
            }
        }
        (name, Row { ok, detail, hint })
    });
    rows.collect()
}

#[track_caller]
fn assert_fails(rows: &BTreeMap<String, Row>, name: &str, words: &[&str]) {
    let row = &rows[name];
    assert_eq!(row.ok, Some(false), "{name}: {row:?}");
    let text = format!("{}\n{}", row.detail, row.hint.as_deref().unwrap_or_default());
    for word in words {
        assert!(text.contains(word), "\"{word}\" is missing in {name}: {text}");
    }
}

#[track_caller]
fn assert_not_checked(rows: &BTreeMap<String, Row>, names: &[&str]) {
    for name in names {
        assert_eq!(rows[*name].ok, None, "{name}: {:?}", rows[*name]);
    }
}

/// A column of the one row of `wale_stat_archiver`; NULL is empty.
#[track_caller]
fn stat(cluster: &Cluster, column: &str) -> String {
    cluster.query_one(&format!("SELECT {column} FROM wale_stat_archiver"))
}

#[test]
fn a_healthy_set_up_passes_every_check() {
    for (version, archive) in Archive::for_tested_versions() {
        let on_s3 = archive.url().starts_with("s3://");
        let cluster = Cluster::build(version).start_archiving_to(&archive);
        cluster.archive_current_wal();
        assert_fails(&check(&cluster), "base_backup", &["wale_backup_push()"]);
        let name = cluster.backup_push();
        cluster.archive_current_wal();
        let before = archive.objects();
        let rows = check(&cluster);
        assert!(rows.values().all(|row| row.ok == Some(true)), "{rows:#?}");
        assert!(rows["base_backup"].detail.contains(&name), "{rows:#?}");
        assert!(rows["prefix"].detail.contains(&archive.url()), "{rows:#?}");
        let identifier = cluster.query_one("SELECT system_identifier FROM pg_control_system()");
        assert!(rows["owner"].detail.contains(&identifier), "{rows:#?}");
        assert_eq!(archive.objects(), before);

        let names = cluster.query("SELECT check_name FROM wale_check()").concat();
        let expected: Vec<&str> =
            CHECKS.into_iter().filter(|name| on_s3 || !OF_S3_ONLY.contains(name)).collect();
        assert_eq!(names, expected);
        if on_s3 {
            assert!(rows["credentials"].detail.contains("env_dir"), "{rows:#?}");
        }
    }
}

#[test]
fn a_server_that_is_not_set_up_is_told_all_it_lacks() {
    let cluster = Cluster::build(PgVersion::oldest())
        .configuration("wal_level = minimal")
        .configuration("max_wal_senders = 0")
        .start();
    cluster.execute("CREATE EXTENSION wal_e");
    let rows = check(&cluster);
    assert_fails(&rows, "preload", &["shared_preload_libraries"]);
    assert_fails(&rows, "archive_mode", &["off"]);
    assert_fails(&rows, "archive_library", &["archive_library", "wal_e"]);
    assert_fails(&rows, "wal_level", &["minimal", "replica"]);
    assert_fails(&rows, "prefix", &["wal_e.prefix", "s3://bucket/path"]);
    assert_not_checked(
        &rows,
        &[
            "readable",
            "writable",
            "listable",
            "create_only",
            "checksum",
            "deletable",
            "owner",
            "base_backup",
            "encryption",
            "archiver",
            "lag",
        ],
    );
    assert_eq!(rows["compression"].ok, Some(true));
    assert_eq!(cluster.failure_of("SELECT * FROM wale_stat_archiver").sqlstate, "55000");
}

#[test]
fn settings_that_do_not_go_together_are_told() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    cluster.execute("ALTER SYSTEM SET wal_e.compression_level = 20");
    cluster.execute("ALTER SYSTEM SET archive_command = 'true'");
    cluster.reload();
    let rows = check(&cluster);
    assert_fails(&rows, "compression", &["lz4", "wal_e.compression_level"]);
    assert_fails(&rows, "archive_library", &["archive_command"]);

    // A level that was left from zstd is nothing to a method without levels.
    cluster.execute("ALTER SYSTEM SET wal_e.compression = none");
    cluster.execute("ALTER SYSTEM RESET archive_command");
    cluster.reload();
    let rows = check(&cluster);
    assert_eq!(rows["compression"].ok, Some(true));
    assert_eq!(rows["archive_library"].ok, Some(true));
    cluster.archive_current_wal();
}

#[test]
fn what_the_store_refuses_is_told_with_its_mend() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    archive.write_variable("AWS_SECRET_ACCESS_KEY", "wrong/secret+key");
    let rows = check(&cluster);
    assert_fails(&rows, "credentials", &["403", "SignatureDoesNotMatch", "env_dir"]);
    assert_fails(&rows, "readable", &["403"]);
    assert_not_checked(&rows, &["owner", "writable", "create_only", "checksum", "deletable"]);
    assert!(!format!("{rows:?}").contains("wrong/secret+key"), "a secret was printed: {rows:#?}");
    archive.write_variable("AWS_SECRET_ACCESS_KEY", archive.server().secret_key());

    archive.server().ignore_create_only(true);
    assert_fails(&check(&cluster), "create_only", &["only one server"]);
    archive.server().ignore_create_only(false);
    assert_eq!(check(&cluster)["create_only"].ok, Some(true));

    cluster.execute("ALTER SYSTEM SET wal_e.prefix = 's3://no-such-bucket/path'");
    cluster.reload();
    wait_for("the new prefix", || check(&cluster)["prefix"].detail.contains("no-such-bucket"));
    let rows = check(&cluster);
    assert_fails(&rows, "readable", &["no-such-bucket", "Create the bucket"]);
    assert_fails(&rows, "listable", &["no-such-bucket"]);
    assert_not_checked(&rows, &["owner", "base_backup", "writable"]);
}

#[test]
fn a_store_that_hangs_neither_holds_the_check_nor_its_cancellation() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::oldest())
        .configuration("shared_preload_libraries = 'wal_e'")
        .configuration_lines(archive.settings())
        .start();
    cluster.execute("CREATE EXTENSION wal_e");
    archive.proxy().set(Fault::Hang);
    let begin = Instant::now();
    let rows = check(&cluster);
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert_fails(&rows, "readable", &["10 seconds"]);
    assert_not_checked(&rows, &["credentials", "listable", "owner", "writable", "deletable"]);

    let begin = Instant::now();
    let mut client = cluster.client();
    client.batch_execute("SET statement_timeout = '1s'").expect("a setting can be set");
    let canceled = rows_of(&mut client, "SELECT * FROM wale_check()").expect_err("it hangs");
    assert_eq!(SqlFailure::of(&canceled).sqlstate, "57014");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn the_archiver_s_statistics_are_those_of_what_it_did() {
    for (version, archive) in Archive::for_tested_versions() {
        let cluster = Cluster::build(version).start_archiving_to(&archive);
        let segment = cluster.archive_current_wal();
        wait_for("the statistics of the last segment", || {
            stat(&cluster, "last_archived_wal") == segment
        });
        assert_eq!(stat(&cluster, "pg_walfile_name(last_archived_lsn - 1)"), segment);
        assert_eq!(stat(&cluster, "bytes_read = archived_count * 16 * 1024 * 1024"), "t");
        assert_eq!(stat(&cluster, "bytes_stored BETWEEN 1000 AND bytes_read"), "t");
        assert_eq!(stat(&cluster, "bytes_per_second > 0"), "t");
        assert_eq!(stat(&cluster, "queue_length"), "0");
        assert_eq!(stat(&cluster, "lag_bytes < 16 * 1024 * 1024"), "t");
        assert_eq!(stat(&cluster, "lag_bytes > 0 OR lag_seconds = 0"), "t");
        assert_eq!(stat(&cluster, "stats_reset <= last_archived_time"), "t");
        assert_eq!(stat(&cluster, "failed_count || coalesce(last_error, '-')"), "0-");

        // They belong to the server and not to the process that counts.
        let (counted, pid) = (stat(&cluster, "archived_count"), cluster.pid_of("archiver"));
        cluster.execute("ALTER SYSTEM SET archive_library = ''");
        cluster.reload();
        wait_for("another archiver", || {
            cluster.find_pid("archiver").is_some_and(|another| another != pid)
        });
        assert_eq!(stat(&cluster, "archived_count"), counted);
    }
}

#[test]
fn a_failure_is_told_until_the_archiver_has_succeeded() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    let archived = cluster.archive_current_wal();
    archive.server().refuse(Some(Refusal::AccessDenied));
    // Without anything in it, a segment is not ended.
    let write = "SELECT pg_logical_emit_message(false, 'test', 'something to archive')";
    cluster.execute(write);
    let refused = cluster.switch_wal();
    wait_for("a failure", || stat(&cluster, "failed_count") != "0");
    assert_eq!(stat(&cluster, "last_archived_wal"), archived);
    assert_eq!(stat(&cluster, "last_failed_wal"), refused);
    assert_eq!(stat(&cluster, "last_error LIKE '%AccessDenied%'"), "t");
    assert_eq!(stat(&cluster, "last_error_hint <> ''"), "t");
    assert_eq!(stat(&cluster, "queue_length"), "1");
    assert_eq!(stat(&cluster, "lag_bytes >= 16 * 1024 * 1024"), "t");
    assert_eq!(stat(&cluster, "lag_seconds > 0"), "t");
    archive.server().refuse(None);
    // The answer of the store is the archiver's, not the one that it has now.
    assert_fails(&check(&cluster), "archiver", &[&refused, "AccessDenied"]);

    cluster.execute(write);
    cluster.archive_current_wal();
    wait_for("success", || stat(&cluster, "last_archived_time > last_failed_time") == "t");
    assert_eq!(stat(&cluster, "last_failed_wal"), refused);
    assert_eq!(check(&cluster)["archiver"].ok, Some(true));
}

/// Takes no part in the archive but by base backups.
fn cluster_that_archives_nowhere(archive: &Archive) -> Cluster {
    let cluster = Cluster::build(PgVersion::oldest())
        .configuration("shared_preload_libraries = 'wal_e'")
        .configuration("archive_mode = on")
        .configuration("archive_command = '/bin/false'")
        .configuration_lines(archive.settings())
        .start();
    cluster.execute("CREATE EXTENSION wal_e");
    cluster
}

#[test]
fn a_second_cluster_on_the_prefix_is_refused_before_it_writes() {
    for archive in [Archive::file(), Archive::s3()] {
        let first = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
        first.backup_push();
        first.archive_current_wal();
        let second = cluster_that_archives_nowhere(&archive);
        let before = archive.objects();

        let identifier = |cluster: &Cluster| {
            cluster.query_one("SELECT system_identifier FROM pg_control_system()")
        };
        let directory = |cluster: &Cluster| cluster.data_directory().display().to_string();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("it has a name");
        let facts =
            [identifier(&first), identifier(&second), directory(&first), directory(&second)];
        let assert_told = |text: &str| {
            for fact in facts.iter().chain([&archive.url()]) {
                assert!(text.contains(fact), "\"{fact}\" is missing in:\n{text}");
            }
            assert_eq!(text.matches(&format!("\"{}\"", host.trim())).count(), 2, "{text}");
            assert!(text.contains("prefix of its own"), "{text}");
        };

        let failure = second.failure_of("SELECT wale_backup_push()");
        assert_eq!(failure.sqlstate, "42710", "{failure:?}");
        assert_told(&failure.text);
        assert!(!second.log().contains("started at"), "{}", second.log());
        let mut push = wal_e(&archive);
        push.env("PGHOST", second.socket_directory()).env("PGUSER", "postgres");
        assert_told(&run(push.arg("backup-push").arg(second.data_directory())).failure(1));
        let rows = check(&second);
        assert_fails(&rows, "owner", &[&facts[0], &facts[1], "prefix of its own"]);
        assert_not_checked(&rows, &["writable", "create_only", "checksum", "deletable"]);

        assert_eq!(archive.objects(), before);
        // The owner goes on.
        first.backup_push();
    }
}
