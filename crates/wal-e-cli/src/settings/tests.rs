use std::collections::BTreeMap;
use std::path::Path;

use clap::Parser;
use wal_e_core::config::AwsVariables;

use super::*;
use crate::cli::Cli;

fn environment(variables: &[(&str, &str)]) -> Place {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Place::Environment(variables.iter().map(owned).collect::<BTreeMap<_, _>>())
}

fn resolve(flags: &[&str], variables: &[(&str, &str)]) -> Result<Settings> {
    let line = ["wal-e"].iter().chain(flags).chain(&["backup-list"]);
    Settings::resolve(&Cli::try_parse_from(line).unwrap().store, environment(variables))
}

fn env_dir(variables: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, value) in variables {
        std::fs::write(directory.path().join(name), value).unwrap();
    }
    directory
}

fn s3_of(settings: &Settings) -> &S3Config {
    match &settings.store.place {
        StorePlace::S3(config) => config,
        StorePlace::File(config) => panic!("{config:?}"),
    }
}

/// The keys that stay as they are.
fn given(settings: &Settings) -> StaticCredentials {
    match &s3_of(settings).credentials {
        Some(Credentials::Given(keys)) => keys.clone(),
        other => panic!("{other:?}"),
    }
}

const KEYS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];

#[test]
fn prefixes_are_found_under_every_name() {
    for (name, value, prefix) in [
        ("WALE_S3_PREFIX", "s3://b/p", "s3://b/p"),
        ("WALG_S3_PREFIX", "s3://b/p/", "s3://b/p"),
        ("WALE_FILE_PREFIX", "file://localhost/b", "file:///b"),
        ("WALG_FILE_PREFIX", "/b/c", "file:///b/c"),
    ] {
        let settings = resolve(&[], &[(name, value)]).unwrap();
        assert_eq!(settings.store.prefix().to_string(), prefix, "{name}");
    }
    let settings = resolve(&["--file-prefix", "/b"], &[("WALE_S3_PREFIX", "s3://b")]).unwrap();
    assert_eq!(settings.store.prefix().to_string(), "file:///b");
}

#[test]
fn no_prefix_and_two_prefixes_and_the_wrong_kind_are_errors() {
    for (flags, variables) in [
        (&[][..], &[][..]),
        (&[], &[("WALE_S3_PREFIX", "")]),
        (&[], &[("WALE_S3_PREFIX", "s3://b"), ("WALG_FILE_PREFIX", "/b")]),
        (&[], &[("WALE_S3_PREFIX", "file:///b")]),
        (&["--file-prefix", "s3://b"], &[]),
        (&["--file-prefix", "relative"], &[]),
        (&["--s3-prefix", "s3://b", "--env-dir", "/nonexistent"], &[]),
        (&["--s3-prefix", "s3://b"], &[("AWS_S3_FORCE_PATH_STYLE", "perhaps")]),
        (&["--s3-prefix", "s3://b"], &[("AWS_ENDPOINT", "ftp://x")]),
        (&["--s3-prefix", "s3://b", "-k", "AKID"], &[]),
        (&["--s3-prefix", "s3://b"], &[("S3_TIMEOUT", "soon")]),
        (&["--s3-prefix", "s3://b"], &[("WALE_S3_TIMEOUT", "0")]),
        (&["--s3-prefix", "s3://b"], &[("WALG_S3_TIMEOUT", "3601")]),
    ] {
        let error = resolve(flags, variables).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{flags:?} {variables:?}");
        assert!(error.hint().is_some(), "{flags:?} {variables:?}");
    }
}

#[test]
fn flags_count_before_the_environment_and_that_before_env_dir() {
    let directory = env_dir(&[
        ("WALE_S3_PREFIX", "s3://dir"),
        ("AWS_REGION", "dir-1"),
        ("AWS_ENDPOINT", "http://dir"),
        ("WALG_S3_SSE", "AES256"),
    ]);
    let flags =
        ["--env-dir", directory.path().to_str().unwrap(), "--s3-endpoint", "https+path://flag/"];
    let settings =
        resolve(&flags, &[("AWS_DEFAULT_REGION", "env-1"), ("WALE_S3_ENDPOINT", "http://env")])
            .unwrap();
    assert_eq!(settings.store.prefix().to_string(), "s3://dir");
    let s3 = s3_of(&settings);
    assert_eq!(s3.region.as_deref(), Some("env-1"));
    assert_eq!(s3.endpoint.as_deref(), Some("https://flag"));
    assert_eq!(s3.force_path_style, Some(true));
    assert_eq!(s3.sse.as_deref(), Some("AES256"));
}

#[test]
fn a_said_path_style_counts_before_the_one_of_the_endpoint() {
    let variables = [("WALE_S3_ENDPOINT", "http+path://h"), ("AWS_S3_FORCE_PATH_STYLE", "false")];
    let settings = resolve(&["--s3-prefix", "s3://b"], &variables).unwrap();
    assert_eq!(s3_of(&settings).force_path_style, Some(false));
}

#[test]
fn the_timeout_is_said_by_flag_or_variable() {
    let prefix = ["--s3-prefix", "s3://b"];
    let timeout = |settings: &Settings| s3_of(settings).timeout.map(|time| time.as_secs());
    assert_eq!(timeout(&resolve(&prefix, &[]).unwrap()), None);
    assert_eq!(timeout(&resolve(&prefix, &[("S3_TIMEOUT", "5")]).unwrap()), Some(5));
    let flags = [&prefix[..], &["--s3-timeout", "7"]].concat();
    let settings = resolve(&flags, &[("WALE_S3_TIMEOUT", "5")]).unwrap();
    assert_eq!(timeout(&settings), Some(7));
    assert_eq!(settings.arguments, ["--s3-prefix", "s3://b", "--s3-timeout", "7"]);

    let directory = env_dir(&[("WALE_S3_TIMEOUT", "9")]);
    let path = directory.path().to_str().unwrap();
    let flags = [&prefix[..], &["--env-dir", path]].concat();
    let settings = resolve(&flags, &[]).unwrap();
    assert_eq!(timeout(&settings), Some(9));
    assert!(!settings.arguments.contains(&"--s3-timeout".to_owned()), "the next one reads it");
}

#[test]
fn keys_count_as_a_pair_of_one_place() {
    let directory = env_dir(&[
        ("AWS_ACCESS_KEY_ID", "DIR"),
        ("AWS_SECRET_ACCESS_KEY", "hunter3"),
        ("AWS_SECURITY_TOKEN", "token"),
    ]);
    let flags = ["--s3-prefix", "s3://b", "--env-dir", directory.path().to_str().unwrap()];

    let settings = resolve(&flags, &KEYS).unwrap();
    let keys = given(&settings);
    assert_eq!((keys.access_key_id.as_str(), keys.session_token), ("ENV", None));
    assert_eq!(keys.source, "the environment");
    assert_eq!(settings.keys.credentials, CredentialPlace::Environment);

    let settings = resolve(&flags, &KEYS[..1]).unwrap();
    let from_directory = Some(Credentials::EnvDir(directory.path().to_owned()));
    assert_eq!(s3_of(&settings).credentials, from_directory);
    assert_eq!(settings.keys.credentials, CredentialPlace::EnvDir);
}

#[test]
fn the_key_of_a_flag_takes_its_secret_from_the_environment() {
    let settings = resolve(&["--s3-prefix", "s3://b", "-k", "FLAG"], &KEYS).unwrap();
    let keys = given(&settings);
    assert_eq!(keys.access_key_id, "FLAG");
    assert_eq!(keys.secret_access_key.expose(), "hunter2");
    assert!(keys.source.contains("--aws-access-key-id"), "{}", keys.source);
    assert!(settings.arguments.contains(&"FLAG".to_owned()));
}

#[test]
fn without_keys_the_default_chain_applies() {
    let settings = resolve(&["--s3-prefix", "s3://b"], &[]).unwrap();
    assert_eq!(s3_of(&settings).credentials, None);
    assert_eq!(settings.keys.credentials, CredentialPlace::DefaultChain);
    let settings = resolve(&["--file-prefix", "/b"], &KEYS).unwrap();
    assert_eq!(settings.keys.credentials, CredentialPlace::NotNeeded);
}

#[test]
fn the_arguments_repeat_what_another_process_cannot_see_and_no_secret() {
    let directory = env_dir(&[("AWS_REGION", "dir-1")]);
    let path = directory.path().to_str().unwrap();
    let mut variables = KEYS.to_vec();
    variables.extend([
        ("WALE_S3_PREFIX", "s3://b/p"),
        ("WALE_S3_ENDPOINT", "http+path://h:9000"),
        ("AWS_CA_BUNDLE", "/ca.pem"),
        ("WALE_S3_TIMEOUT", "90"),
    ]);
    let settings = resolve(&["--env-dir", path], &variables).unwrap();
    let expected = [
        "--s3-prefix",
        "s3://b/p",
        "--env-dir",
        path,
        "--s3-endpoint",
        "http+path://h:9000",
        "--s3-ca-file",
        "/ca.pem",
        "--s3-timeout",
        "90",
    ];
    assert_eq!(settings.arguments, expected);
    assert!(!format!("{settings:?}").contains("hunter2"));
}

/// What a server makes of a directory of variables when its own settings say nothing.
fn in_a_server(directory: &Path) -> Result<StorePlace> {
    let variables = EnvDir::read(directory)?.into();
    S3Config::resolve("b", "", S3Given::default(), &variables).map(StorePlace::S3)
}

#[test]
fn a_file_of_env_dir_means_the_same_to_the_program_and_to_a_server() {
    let plain = || S3Config::new("b", "");
    let endpoint = |url: &str, force_path_style| {
        let endpoint = Some(url.to_owned());
        Some(S3Config { endpoint, force_path_style, ..plain() })
    };
    let region = |name: &str| Some(S3Config { region: Some(name.to_owned()), ..plain() });
    let style = |force| Some(S3Config { force_path_style: Some(force), ..plain() });
    let ca_file = |path: &str| Some(S3Config { ca_file: Some(path.into()), ..plain() });
    let bundle = || {
        let places = vec![environment(&[("AWS_CA_BUNDLE", "/ca.pem")])];
        AwsVariables::find(&Variables { places })
    };
    for (name, value, expected) in [
        ("WALE_S3_ENDPOINT", "https+path://h:443", endpoint("https://h:443", Some(true))),
        ("WALG_S3_ENDPOINT", "http+virtualhost://h", endpoint("http://h", Some(false))),
        ("AWS_ENDPOINT_URL_S3", "http://h:9000/", endpoint("http://h:9000", None)),
        ("AWS_ENDPOINT", "h:9000", endpoint("https://h:9000", None)),
        ("AWS_ENDPOINT_URL", "ftp://h", None),
        ("AWS_REGION", "eu-west-1", region("eu-west-1")),
        ("WALG_AWS_REGION", "eu-west-2", region("eu-west-2")),
        ("AWS_DEFAULT_REGION", "eu-west-3  ", region("eu-west-3")),
        ("AWS_S3_FORCE_PATH_STYLE", "yes", style(true)),
        ("WALG_AWS_S3_FORCE_PATH_STYLE", "FALSE", style(false)),
        ("AWS_S3_FORCE_PATH_STYLE", "perhaps", None),
        ("WALG_S3_CA_CERT_FILE", "/ca.pem", ca_file("/ca.pem")),
        // Not for S3 alone.
        (
            "AWS_CA_BUNDLE",
            "/ca.pem",
            ca_file("/ca.pem").map(|config| S3Config { aws: bundle(), ..config }),
        ),
        (
            "WALG_S3_STORAGE_CLASS",
            "STANDARD_IA",
            Some(S3Config { storage_class: Some("STANDARD_IA".to_owned()), ..plain() }),
        ),
        ("S3_SSE", "AES256", Some(S3Config { sse: Some("AES256".to_owned()), ..plain() })),
        (
            "WALG_S3_SSE_KMS_ID",
            "key",
            Some(S3Config { sse_kms_key_id: Some("key".to_owned()), ..plain() }),
        ),
        ("S3_TIMEOUT", "7", Some(S3Config { timeout: Some(Duration::from_secs(7)), ..plain() })),
        ("WALE_S3_TIMEOUT", "3601", None),
        ("S3_TIMEOUT", "", Some(plain())),
        ("AWS_ACCESS_KEY_ID", "half a pair", Some(plain())),
        // Not about S3, or the prefix was given before it.
        ("WALE_S3_PREFIX", "s3://elsewhere", Some(plain())),
        ("WALG_COMPRESSION_METHOD", "brotli", Some(plain())),
        ("ANYTHING", "x", Some(plain())),
    ] {
        let directory = env_dir(&[(name, value)]);
        let flags = ["--s3-prefix", "s3://b", "--env-dir", directory.path().to_str().unwrap()];
        let program = resolve(&flags, &[]).map(|settings| settings.store.place);
        let server = in_a_server(directory.path());
        assert_eq!(program, server, "{name}={value}");
        assert_eq!(server.ok(), expected.map(StorePlace::S3), "{name}={value}");
    }
}

#[test]
fn keys_of_env_dir_are_the_same_to_the_program_and_to_a_server() {
    let directory = env_dir(&[("WALG_AWS_ACCESS_KEY_ID", "AKID"), ("WALG_AWS_SECRET_KEY", "s")]);
    let flags = ["--s3-prefix", "s3://b", "--env-dir", directory.path().to_str().unwrap()];
    let server = in_a_server(directory.path()).unwrap();
    assert_eq!(resolve(&flags, &[]).unwrap().store.place, server);
    let keys = Some(Credentials::EnvDir(directory.path().to_owned()));
    let expected = S3Config { credentials: keys, ..S3Config::new("b", "") };
    assert_eq!(server, StorePlace::S3(expected));
}

#[test]
fn a_proxy_of_the_environment_is_handed_on_unless_it_has_a_password() {
    let proxy = |variables: &[(&str, &str)]| {
        let settings = resolve(&["--s3-prefix", "s3://b"], variables).unwrap();
        let mut arguments = settings.arguments.into_iter();
        arguments.find(|argument| argument == "--s3-proxy").and(arguments.next())
    };
    let handed_on = Some("http://p:1".to_owned());
    assert_eq!(proxy(&[("HTTPS_PROXY", "http://p:1")]), handed_on);
    assert_eq!(proxy(&[("HTTPS_PROXY", "http://u:hunter2@p:1")]), None);
    assert_eq!(proxy(&[("HTTP_PROXY", "http://p:1")]), None, "for another kind of endpoint");
    let plain = ("AWS_ENDPOINT_URL", "http://h");
    assert_eq!(proxy(&[("HTTP_PROXY", "http://p:1"), plain]), handed_on);
    assert_eq!(proxy(&[("HTTP_PROXY", "http://p:1"), plain, ("NO_PROXY", "h")]), None);
    assert_eq!(proxy(&[]), None);
}
