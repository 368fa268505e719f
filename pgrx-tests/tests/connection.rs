//! `wal-e backup-push` connects as psql does. Where a test asks what psql does, it asks psql.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::certificates::{Authority, Signed, make_secret};
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::pooler::{PoolMode, Pooler};
use wal_e_e2e::process::{Finished, ServerUser, run};
use wal_e_e2e::wal_e::{archive_command, wal_e};

/// A server that archives with the program, and a role with a password that may take backups.
struct Bench {
    archive: Archive,
    cluster: Cluster,
}

impl Bench {
    fn new(version: PgVersion) -> Bench {
        let archive = Archive::file();
        let cluster = Cluster::build(version)
            .configuration("archive_mode = on")
            .configuration(format!("archive_command = '{}'", archive_command(&archive, "")))
            .start();
        cluster.execute(r"CREATE ROLE bk LOGIN SUPERUSER PASSWORD 'pass:w\rd'");
        Bench { archive, cluster }
    }

    /// What `pg_hba.conf` says, from now on.
    fn lets_in(&self, rules: &[&str]) {
        let rules = [rules, &["local all postgres trust"]].concat().join("\n");
        fs::write(self.cluster.data_directory().join("pg_hba.conf"), rules + "\n")
            .expect("the data directory is ours");
        self.cluster.reload();
    }

    /// A file that the server's user alone may read.
    fn secret(&self, name: &str, content: &str) -> PathBuf {
        let path = self.cluster.scratch().path().join(name);
        fs::write(&path, content).expect("the directory is ours");
        make_secret(&path);
        ServerUser::get().own(&path);
        path
    }

    fn sockets(&self) -> String {
        self.cluster.socket_directory().display().to_string()
    }

    /// `wal-e backup-push` with these variables and no other. Between two backups there has
    /// to be WAL.
    fn push(&self, variables: &[(&str, &str)]) -> Finished {
        self.cluster.execute("SELECT pg_logical_emit_message(false, 'test', 'between backups')");
        self.cluster.archive_current_wal();
        let mut command = wal_e(&self.archive);
        command.envs(variables.iter().copied());
        run(command.arg("backup-push").arg(self.cluster.data_directory()))
    }

    /// psql with the same variables.
    fn psql(&self, variables: &[(&str, &str)]) -> Finished {
        let mut psql = ServerUser::get().command(self.cluster.client_program("psql").get_program());
        psql.envs(variables.iter().copied());
        run(psql.args(["-X", "-w", "-c", "SELECT 1"]))
    }

    /// Both take them.
    #[track_caller]
    fn both_succeed(&self, variables: &[(&str, &str)]) {
        let psql = [variables, &[("PGDATABASE", "postgres")]].concat();
        self.psql(&psql).success();
        self.push(variables).success();
    }

    /// Neither does; the program says all of `words`.
    #[track_caller]
    fn both_fail(&self, variables: &[(&str, &str)], words: &[&str]) {
        let psql = [variables, &[("PGDATABASE", "postgres")]].concat();
        assert_ne!(self.psql(&psql).code(), Some(0), "psql takes {variables:?}");
        assert_says(&self.push(variables).failure(1), words);
    }
}

#[track_caller]
fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "\"{word}\" is missing in:\n{said}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

#[test]
fn passwords_come_from_the_password_file() {
    let bench = Bench::new(PgVersion::oldest());
    bench.lets_in(&["local all bk scram-sha-256"]);
    let sockets = bench.sockets();
    let file = bench.secret("pgpass", "#*:*:*:bk:no\nother:*:*:bk:no\n*:*:*:bk:pass\\:w\\\\rd\n");
    let way = [("PGHOST", sockets.as_str()), ("PGUSER", "bk")];
    let with = |name, file| [&way[..], &[(name, file)]].concat();
    bench.both_succeed(&with("PGPASSFILE", text(&file)));

    // The one in the home directory, about this very directory of a socket.
    let home = bench.cluster.scratch().create("home");
    let own = home.join(".pgpass");
    fs::write(&own, format!("{sockets}:5432:postgres:bk:pass\\:w\\\\rd\n")).expect("it is ours");
    make_secret(&own);
    ServerUser::get().own(&own);
    bench.both_succeed(&with("HOME", text(&home)));

    bench.both_fail(&way, &["none was given", "hint:", ".pgpass", "PGPASSWORD"]);
    let wrong = bench.secret("wrong", "*:*:*:*:wrong\n");
    bench.both_fail(&with("PGPASSFILE", text(&wrong)), &["password", "wrong\""]);
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("it is ours");
    bench.both_fail(
        &with("PGPASSFILE", text(&file)),
        &["has group or world access; permissions should be u=rw (0600) or less"],
    );
}

#[test]
fn a_service_and_several_hosts_are_followed() {
    let mut bench = Bench::new(PgVersion::oldest());
    let name = format!("@wale-{}", std::process::id());
    bench.cluster.stop(StopMode::Fast);
    bench.cluster.listen_in(&name);
    bench.cluster.start();
    let sockets = bench.sockets();
    let service = format!("[prod]\nhost=/nonexistent,{sockets}\nuser=postgres\nport=1,5432\n");
    let service = bench.secret("services", &service);
    bench.both_succeed(&[
        ("PGSERVICE", "prod"),
        ("PGSERVICEFILE", text(&service)),
        ("PGHOST", "elsewhere.invalid"),
    ]);
    let directory = bench.cluster.scratch().create("etc");
    fs::copy(&service, directory.join("pg_service.conf")).expect("it can be copied");
    ServerUser::get().own(&directory.join("pg_service.conf"));
    bench.both_succeed(&[("PGSERVICE", "prod"), ("PGSYSCONFDIR", text(&directory))]);

    let hosts = format!("/nonexistent,{sockets}");
    let way = |host| [("PGHOST", host), ("PGUSER", "postgres")];
    bench.both_succeed(&way(&hosts));
    bench.both_succeed(&way(&name));
    bench.both_succeed(&[&way(&sockets)[..], &[("PGSSLMODE", "verify-full")]].concat());
    bench.both_succeed(&[&way(&hosts)[..], &[("PGLOADBALANCEHOSTS", "random")]].concat());
    bench.both_succeed(&[&way(&sockets)[..], &[("PGTARGETSESSIONATTRS", "read-write")]].concat());

    bench.both_fail(&[("PGSERVICE", "test"), ("PGSERVICEFILE", text(&service))], &["\"test\""]);
    bench.both_fail(
        &[&way(&sockets)[..], &[("PGTARGETSESSIONATTRS", "standby")]].concat(),
        &["not in recovery", "PGTARGETSESSIONATTRS"],
    );
    bench.both_fail(
        &way("/nonexistent,/missing"),
        &["/missing", "Before that", "/nonexistent", "PGSERVICE"],
    );
    let me = [&way(&sockets)[..], &[("PGREQUIREPEER", "root")]].concat();
    if !wal_e_e2e::process::is_root() {
        return;
    }
    bench.both_fail(&me, &["PGREQUIREPEER"]);
}

/// Has the server of a bench listen with TLS.
fn with_tls(bench: &mut Bench, signed: &Signed, root: &Path) -> String {
    bench.cluster.stop(StopMode::Fast);
    let port = bench.cluster.listen_on_tcp();
    for (setting, file) in [
        ("ssl_cert_file", text(&signed.certificate)),
        ("ssl_key_file", text(&signed.key)),
        ("ssl_ca_file", text(root)),
    ] {
        bench.cluster.configure(&format!("{setting} = '{file}'"));
    }
    bench.cluster.configure("ssl = on");
    bench.cluster.start();
    port.to_string()
}

/// Has the server of a bench show another certificate.
fn show(bench: &Bench, signed: &Signed) {
    bench.cluster.configure(&format!("ssl_cert_file = '{}'", text(&signed.certificate)));
    bench.cluster.configure(&format!("ssl_key_file = '{}'", text(&signed.key)));
    bench.cluster.reload();
}

#[test]
fn each_sslmode_verifies_what_libpq_verifies() {
    let mut bench = Bench::new(PgVersion::oldest());
    let authority = Authority::new(bench.cluster.scratch(), "authority");
    let another = Authority::new(bench.cluster.scratch(), "another");
    // As PostgreSQL's documentation makes it: version 1, with a common name alone.
    let simple = authority.sign("localhost", "");
    let port = with_tls(&mut bench, &simple, &authority.root());
    bench.lets_in(&["hostssl all all 127.0.0.1/32 trust"]);
    let (root, other) = (authority.root(), another.root());
    let with = |mode, root| {
        vec![
            ("PGHOST", "localhost"),
            ("PGHOSTADDR", "127.0.0.1"),
            ("PGPORT", port.as_str()),
            ("PGUSER", "bk"),
            ("PGSSLMODE", mode),
            ("PGSSLROOTCERT", root),
        ]
    };
    let none = "/nonexistent/root.crt";
    for mode in ["require", "prefer", "allow"] {
        bench.both_succeed(&with(mode, none));
    }
    for mode in ["verify-ca", "verify-full"] {
        bench.both_succeed(&with(mode, text(&root)));
        bench.both_fail(&with(mode, none), &["does not exist", "PGSSLROOTCERT"]);
        bench.both_fail(&with(mode, text(&other)), &["no trusted authority"]);
    }
    bench.both_fail(&with("require", text(&other)), &["no trusted authority"]);
    bench.both_fail(&with("disable", none), &["pg_hba.conf"]);
    bench.both_fail(&with("verify-full", "system"), &["authorit"]);

    // Another name, and then names beside the common name.
    let named = authority.sign("db.example", "DNS:*.example,IP:127.0.0.1");
    show(&bench, &named);
    bench.both_succeed(&with("verify-ca", text(&root)));
    bench
        .both_fail(&with("verify-full", text(&root)), &["*.example", "not for host \"localhost\""]);
    let by = |host| {
        let mut variables = with("verify-full", text(&root));
        variables[0] = ("PGHOST", host);
        variables
    };
    bench.both_succeed(&by("pg.example"));
    bench.both_succeed(&by("127.0.0.1"));
    bench.both_fail(&by("a.pg.example"), &["not for host"]);

    // A certificate that signs itself stands in the file itself.
    let own = another.self_signed("localhost");
    show(&bench, &own);
    bench.both_succeed(&with("verify-full", text(&own.certificate)));
    bench.both_fail(&with("verify-full", text(&root)), &["no trusted authority"]);

    let revoked = authority.revoke(&[&named]);
    show(&bench, &named);
    let listed = [&by("pg.example")[..], &[("PGSSLCRL", text(&revoked))]].concat();
    bench.both_fail(&listed, &["revoked"]);
    let sound = authority.sign("pg.example", "DNS:pg.example");
    show(&bench, &sound);
    bench.both_succeed(&listed);
}

#[test]
fn certificates_of_clients_channel_binding_and_methods_are_followed() {
    let mut bench = Bench::new(PgVersion::oldest());
    let authority = Authority::new(bench.cluster.scratch(), "authority");
    let server = authority.sign("localhost", "DNS:localhost");
    let port = with_tls(&mut bench, &server, &authority.root());
    let client = authority.sign("bk", "");
    let way = [
        ("PGHOST", "localhost"),
        ("PGHOSTADDR", "127.0.0.1"),
        ("PGPORT", port.as_str()),
        ("PGUSER", "bk"),
    ];
    let and = |more: &[(&'static str, &str)]| -> Vec<(&str, String)> {
        let owned = |(name, value): &(&'static str, &str)| (*name, (*value).to_owned());
        way.iter().chain(more).map(owned).collect()
    };
    let (certificate, key) = (text(&client.certificate), text(&client.key));

    bench.lets_in(&["hostssl all all 127.0.0.1/32 cert"]);
    let succeed = |more: &[(&'static str, &str)]| {
        let variables = and(more);
        bench.both_succeed(&borrowed(&variables));
    };
    let fail = |more: &[(&'static str, &str)], words: &[&str]| {
        let variables = and(more);
        bench.both_fail(&borrowed(&variables), words);
    };
    succeed(&[("PGSSLCERT", certificate), ("PGSSLKEY", key)]);
    fail(&[("PGSSLMODE", "require")], &["certificate"]);
    fail(&[("PGSSLCERT", certificate), ("PGSSLKEY", "/nonexistent")], &["PGSSLKEY"]);
    fs::set_permissions(&client.key, std::os::unix::fs::PermissionsExt::from_mode(0o640))
        .expect("it is ours");
    fail(&[("PGSSLCERT", certificate), ("PGSSLKEY", key)], &["group or world access"]);

    let password = ("PGPASSWORD", "pass:w\\rd");
    bench.lets_in(&["host all all 127.0.0.1/32 scram-sha-256"]);
    let require = ("PGCHANNELBINDING", "require");
    succeed(&[password, require, ("PGREQUIREAUTH", "scram-sha-256")]);
    let not_encrypted = push(&bench, &and(&[password, require, ("PGSSLMODE", "disable")]));
    assert_says(&not_encrypted.failure(1), &["channel binding"]);
    bench.lets_in(&["host all all 127.0.0.1/32 password"]);
    push(&bench, &and(&[password])).success();
    let refused = push(&bench, &and(&[password, ("PGREQUIREAUTH", "scram-sha-256")]));
    assert_says(&refused.failure(1), &["not encrypted", "PGREQUIREAUTH"]);
    let refused = push(&bench, &and(&[password, ("PGREQUIREAUTH", "!none,!password")]));
    assert_says(&refused.failure(1), &["PGREQUIREAUTH"]);
}

fn borrowed<'a>(variables: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn push(bench: &Bench, variables: &[(&str, String)]) -> Finished {
    bench.push(&borrowed(variables))
}

#[test]
fn what_is_not_followed_is_said() {
    let bench = Bench::new(PgVersion::newest());
    let sockets = bench.sockets();
    let way = [("PGHOST", sockets.as_str()), ("PGUSER", "postgres")];
    let with = |name, value| bench.push(&[&way[..], &[(name, value)]].concat());
    for (name, value) in [("PGGSSENCMODE", "require"), ("PGMINPROTOCOLVERSION", "3.2")] {
        assert_says(&with(name, value).failure(1), &[name, "cannot be followed", "hint:"]);
    }
    let warned = with("PGCLIENTENCODING", "LATIN1");
    assert!(warned.code() == Some(0), "{warned}");
    assert_says(&warned.stderr, &["warning:", "PGCLIENTENCODING is not followed"]);
    let settings = [&way[..], &[("PGTZ", "Europe/Berlin"), ("PGOPTIONS", "-c work_mem=1MB")]];
    bench.push(&settings.concat()).success();
}

#[test]
fn a_session_has_no_limits_of_time() {
    for &version in PgVersion::complete() {
        let bench = Bench::new(version);
        bench.cluster.execute(
            "ALTER ROLE bk SET statement_timeout = '1s'; ALTER ROLE bk SET lock_timeout = '1s'; \
             ALTER ROLE bk SET idle_session_timeout = '1s'; \
             ALTER ROLE bk SET idle_in_transaction_session_timeout = '1s'",
        );
        if version.has_transaction_timeout() {
            bench.cluster.execute("ALTER ROLE bk SET transaction_timeout = '1s'");
        }
        bench.cluster.create_incompressible_table("noise", 6);
        // The checkpoint that begins it takes longer than any of them.
        bench.cluster.execute("ALTER SYSTEM SET checkpoint_timeout = '30s'");
        bench.cluster.reload();
        let mut command: Command = wal_e(&bench.archive);
        command.env("PGHOST", bench.sockets()).env("PGUSER", "bk");
        command.args([
            "backup-push",
            "--spread-checkpoint",
            "--cluster-read-rate-limit",
            "8000000",
        ]);
        let pushed = run(command.arg(bench.cluster.data_directory()));
        assert!(pushed.elapsed.as_secs() >= 3, "it is to take longer than the limits: {pushed}");
        pushed.success();
    }
}

#[test]
fn a_pooler_that_changes_sessions_is_noticed_before_anything_is_stored() {
    let bench = Bench::new(PgVersion::oldest());
    let through = |pooler: &Pooler| {
        let port = pooler.port().to_string();
        bench.push(&[("PGHOST", "127.0.0.1"), ("PGPORT", &port), ("PGUSER", "postgres")])
    };
    let session = Pooler::start(&bench.cluster, PoolMode::Session);
    through(&session).success();
    assert_eq!(bench.archive.backups().len(), 1);

    let transaction = Pooler::start(&bench.cluster, PoolMode::Transaction);
    let before = bench.archive.objects();
    let said = through(&transaction).failure(1);
    assert_says(&said, &["pooler", "another session", "hint:", "PGPORT"]);
    let added = bench.archive.objects().into_iter().filter(|object| !before.contains(object));
    let added: Vec<String> = added.filter(|object| !object.starts_with("wal_005/")).collect();
    assert_eq!(added, Vec::<String>::new());
}
