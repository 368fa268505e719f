//! Base backups from SQL: what they leave in the store when they succeed, and
//! what they do not leave when they end early.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postgres::{Config, NoTls};
use wal_e_e2e::archive::{Archive, decompress};
use wal_e_e2e::cluster::{Cluster, SqlFailure, StopMode};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::is_running;
use wal_e_e2e::s3_server::Refusal;
use wal_e_e2e::wait::wait_for;

/// Size of a PostgreSQL page in bytes.
const PAGE_SIZE: u64 = 8192;

#[test]
fn a_backup_under_load_has_every_object_and_is_listed() {
    for (version, archive) in Archive::for_tested_versions() {
        let cluster = Cluster::build(version).start_archiving_to(&archive);
        cluster.pgbench_init(2);
        cluster.create_tablespace("extra");
        cluster
            .execute("CREATE TABLE in_extra TABLESPACE extra AS SELECT generate_series(1, 1000) i");
        let load = cluster.start_pgbench();
        let name = cluster.query_one("SELECT wale_backup_push('under load', permanent => true)");
        load.stop();

        let start_segment = name.strip_prefix("base_").expect("the name begins with base_");
        assert!(start_segment.len() == 24 && start_segment.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(archive.backups(), std::slice::from_ref(&name));
        assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());

        let folder = format!("basebackups_005/{name}/");
        let objects = archive.objects();
        for object in [
            "metadata.json",
            "files_metadata.json",
            "tar_partitions/part_001.tar.lz4",
            "tar_partitions/pg_control.tar.lz4",
            "tar_partitions/backup_label.tar.lz4",
        ] {
            assert!(objects.contains(&format!("{folder}{object}")), "{object}: {objects:?}");
        }
        let label = archive.object(&format!("{folder}tar_partitions/backup_label.tar.lz4"));
        let label = decompress(&label.expect("it has just been listed"));
        assert!(String::from_utf8_lossy(&label).contains("LABEL: under load"));

        let sentinel = archive.object(&format!("basebackups_005/{name}_backup_stop_sentinel.json"));
        let sentinel: serde_json::Value =
            serde_json::from_slice(&sentinel.expect("the backup has a sentinel"))
                .expect("the sentinel is JSON");
        let identifier: u64 = cluster
            .query_one("SELECT system_identifier FROM pg_control_system()")
            .parse()
            .expect("an identifier is a number");
        assert_eq!(sentinel["SystemIdentifier"].as_u64(), Some(identifier));
        assert!(sentinel["LSN"].as_u64() < sentinel["FinishLSN"].as_u64(), "{sentinel}");

        let listed = cluster.query(
            "SELECT backup_name, backup_type, timeline, permanent, \
                    start_lsn < stop_lsn AND stop_lsn <= pg_current_wal_lsn(), \
                    start_time <= finish_time AND finish_time <= now(), \
                    pg_version = current_setting('server_version_num')::int, \
                    system_identifier::text = (SELECT system_identifier::text FROM pg_control_system()), \
                    uncompressed_bytes > compressed_bytes AND compressed_bytes > 0, \
                    hostname <> '', data_directory = current_setting('data_directory') \
             FROM wale_backup_list()",
        );
        assert_eq!(listed, [[&name, "full", "1", "t", "t", "t", "t", "t", "t", "t", "t"]]);
        assert_eq!(sound_progress(&cluster), name);

        let second = cluster.backup_push();
        let names = cluster.query("SELECT backup_name FROM wale_backup_list()");
        assert_eq!(names, [[name], [second]], "the oldest comes first");
    }
}

/// The name of the backup that `wale_backup_progress()` says is done and went well.
fn sound_progress(cluster: &Cluster) -> String {
    let mut progress = cluster.backup_progress();
    let number = |column: &str| -> u64 {
        progress.get(column).and_then(|value| value.parse().ok()).unwrap_or_default()
    };
    assert!(number("partitions_done") > 0, "{progress:?}");
    assert_eq!(number("partitions_done"), number("partitions_total"), "{progress:?}");
    assert!(number("bytes_read") > number("bytes_uploaded"), "{progress:?}");
    assert_eq!(progress.get("error").map(String::as_str).unwrap_or_default(), "", "{progress:?}");
    progress.remove("backup_name").unwrap_or_default()
}

#[test]
fn a_backup_need_not_be_waited_for() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    cluster.create_incompressible_table("noise", 20);
    archive.proxy().set(Fault::Throttle(4_000_000));
    let name = cluster.query_one("SELECT wale_backup_push(wait => false)");
    assert_eq!(archive.backups(), Vec::<String>::new(), "it has only begun");
    archive.proxy().set(Fault::None);
    wait_for("the sentinel", || archive.backups() == [name.clone()]);
}

/// A cluster whose backup is in the middle of uploading its files, slowly.
struct RunningBackup {
    archive: Archive,
    cluster: Cluster,
    session: wal_e_e2e::base_backup::BackgroundBackup,
    worker: i32,
}

impl RunningBackup {
    fn start(version: PgVersion) -> RunningBackup {
        let archive = Archive::s3();
        let cluster = Cluster::build(version).start_archiving_to(&archive);
        cluster.create_incompressible_table("noise", 40);
        cluster.archive_current_wal();
        archive.proxy().set(Fault::Throttle(300_000));
        let session = cluster.backup_push_in_background();
        let worker = cluster.wait_for_running_upload(&archive);
        RunningBackup { archive, cluster, session, worker }
    }
}

/// Asserts that a backup which ended early left nothing that counts, and that
/// the next one succeeds.
#[track_caller]
fn assert_nothing_left(archive: &Archive, cluster: &Cluster) {
    assert_eq!(archive.backups(), Vec::<String>::new(), "no sentinel");
    wait_for("the end of the worker's multipart uploads", || {
        archive.unfinished_uploads().is_empty()
    });
    archive.proxy().set(Fault::None);
    let name = cluster.backup_push();
    assert_eq!(archive.backups(), [name]);
    assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());
}

#[test]
fn a_second_backup_at_the_same_time_is_refused() {
    let running = RunningBackup::start(PgVersion::oldest());
    let refused = running.cluster.failure_of("SELECT wale_backup_push()");
    assert_eq!(refused.sqlstate, "55006", "{}", refused.text);
    running.archive.proxy().set(Fault::None);
    let name = running.session.result().expect("the first one goes on");
    assert_eq!(running.archive.backups(), [name]);
}

#[test]
fn cancelling_the_query_ends_the_backup() {
    let RunningBackup { archive, cluster, session, worker } =
        RunningBackup::start(PgVersion::oldest());
    session.cancel();
    assert_eq!(session.failure().sqlstate, "57014");
    wait_for("the end of the worker", || !is_running(worker));
    assert_nothing_left(&archive, &cluster);
}

#[test]
fn wale_backup_cancel_ends_the_backup() {
    let RunningBackup { archive, cluster, session, worker } =
        RunningBackup::start(PgVersion::newest());
    assert_eq!(cluster.query_one("SELECT wale_backup_cancel()"), "t");
    assert_eq!(session.failure().sqlstate, "57014");
    wait_for("the end of the worker", || !is_running(worker));
    assert_eq!(
        cluster.query_one("SELECT wale_backup_cancel()"),
        "f",
        "no backup runs that could be canceled"
    );
    assert_nothing_left(&archive, &cluster);
}

#[test]
fn terminating_the_worker_ends_the_backup() {
    let RunningBackup { archive, cluster, session, worker } =
        RunningBackup::start(PgVersion::oldest());
    assert_eq!(cluster.query_one(&format!("SELECT pg_terminate_backend({worker})")), "t");
    let failure = session.failure();
    assert!(failure.sqlstate.starts_with("57"), "{failure:?}");
    wait_for("the end of the worker", || !is_running(worker));
    assert_nothing_left(&archive, &cluster);
}

#[test]
fn a_killed_worker_leaves_no_backup() {
    let RunningBackup { archive, cluster, session, worker } =
        RunningBackup::start(PgVersion::oldest());
    cluster.kill_process(worker);
    session.result().expect_err("the backup cannot have succeeded");
    assert_eq!(archive.backups(), Vec::<String>::new(), "no sentinel");
    archive.proxy().set(Fault::None);
    cluster.wait_for_archiver();
    let name = cluster.backup_push();
    assert_eq!(archive.backups(), [name]);
    assert_eq!(archive.unfinished_uploads(), Vec::<String>::new(), "the next backup cleans up");
}

#[test]
fn a_stop_during_a_backup_is_prompt() {
    for &version in PgVersion::complete() {
        let RunningBackup { archive, mut cluster, session, worker } = RunningBackup::start(version);
        let elapsed = cluster.stop(StopMode::Fast);
        assert!(elapsed < Duration::from_secs(15), "the stop took {elapsed:?}");
        assert!(!is_running(worker));
        session.result().expect_err("the backup cannot have succeeded");
        assert_eq!(archive.backups(), Vec::<String>::new(), "no sentinel");
        assert!(!cluster.data_directory().join("backup_label").exists());
        archive.proxy().set(Fault::None);
        cluster.start();
        assert_nothing_left(&archive, &cluster);
    }
}

#[test]
fn a_backup_outlasts_a_store_that_is_away_for_a_while() {
    let RunningBackup { archive, cluster, session, .. } = RunningBackup::start(PgVersion::oldest());
    archive.proxy().set(Fault::Refuse);
    cluster.wait_for_log("trying again");
    archive.proxy().set(Fault::None);
    let name = session.result().expect("the backup goes on");
    assert_eq!(archive.backups(), [name]);
    assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());
}

#[test]
fn a_backup_that_the_store_refuses_fails_at_once_and_ends_backup_mode() {
    let RunningBackup { archive, cluster, session, worker } =
        RunningBackup::start(PgVersion::oldest());
    archive.server().refuse(Some(Refusal::AccessDenied));
    archive.proxy().set(Fault::None);
    let failure = session.failure();
    assert_eq!(failure.sqlstate, "42501", "{}", failure.text);
    wait_for("the end of the worker", || !is_running(worker));
    let error = cluster.backup_progress().remove("error").unwrap_or_default();
    assert!(error.contains("AccessDenied"), "the progress must show why it ended: \"{error}\"");
    assert_eq!(archive.backups(), Vec::<String>::new());
    archive.server().refuse(None);
    let name = cluster.backup_push();
    assert_eq!(archive.backups(), [name]);
}

#[test]
fn a_damaged_page_is_reported_and_recorded_and_the_backup_goes_on() {
    for &version in PgVersion::complete() {
        let archive = Archive::file();
        let mut cluster = Cluster::build(version).start_archiving_to(&archive);
        cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 10000) i; CHECKPOINT");
        let file = cluster.query_one("SELECT pg_relation_filepath('t')");
        cluster.stop(StopMode::Fast);
        let block = 3;
        damage_page(&cluster.data_directory().join(&file), block);
        cluster.start();

        let (name, told) = backup_push_with_warnings(&cluster);
        let logged = cluster.wait_for_log("checksum verification failed");
        assert!(logged.contains("WARNING"), "{logged}");
        for word in [&file, &format!("block {block}")] {
            assert!(logged.contains(word), "{word}: {logged}");
        }
        assert!(told.iter().any(|warning| warning.contains("wrong checksum: 1")), "{told:?}");

        let files = &archive.backup_json(&name, "files_metadata.json")["Files"];
        let corrupt = &files[format!("/{file}")]["CorruptBlocks"];
        assert_eq!(corrupt["CorruptBlocksCount"], 1, "{corrupt}");
        assert_eq!(corrupt["SomeCorruptBlocks"], serde_json::json!([block]), "{corrupt}");
        let others = files.as_object().expect("Files is an object").iter();
        let recorded = others.filter(|(_, facts)| facts["CorruptBlocks"].is_object()).count();
        assert_eq!(recorded, 1, "only the damaged file is recorded");
        assert_eq!(archive.backups(), [name]);
    }
}

/// Changes bytes in the middle of a page, after its header.
fn damage_page(path: &std::path::Path, block: u64) {
    let mut file =
        fs::OpenOptions::new().read(true).write(true).open(path).expect("the file opens");
    let position = SeekFrom::Start(block * PAGE_SIZE + PAGE_SIZE / 2);
    let mut bytes = [0; 16];
    file.seek(position).expect("the page exists");
    file.read_exact(&mut bytes).expect("the page is whole");
    file.seek(position).expect("the page exists");
    file.write_all(&bytes.map(|byte| byte ^ 0x5a)).expect("the page can be written");
}

/// Takes a backup, and hands out its name and the warnings that the client got.
fn backup_push_with_warnings(cluster: &Cluster) -> (String, Vec<String>) {
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&warnings);
    let mut client = Config::new()
        .host_path(cluster.socket_directory())
        .user("postgres")
        .dbname("postgres")
        .notice_callback(move |notice| {
            if notice.severity() == "WARNING" {
                let text = [notice.message(), notice.detail().unwrap_or_default()].join("\n");
                told.lock().expect("no panic while locked").push(text);
            }
        })
        .connect(NoTls)
        .expect("the server takes connections");
    let row = client.query_one("SELECT wale_backup_push()", &[]);
    let name = row.unwrap_or_else(|error| panic!("{:?}", SqlFailure::of(&error))).get(0);
    let warnings = warnings.lock().expect("no panic while locked").clone();
    (name, warnings)
}
