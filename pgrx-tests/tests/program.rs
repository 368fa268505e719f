//! The program with a server that does not load the extension.

use std::time::Duration;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::s3_server::Refusal;
use wal_e_e2e::wal_e::{archive_command, backup_push, bare_wal_e, run_wal_e, wal_e};

/// A cluster that archives with `wal-e wal-push` as its archive_command.
fn cluster_with_archive_command(version: PgVersion, archive: &Archive) -> Cluster {
    let command = archive_command(archive, "");
    Cluster::build(version)
        .configuration("archive_mode = on")
        .configuration(format!("archive_command = '{command}'"))
        .start()
}

#[test]
fn a_server_is_backed_up_and_restored_with_the_program_alone() {
    for (version, archive) in
        [(PgVersion::oldest(), Archive::s3()), (PgVersion::newest(), Archive::file())]
    {
        let mut cluster = cluster_with_archive_command(version, &archive);
        let location = cluster.create_tablespace("extra");
        cluster.pgbench_init(1);
        cluster
            .execute("CREATE TABLE in_extra TABLESPACE extra AS SELECT generate_series(1, 100) i");
        let load = cluster.start_pgbench();
        run(&mut backup_push(&cluster, &archive)).success();
        load.stop();
        let [name] = archive.backups().try_into().expect("there is one backup");
        assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());

        let listed = run_wal_e(&archive, ["backup-list"]).success();
        assert!(listed.contains(&name), "{listed}");
        let detailed = run_wal_e(&archive, ["backup-list", "--detail"]).success();
        assert!(detailed.contains(&name) && detailed.len() > listed.len(), "{detailed}");
        let json = run_wal_e(&archive, ["backup-list", "--json"]).success();
        let json: serde_json::Value = serde_json::from_str(&json).expect("--json prints JSON");
        assert_eq!(json.as_array().map(Vec::len), Some(1), "{json}");
        assert_eq!(json[0]["backup_name"], name.as_str(), "{json}");

        cluster.execute("CREATE TABLE after_backup AS SELECT generate_series(1, 1000) i");
        let expected = cluster.fingerprint();
        cluster.stop(StopMode::Fast);
        let restored = Restore::latest(version).tablespace(&location, "extra").recover(&archive);
        assert_eq!(restored.fingerprint(), expected);
    }
}

#[test]
fn a_stopped_backup_push_leaves_no_backup() {
    let archive = Archive::s3();
    let cluster = cluster_with_archive_command(PgVersion::oldest(), &archive);
    cluster.create_incompressible_table("noise", 40);
    cluster.archive_current_wal();
    archive.proxy().set(Fault::Throttle(300_000));
    let mut push = backup_push(&cluster, &archive).spawn().expect("the program can be started");
    cluster.wait_for_open_upload(&archive);
    wal_e_e2e::process::send_signal(push.id() as i32, libc::SIGINT);
    let status = wal_e_e2e::process::wait_for_end(&mut push, std::time::Duration::from_secs(30));
    assert_eq!(status.expect("Ctrl-C ends it").code(), Some(130));
    assert_eq!(archive.backups(), Vec::<String>::new());
    assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());
    archive.proxy().set(Fault::None);
    run(&mut backup_push(&cluster, &archive)).success();
    assert_eq!(archive.backups().len(), 1);
}

#[test]
fn wal_fetch_tells_what_is_not_there_from_what_it_does_not_know() {
    let archive = Archive::s3();
    let cluster = cluster_with_archive_command(PgVersion::oldest(), &archive);
    let segment = cluster.archive_current_wal();
    let data = archive.scratch().create("data");
    let destination = data.join("RECOVERYXLOG");
    let fetch = |name: &str| {
        run(wal_e(&archive).arg("wal-fetch").arg(name).arg(&destination).current_dir(&data))
    };
    fetch(&segment).success();
    assert!(std::fs::read(&destination).ok() == Some(archive.wal_file(&segment)));
    std::fs::remove_file(&destination).expect("it has just been fetched");

    for absent in ["0000000100000000000000FE", "00000009.history"] {
        fetch(absent).failure(74);
    }
    // An unreachable store is asked for minutes, a refusal is final.
    archive.server().refuse(Some(Refusal::AccessDenied));
    let undecided = fetch(&segment);
    assert!(undecided.code() > Some(125), "{undecided}");
    std::fs::write(data.join("standby.signal"), "").expect("the directory is ours");
    let undecided = fetch(&segment);
    assert!((1..126).contains(&undecided.code().unwrap_or_default()), "{undecided}");
    assert_ne!(undecided.code(), Some(74));
    assert!(!destination.exists());
}

#[test]
fn wal_push_refuses_a_different_file_under_an_archived_name() {
    for archive in [Archive::file(), Archive::s3()] {
        let cluster = cluster_with_archive_command(PgVersion::oldest(), &archive);
        let segment = cluster.archive_current_wal();
        let stored = archive.wal_file(&segment);
        let copy = archive.scratch().create("pg_wal").join(&segment);
        let push = || run(wal_e(&archive).arg("wal-push").arg(&copy));

        std::fs::write(&copy, &stored).expect("the directory is ours");
        push().success();
        let mut other = stored.clone();
        let last = other.len() - 1;
        other[last] ^= 1;
        std::fs::write(&copy, &other).expect("the directory is ours");
        let said = push().failure(1);
        assert!(said.contains(&segment), "{said}");
        assert!(archive.wal_file(&segment) == stored, "the archived file stays as it was");
    }
}

#[test]
fn wal_push_sends_ahead_and_answers_the_next_calls_without_the_store() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::oldest())
        .wal_segment_size_mb(1)
        .configuration("archive_mode = on")
        .start();
    cluster.write_wal_segments(8);
    let waiting: Vec<String> = cluster.ready_files().into_iter().collect();
    let push = |archive: &Archive, name: &str| {
        let path = cluster.data_directory().join("pg_wal").join(name);
        run(wal_e(archive).args(["wal-push", "-p", "4"]).arg(path)).success();
    };
    push(&archive, &waiting[0]);
    let notes = cluster.data_directory().join("pg_wal/wal_e_confirmed");
    let noted: Vec<String> =
        waiting[1..].iter().filter(|name| notes.join(name.as_str()).exists()).cloned().collect();
    assert!(noted.len() >= 2, "of {waiting:?} only {noted:?} were sent ahead");

    let requests = archive.proxy().requests().len();
    for name in &noted[1..] {
        assert!(cluster.wal_file(name) == Some(archive.wal_file(name)), "{name}");
        push(&archive, name);
    }
    assert_eq!(archive.proxy().requests().len(), requests, "the notes gave the answer");

    // A note says nothing of another server, though bucket and path are the same.
    let elsewhere = Archive::s3();
    assert_eq!(elsewhere.url(), archive.url());
    push(&elsewhere, &noted[0]);
    assert!(elsewhere.wal_object(&noted[0]).is_some());
}

#[test]
fn the_version_is_printed() {
    let version = run(bare_wal_e().arg("version")).success();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

/// Nothing is lost by giving up a question, and the one who asked waits.
#[test]
fn a_question_to_a_server_that_is_not_there_is_answered_within_seconds() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port can be had")
        .port();
    for question in ["backup-list", "restore-plan"] {
        let mut command = bare_wal_e();
        command
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "us-east-1")
            .args(["--s3-endpoint", &format!("http://127.0.0.1:{port}")])
            .args(["--s3-prefix", "s3://bucket/prefix", question]);
        let finished = run(&mut command);
        assert!(finished.elapsed < Duration::from_secs(30), "{finished}");
        let printed = finished.failure(1);
        assert_eq!(printed.matches("trying again").count(), 1, "{printed}");
        assert!(printed.contains("Connection refused"), "{printed}");
    }
}

#[test]
fn who_asks_a_server_that_is_silent_is_told_within_seconds() {
    // Connections are taken by the system, and never answered.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it has an address"));
    let mut command = bare_wal_e();
    command
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "us-east-1")
        .args(["--s3-endpoint", &endpoint, "--s3-timeout", "8"])
        .args(["--s3-prefix", "s3://bucket/prefix", "backup-list"]);
    let printed = run(&mut command).failure(1);
    let waits = format!("still waiting for \"{endpoint}\" to answer");
    assert_eq!(printed.matches(&waits).count(), 1, "{printed}");
    assert!(printed.contains("did not answer within"), "{printed}");
}
