//! The way to S3: through proxies and TLS, with keys from wherever they are, and with one
//! configuration that means the same to a server and to the program.

use std::path::{Path, PathBuf};
use std::process::Command;

use wal_e_e2e::archive::{Archive, BUCKET};
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::forward_proxy::ForwardProxy;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::key_service::KeyService;
use wal_e_e2e::process::{ServerUser, run};
use wal_e_e2e::s3_server::S3Server;
use wal_e_e2e::scratch::Scratch;
use wal_e_e2e::tls_front::{Certificate, TlsFront};
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::bare_wal_e;

/// A name that resolves nowhere.
const NOWHERE: &str = "http://s3.behind.invalid:9000";

fn server() -> S3Server {
    let server = S3Server::start();
    server.create_bucket(BUCKET);
    server
}

/// A directory of variables.
struct EnvDir {
    scratch: Scratch,
    path: PathBuf,
}

impl EnvDir {
    fn new(variables: &[(&str, &str)]) -> EnvDir {
        let scratch = Scratch::new();
        let path = scratch.create("env");
        let env_dir = EnvDir { scratch, path };
        variables.iter().for_each(|(name, value)| env_dir.set(name, value));
        env_dir
    }

    fn set(&self, name: &str, value: &str) {
        write(&self.path.join(name), value);
    }
}

fn write(path: &Path, content: &str) {
    std::fs::write(path, content).expect("a file of the test can be written");
    ServerUser::get().own(path);
}

/// `wal-e backup-list` with the keys of `server`.
fn list(server: &S3Server, endpoint: &str) -> Command {
    let mut command = bare(endpoint);
    command
        .env("AWS_ACCESS_KEY_ID", server.access_key())
        .env("AWS_SECRET_ACCESS_KEY", server.secret_key());
    command
}

/// The same without keys.
fn bare(endpoint: &str) -> Command {
    let mut command = bare_wal_e();
    command
        .args(["--s3-prefix", &format!("s3://{BUCKET}/ways"), "--s3-endpoint", endpoint])
        .arg("backup-list");
    command
}

/// What the command says when it fails, which has all of `words` in it.
#[track_caller]
fn fails_with(command: &mut Command, words: &[&str]) -> String {
    let said = run(command).failure(1);
    for word in words {
        assert!(said.contains(word), "\"{word}\" is missing: {said}");
    }
    assert!(!said.contains("hunter2"), "a secret was printed: {said}");
    println!("{said}");
    said
}

#[test]
fn requests_go_through_a_proxy_that_variables_or_an_option_name() {
    let server = server();
    let proxy = ForwardProxy::start(&server.endpoint());
    for (name, value) in
        [("HTTP_PROXY", proxy.url()), ("http_proxy", proxy.url()), ("HTTP_PROXY", proxy.address())]
    {
        let before = proxy.lines().len();
        run(list(&server, NOWHERE).env(name, value)).success();
        assert!(proxy.lines()[before..].iter().all(|line| line.contains(NOWHERE)), "{name}");
        assert!(proxy.lines().len() > before, "{name}");
    }
    run(list(&server, NOWHERE).args(["--s3-proxy", &proxy.url()])).success();
    let of_directory = EnvDir::new(&[("HTTP_PROXY", &proxy.url())]);
    run(list(&server, NOWHERE).arg("--env-dir").arg(&of_directory.path)).success();

    // Where it is not wanted.
    let before = proxy.lines().len();
    for (name, value) in [("NO_PROXY", "127.0.0.0/8"), ("no_proxy", "x, 127.0.0.1")] {
        let mut command = list(&server, &server.endpoint());
        run(command.env("HTTP_PROXY", proxy.url()).env(name, value)).success();
    }
    let mut command = list(&server, &server.endpoint());
    run(command.env("HTTP_PROXY", proxy.url()).args(["--s3-proxy", "none"])).success();
    assert_eq!(proxy.lines().len(), before);
}

#[test]
fn a_proxy_that_refuses_is_named_without_its_password() {
    let server = server();
    let proxy = ForwardProxy::with_login(&server.endpoint(), "Basic bWU6aHVudGVyMg==");
    let with_login = format!("http://me:hunter2@{}", proxy.address());
    run(list(&server, NOWHERE).env("HTTP_PROXY", &with_login)).success();
    let of_directory = EnvDir::new(&[("HTTP_PROXY", &with_login)]);
    run(list(&server, NOWHERE).arg("--env-dir").arg(&of_directory.path)).success();

    let wrong = format!("http://me:hunter2x@{}", proxy.address());
    let (url, in_tls) = (proxy.url(), "https://s3.behind.invalid");
    for (name, endpoint) in [("HTTP_PROXY", NOWHERE), ("HTTPS_PROXY", in_tls)] {
        let words = ["the proxy", &url, "407", name, "user and password"];
        let mut command = list(&server, endpoint);
        command.env("SSL_CERT_FILE", "/dev/null").env(name, &wrong);
        let certificate = Certificate::self_made("/CN=x", &[]);
        fails_with(command.arg("--s3-ca-file").arg(certificate.path()), &words);
    }
    proxy.refuse(Some(403));
    for (name, endpoint) in [("HTTP_PROXY", NOWHERE), ("HTTPS_PROXY", in_tls)] {
        let certificate = Certificate::self_made("/CN=x", &[]);
        let mut command = list(&server, endpoint);
        command.env(name, &with_login).arg("--s3-ca-file").arg(certificate.path());
        fails_with(&mut command, &["the proxy", &url, "403", "NO_PROXY"]);
    }
    fails_with(
        list(&server, NOWHERE).args(["--s3-proxy", &with_login]),
        &["--s3-proxy holds a user or a password", "HTTPS_PROXY", "--env-dir"],
    );
    fails_with(
        list(&server, NOWHERE).env("HTTP_PROXY", "socks5://me:hunter2@h:1"),
        &["invalid proxy in HTTP_PROXY", "SOCKS"],
    );
}

#[test]
fn a_certificate_that_stands_in_the_ca_file_is_trusted_however_it_was_made() {
    let server = server();
    let names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:s3.behind.invalid"];
    for certificate in [
        Certificate::self_made("/CN=x", &names),
        Certificate::self_made("/CN=127.0.0.1", &[]),
        Certificate::of_version_one("/CN=127.0.0.1"),
    ] {
        let front = TlsFront::start(&server.endpoint(), &certificate);
        let file = certificate.path();
        run(list(&server, &front.endpoint()).arg("--s3-ca-file").arg(&file)).success();
        run(list(&server, &front.endpoint()).env("AWS_CA_BUNDLE", &file)).success();
    }
    // Through a proxy that sees nothing of it.
    let certificate = Certificate::self_made("/CN=x", &names);
    let front = TlsFront::start(&server.endpoint(), &certificate);
    let proxy = ForwardProxy::start(&format!("http://127.0.0.1:{}", front.port()));
    let mut command = list(&server, "https://s3.behind.invalid");
    command.arg("--s3-ca-file").arg(certificate.path());
    run(command.env("HTTPS_PROXY", proxy.url())).success();
    let lines = proxy.lines();
    assert!(lines.iter().all(|line| line == "CONNECT s3.behind.invalid:443 HTTP/1.1"), "{lines:?}");
}

#[test]
fn why_a_certificate_is_not_trusted_is_said() {
    let server = server();
    let other = Certificate::self_made("/CN=other", &[]);
    let refused = |certificate: &Certificate, file: &Path, words: &[&str]| {
        let front = TlsFront::start(&server.endpoint(), certificate);
        let mut command = list(&server, &front.endpoint());
        fails_with(command.arg("--s3-ca-file").arg(file), words);
    };
    let expired = Certificate::expired("/CN=127.0.0.1");
    refused(&expired, &expired.path(), &["has expired"]);
    let elsewhere = ["-addext", "subjectAltName=DNS:elsewhere.example.com"];
    let elsewhere = Certificate::self_made("/CN=127.0.0.1", &elsewhere);
    refused(&elsewhere, &elsewhere.path(), &["Use a name in the endpoint", "127.0.0.1"]);
    let old = Certificate::of_version_one("/CN=127.0.0.1");
    refused(
        &old,
        &other.path(),
        &["X.509 version 1", "put the certificate itself", "subjectAltName=IP:127.0.0.1"],
    );
    let authority = Certificate::self_made("/CN=127.0.0.1", &[]);
    refused(
        &authority,
        &other.path(),
        &["CA:TRUE", "put the certificate itself", "openssl req -x509"],
    );
}

#[test]
fn a_system_without_authorities_is_told_so() {
    let server = server();
    let mut command = list(&server, "https://127.0.0.1:1");
    command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/nonexistent");
    fails_with(&mut command, &["no certificates of authorities", "ca-certificates"]);
    let directory = EnvDir::new(&[("SSL_CERT_FILE", "/dev/null")]);
    let mut command = list(&server, "https://127.0.0.1:1");
    command.arg("--env-dir").arg(&directory.path);
    fails_with(&mut command, &["no certificates of authorities", "ca-certificates"]);
}

#[test]
fn keys_are_found_where_the_aws_command_line_finds_them() {
    let server = server();
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let (id, secret) = (server.access_key(), server.secret_key());
    let keys = format!("aws_access_key_id={id}\naws_secret_access_key={secret}\n");
    write(&path("credentials"), &format!("[wal]\n{keys}"));
    let json =
        format!("{{\"Version\":1,\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"{secret}\"}}");
    write(&path("keys.json"), &json);
    let process = format!("[profile p]\ncredential_process=cat {}\n", text("keys.json"));
    write(&path("config"), &process);
    let service = KeyService::start(id, secret);
    let (credentials, config, full) =
        (text("credentials"), text("config"), format!("{}/keys", service.url()));
    let url = service.url();
    for variables in [
        &[("AWS_SHARED_CREDENTIALS_FILE", &*credentials), ("AWS_PROFILE", "wal")][..],
        &[("AWS_CONFIG_FILE", &*config), ("AWS_PROFILE", "p")],
        &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*full)],
        &[("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*url)],
    ] {
        // A proxy sees nothing of what a machine or a container is told.
        let proxy = ForwardProxy::start(&server.endpoint());
        let mut command = bare(NOWHERE);
        command.env("HTTP_PROXY", proxy.url()).envs(variables.iter().copied());
        run(&mut command).success();
        assert!(proxy.lines().iter().all(|line| line.contains(NOWHERE)), "{:?}", proxy.lines());
        let directory = EnvDir::new(variables);
        let mut command = bare(&server.endpoint());
        // The tests run as on a machine without metadata.
        command.env_remove("AWS_EC2_METADATA_DISABLED");
        run(command.arg("--env-dir").arg(&directory.path)).success();
    }
    assert!(!service.requests().is_empty());

    let mut command = bare(&server.endpoint());
    fails_with(
        &mut command,
        &[
            "no credentials were found",
            "the environment: AWS_ACCESS_KEY_ID",
            "profile \"default\"",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_EC2_METADATA_DISABLED",
        ],
    );
}

#[test]
fn a_role_is_asked_for_through_the_proxy() {
    let server = server();
    let scratch = Scratch::new();
    let token = scratch.path().join("token");
    write(&token, "hunter2");
    let proxy = ForwardProxy::start(&server.endpoint());
    proxy.refuse(Some(403));
    let token = token.display().to_string();
    let directory = EnvDir::new(&[
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/wal"),
        ("HTTPS_PROXY", &proxy.url()),
        ("AWS_REGION", "eu-west-1"),
    ]);
    let settings = [
        format!("wal_e.prefix = 's3://{BUCKET}/ways'"),
        format!("wal_e.s3_endpoint = '{}'", server.endpoint()),
        format!("wal_e.env_dir = '{}'", directory.path.display()),
    ];
    let cluster =
        Cluster::build(PgVersion::oldest()).archiving().configuration_lines(settings).start();
    cluster.execute("CREATE EXTENSION wal_e");
    let row = check(&cluster, "readable");
    assert!(row.contains("a web identity token"), "{row}");
    let lines = proxy.lines();
    let sts = "CONNECT sts.eu-west-1.amazonaws.com:443 HTTP/1.1";
    assert!(!lines.is_empty() && lines.iter().all(|line| line == sts), "{lines:?}");
}

/// A row of `wale_check()`: whether it is as it should be, what was found, and the hint.
#[track_caller]
fn check(cluster: &Cluster, name: &str) -> String {
    let sql = format!(
        "SELECT concat_ws(' ', ok, detail, hint) FROM wale_check() WHERE check_name = '{name}'"
    );
    let row = cluster.query_one(&sql);
    println!("{name}: {row}");
    row
}

/// What an upload asked for.
fn attributes(server: &S3Server, prefix: &str) -> (Option<String>, Option<String>) {
    let requests = server.requests();
    let upload = requests.iter().rev().find(|request| {
        request.method == "PUT" && request.key.contains(prefix) && request.key.contains("wal_005/")
    });
    let upload = upload.unwrap_or_else(|| panic!("nothing was archived below {prefix}"));
    let header = |name| upload.header(name).map(str::to_owned);
    (header("x-amz-server-side-encryption"), header("x-amz-storage-class"))
}

#[test]
fn one_directory_of_variables_means_the_same_to_the_server_and_to_the_program() {
    let server = server();
    let proxy = ForwardProxy::start(&server.endpoint());
    let directory = EnvDir::new(&[
        ("WALE_S3_ENDPOINT", "http+path://s3.behind.invalid:9000"),
        ("WALG_S3_SSE", "AES256"),
        ("WALG_S3_STORAGE_CLASS", "STANDARD_IA"),
        ("WALG_COMPRESSION_METHOD", "zstd"),
        ("AWS_ACCESS_KEY_ID", server.access_key()),
        ("AWS_SECRET_ACCESS_KEY", server.secret_key()),
        ("AWS_REGION", "us-east-1"),
        ("HTTP_PROXY", &proxy.url()),
    ]);
    let settings = [
        format!("wal_e.prefix = 's3://{BUCKET}/of_server'"),
        format!("wal_e.env_dir = '{}'", directory.path.display()),
    ];
    let cluster =
        Cluster::build(PgVersion::oldest()).archiving().configuration_lines(settings).start();
    cluster.execute("CREATE EXTENSION wal_e");
    let segment = cluster.archive_current_wal();
    let row = check(&cluster, "proxy");
    assert!(row.contains("HTTP_PROXY in env_dir") && row.contains(&proxy.url()), "{row}");
    assert!(check(&cluster, "certificates").contains("not needed"));
    assert!(check(&cluster, "variables").starts_with('t'));
    assert!(check(&cluster, "compression").contains("zstd"));

    let wal = cluster.data_directory().join("pg_wal").join(&segment);
    let copy = directory.scratch.path().join(&segment);
    std::fs::copy(&wal, &copy).expect("the segment is still there");
    ServerUser::get().own(&copy);
    let mut command = bare_wal_e();
    command.args(["--s3-prefix", &format!("s3://{BUCKET}/of_program")]);
    command.arg("--env-dir").arg(&directory.path).arg("wal-push").arg(&copy);
    run(&mut command).success();
    let expected = (Some("AES256".to_owned()), Some("STANDARD_IA".to_owned()));
    for prefix in ["of_server", "of_program"] {
        assert_eq!(attributes(&server, prefix), expected, "{prefix}");
        let objects = server.objects(BUCKET);
        let name = format!("{prefix}/wal_005/{segment}.zst");
        assert!(objects.iter().any(|(key, _)| *key == name), "{name}: {objects:?}");
    }
    assert!(proxy.lines().iter().all(|line| line.contains(NOWHERE)), "{:?}", proxy.lines());
}

#[test]
fn variables_that_are_not_followed_are_told_by_server_and_program() {
    let archive = Archive::s3();
    archive.write_variable("WALG_CSE_KMS_ID", "hunter2");
    archive.write_variable("WALG_S3_PREFIX", "s3://elsewhere/x");
    let mut cluster = Cluster::build(PgVersion::oldest()).archiving_to(&archive).create();
    cluster.set_environment("AWS_REGION", "eu-central-1");
    cluster.start();
    cluster.execute("CREATE EXTENSION IF NOT EXISTS wal_e");
    cluster.archive_current_wal();
    cluster.archive_current_wal();
    let row = check(&cluster, "variables");
    for words in [
        "WALG_CSE_KMS_ID in env_dir",
        "for libsodium only",
        "WALG_S3_PREFIX is another prefix",
        "AWS_REGION",
        "differ",
    ] {
        assert!(row.contains(words), "{words}: {row}");
    }
    let log = cluster.wait_for_log("WALG_CSE_KMS_ID");
    let told = log.lines().filter(|line| line.contains("WARNING:  WALG_CSE_KMS_ID")).count();
    assert_eq!(told, 1, "{log}");
    assert!(!log.contains("hunter2") && !row.contains("hunter2"), "{log}");

    let finished = run(wal_e_e2e::wal_e::wal_e(&archive).arg("backup-list"));
    let said = format!("{finished:?}");
    assert!(said.contains("warning: WALG_CSE_KMS_ID"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    archive.write_variable("WALG_S3_SSE_C", "hunter2");
    fails_with(wal_e_e2e::wal_e::wal_e(&archive).arg("backup-list"), &["WALG_S3_SSE_C", "SSE-C"]);
    wait_for("the server to refuse it", || check(&cluster, "prefix").contains("WALG_S3_SSE_C"));
}

#[test]
fn the_environment_of_a_server_counts() {
    let server = server();
    let scratch = Scratch::new();
    let config = scratch.path().join("config");
    write(&config, &format!("[default]\nendpoint_url = {}\n", server.endpoint()));
    for (name, value) in
        [("AWS_ENDPOINT_URL", server.endpoint()), ("AWS_CONFIG_FILE", config.display().to_string())]
    {
        let line = format!("wal_e.prefix = 's3://{BUCKET}/{}'", name.to_lowercase());
        let mut cluster =
            Cluster::build(PgVersion::oldest()).archiving().configuration(line.clone()).create();
        cluster.configure("wal_e.s3_region = 'us-east-1'");
        cluster.set_environment(name, value.clone());
        cluster.set_environment("AWS_ACCESS_KEY_ID", server.access_key());
        cluster.set_environment("AWS_SECRET_ACCESS_KEY", server.secret_key());
        cluster.start();
        cluster.execute("CREATE EXTENSION wal_e");
        cluster.archive_current_wal();
        let row = check(&cluster, "credentials");
        assert!(row.contains("the environment"), "{row}");
    }
}

#[test]
fn a_proxy_that_is_not_there_is_named_by_the_check() {
    let settings = [
        format!("wal_e.prefix = 's3://{BUCKET}/ways'"),
        "wal_e.s3_endpoint = 'https://s3.behind.invalid'".to_owned(),
        "wal_e.s3_region = 'us-east-1'".to_owned(),
        "wal_e.s3_proxy = 'http://127.0.0.1:1'".to_owned(),
    ];
    let certificate = Certificate::self_made("/CN=x", &[]);
    let keys = EnvDir::new(&[("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")]);
    let cluster = Cluster::build(PgVersion::oldest())
        .archiving()
        .configuration_lines(settings)
        .configuration(format!("wal_e.s3_ca_file = '{}'", certificate.path().display()))
        .configuration(format!("wal_e.env_dir = '{}'", keys.path.display()))
        .start();
    cluster.execute("CREATE EXTENSION wal_e");
    let row = check(&cluster, "readable");
    assert!(row.contains("the proxy \"http://127.0.0.1:1\" (\"wal_e.s3_proxy\")"), "{row}");
    assert!(row.contains("Connection refused"), "{row}");
    assert!(check(&cluster, "certificates").contains("one certificate is trusted"));
    let refused = cluster.failure_of("ALTER SYSTEM SET wal_e.s3_proxy = 'http://u:hunter2@h:1'");
    let said = format!("{refused:?}");
    assert!(said.contains("HTTPS_PROXY"), "{said}");
}
