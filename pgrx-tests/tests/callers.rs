//! What stands around a call of `wale_backup_push()` and `wale_backup_verify()`: limits of
//! time, and archivers that are not ours.

use std::fs;
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};
use wal_e_e2e::archive::Archive;
use wal_e_e2e::base_backup::BACKUP_WORKER;
use wal_e_e2e::cluster::{Cluster, SqlFailure, rows};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run;
use wal_e_e2e::wait::{wait_for, wait_until};
use wal_e_e2e::wal_e::backup_push;

/// A server whose base backups take some seconds.
fn slow_cluster(version: PgVersion, archive: &Archive) -> Cluster {
    let cluster = Cluster::build(version)
        .configuration("wal_e.backup_read_rate_limit = '8MB'")
        .start_archiving_to(archive);
    cluster.execute("CREATE ROLE hasty LOGIN SUPERUSER");
    cluster
}

/// A session whose only limits are those that its role has.
#[track_caller]
fn session_of(cluster: &Cluster, role: &str) -> Client {
    Config::new()
        .host_path(cluster.socket_directory())
        .user(role)
        .dbname("postgres")
        .connect(NoTls)
        .expect("the server lets it in")
}

#[track_caller]
fn first(client: &mut Client, sql: &str) -> String {
    let answer = rows(client, sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    answer[0][0].clone().unwrap_or_default()
}

/// The SQLSTATE of what has to fail.
#[track_caller]
fn failure(client: &mut Client, sql: &str) -> String {
    SqlFailure::of(&rows(client, sql).expect_err(sql)).sqlstate
}

#[test]
fn a_statement_s_limit_ends_neither_a_backup_nor_a_verification() {
    for &version in PgVersion::complete() {
        let archive = Archive::file();
        let cluster = slow_cluster(version, &archive);
        cluster.execute("ALTER ROLE hasty SET statement_timeout = '1s'");
        let mut client = session_of(&cluster, "hasty");
        assert_eq!(first(&mut client, "SHOW statement_timeout"), "1s");
        let begin = Instant::now();
        let name = first(&mut client, "SELECT wale_backup_push()");
        assert!(begin.elapsed() > Duration::from_secs(1), "it is to take longer than the limit");
        assert_eq!(archive.backups(), [name]);
        let verify = "SELECT count(*) FROM wale_backup_verify() WHERE NOT ok";
        assert_eq!(first(&mut client, verify), "0");
        // Prepared, with a limit that the session has set.
        client.batch_execute("SET statement_timeout = '500ms'").expect("it can be set");
        cluster.execute("SELECT pg_logical_emit_message(false, 'test', 'between backups')");
        cluster.archive_current_wal();
        let statement = client.prepare("SELECT wale_backup_push()").expect("it is a statement");
        client.query_one(&statement, &[]).expect("the limit does not count");

        // What is left of the limit counts for the rest of the statement, and the next has it whole.
        cluster.execute("SELECT pg_logical_emit_message(false, 'test', 'between backups')");
        cluster.archive_current_wal();
        let and_more = "SELECT wale_backup_push(), pg_sleep(20)";
        assert_eq!(failure(&mut client, and_more), "57014");
        assert_eq!(failure(&mut client, "SELECT pg_sleep(20)"), "57014");
    }
}

#[test]
fn a_transaction_s_limit_ends_neither_a_backup_nor_a_verification() {
    for version in
        PgVersion::tested().into_iter().filter(|version| version.has_transaction_timeout())
    {
        let archive = Archive::file();
        let cluster = slow_cluster(version, &archive);
        cluster.execute("ALTER ROLE hasty SET transaction_timeout = '1s'");
        let mut client = session_of(&cluster, "hasty");
        first(&mut client, "SELECT wale_backup_push()");
        cluster.execute("SELECT pg_logical_emit_message(false, 'test', 'between backups')");
        cluster.archive_current_wal();

        client.batch_execute("BEGIN").expect("a transaction can begin");
        let begin = Instant::now();
        first(&mut client, "SELECT wale_backup_push()");
        assert!(begin.elapsed() > Duration::from_secs(1), "it is to take longer than the limit");
        let verify = "SELECT count(*) FROM wale_backup_verify() WHERE NOT ok";
        assert_eq!(first(&mut client, verify), "0");
        client.batch_execute("COMMIT").expect("the transaction goes on");
        assert_eq!(archive.backups().len(), 2);

        // The rest of a transaction has what is left of its limit.
        client.batch_execute("BEGIN").expect("a transaction can begin");
        let verify = "SELECT count(*) FROM wale_backup_verify()";
        first(&mut client, verify);
        client.batch_execute("SELECT pg_sleep(20)").expect_err("the limit counts again");
    }
}

#[test]
fn a_person_can_cancel_what_has_no_limit() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest())
        .configuration("wal_e.backup_read_rate_limit = '1MB'")
        .start_archiving_to(&archive);
    cluster.execute("ALTER ROLE postgres SET statement_timeout = '1s'");
    let mut client = session_of(&cluster, "postgres");
    let cancel = client.cancel_token();
    let session = std::thread::spawn(move || {
        let begin = Instant::now();
        (failure(&mut client, "SELECT wale_backup_push()"), begin.elapsed())
    });
    let uploading = "SELECT phase FROM wale_backup_progress() WHERE bytes_read > 1000000";
    wait_for("the backup to read", || !cluster.query(uploading).is_empty());
    cancel.cancel_query(NoTls).expect("a cancel request can be sent");
    let (sqlstate, took) = session.join().expect("the session's thread does not panic");
    assert_eq!(sqlstate, "57014");
    assert!(took > Duration::from_secs(1), "the limit ended it: {took:?}");
    wait_for("the end of the worker", || cluster.find_pid(BACKUP_WORKER).is_none());
    assert_eq!(archive.backups(), Vec::<String>::new());
}

/// Archives with a command from now on. A server ends its archiver when `archive_library` changes,
/// and does not hurry to start another.
fn archive_by(cluster: &Cluster, command: &str) {
    let former =
        (!cluster.query_one("SHOW archive_library").is_empty()).then(|| cluster.pid_of("archiver"));
    cluster.execute("ALTER SYSTEM SET archive_library = ''");
    cluster.execute(&format!("ALTER SYSTEM SET archive_command = '{command}'"));
    cluster.reload();
    wait_for("the setting", || cluster.query_one("SHOW archive_command") == command);
    if let Some(former) = former {
        wait_until("another archiver", Duration::from_secs(90), || {
            cluster.find_pid("archiver").filter(|pid| *pid != former)
        });
    }
}

#[test]
fn a_server_that_archives_elsewhere_is_refused_at_once() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    cluster.archive_current_wal();
    let elsewhere = cluster.scratch().create("elsewhere");
    let script = cluster.scratch().path().join("archive.sh");
    fs::write(&script, format!("cp \"$1\" {}/", elsewhere.display())).expect("it is ours");
    let copies = format!("cp %p {}/%f", elsewhere.display());
    let runs_a_script = format!("sh {} %p", script.display());
    for (command, words) in [
        (copies.as_str(), &["archived in another way", "archive_library"][..]),
        (&runs_a_script, &["but not to this prefix", "archive_library"]),
    ] {
        archive_by(&cluster, command);
        cluster.execute("SELECT pg_logical_emit_message(false, 'test', 'something to archive')");
        let begin = Instant::now();
        let refused = cluster.failure_of("SELECT wale_backup_push()");
        let mut said = vec![refused.text];
        cluster.execute("SELECT pg_logical_emit_message(false, 'test', 'something to archive')");
        said.push(run(&mut backup_push(&cluster, &archive)).failure(1));
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
        for (said, word) in said.iter().flat_map(|said| words.iter().map(move |word| (said, word)))
        {
            assert!(said.contains(word), "\"{word}\" is missing in:\n{said}");
        }
        let parts =
            archive.objects().into_iter().filter(|object| object.contains("tar_partitions"));
        assert_eq!(parts.collect::<Vec<_>>(), Vec::<String>::new(), "nothing was uploaded");
    }
    // A script may well do what is needed.
    let program = wal_e_e2e::wal_e::archive_command(&archive, "").replace("%p", "$1");
    fs::write(&script, program).expect("it is ours");
    cluster.execute("SELECT pg_logical_emit_message(false, 'test', 'something to archive')");
    cluster.archive_current_wal();
    cluster.backup_push();
}

#[test]
fn wal_that_went_elsewhere_is_not_waited_for() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest())
        .configuration("wal_e.backup_read_rate_limit = '8MB'")
        .start_archiving_to(&archive);
    let session = cluster.backup_push_in_background();
    let uploading = "SELECT phase FROM wale_backup_progress() WHERE bytes_read > 1000000";
    wait_for("the backup to read", || !cluster.query(uploading).is_empty());
    archive_by(&cluster, "/bin/true");
    let failure = session.failure();
    assert!(failure.text.contains("but not to this prefix"), "{}", failure.text);
    assert_eq!(archive.backups(), Vec::<String>::new());
}

#[test]
fn who_waits_for_wal_is_told_each_minute() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    cluster.archive_current_wal();
    let script = cluster.scratch().path().join("archive.sh");
    fs::write(&script, "exit 1").expect("it is ours");
    // It fails only later, and may succeed again.
    archive_by(&cluster, &format!("sh {} %p # wal-e", script.display()));
    let mut psql = cluster.client_program("psql");
    psql.args(["-X", "-d", "postgres", "-c", "SET statement_timeout = 0"]);
    psql.args(["-c", "SELECT wale_backup_push()"]);
    let session = std::thread::spawn(move || run(&mut psql));
    wait_for("the wait for WAL", || {
        let waiting =
            "SELECT phase FROM wale_backup_progress() WHERE phase LIKE 'waiting for WAL%'";
        !cluster.query(waiting).is_empty()
    });
    let waited = "WARNING:  base backup";
    wait_until("a minute to pass", Duration::from_secs(90), || {
        cluster.log().contains(waited).then_some(())
    });
    wait_for("the caller's minute", || {
        let since = "SELECT now() - started_at > '63s' FROM wale_backup_progress()";
        cluster.query_one(since) == "t"
    });
    assert_eq!(cluster.query_one("SELECT wale_backup_cancel()"), "t");
    let said = session.join().expect("the thread does not panic");
    assert!(said.stderr.contains("NOTICE:  base backup \"base_"), "{said}");
    assert!(said.stderr.contains("waits for its WAL to be archived"), "{said}");
}
