use super::*;
use crate::config::EnvDir;
use crate::config::{S3Config, S3Given};

fn environment(variables: &[(&str, &str)]) -> Place {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Place::Environment(variables.iter().map(owned).collect())
}

fn env_dir(variables: &[(&str, &str)]) -> (tempfile::TempDir, Place) {
    let directory = tempfile::tempdir().unwrap();
    for (name, value) in variables {
        std::fs::write(directory.path().join(name), value).unwrap();
    }
    let place = Place::EnvDir(EnvDir::read(directory.path()).unwrap());
    (directory, place)
}

fn names(misfits: &[Misfit]) -> Vec<&str> {
    misfits.iter().map(|misfit| misfit.message.split(' ').next().unwrap()).collect()
}

#[test]
fn what_matters_and_is_not_followed_is_named_without_its_value() {
    for name in [
        "WALG_CSE_KMS_ID",
        "WALG_PGP_KEY_PATH",
        "WALE_GPG_KEY_ID",
        "WALG_GS_PREFIX",
        "WALE_WABS_PREFIX",
        "WALG_DELTA_MAX_STEPS",
        "S3_ENDPOINT_SOURCE",
        "WALG_S3_ENDPOINT_SOURCE",
        "WALG_FAILOVER_STORAGES",
        "AWS_ENDPOINT_URL_STS",
        "WALG_S3_OF_TOMORROW",
    ] {
        let (_kept, place) = env_dir(&[(name, "hunter2")]);
        let misfits = Variables { places: vec![place] }.misfits();
        assert_eq!(names(&misfits), [name]);
        assert!(!format!("{misfits:?}").contains("hunter2"), "{misfits:?}");
    }
}

#[test]
fn what_is_followed_or_does_no_harm_is_passed_over() {
    let variables = [
        ("WALG_S3_PREFIX", "s3://b/p"),
        ("WALE_S3_ENDPOINT", "http+path://h:1"),
        ("WALG_S3_SSE", "AES256"),
        ("WALG_S3_SSE_KMS_ID", "key"),
        ("WALG_S3_CA_CERT_FILE", "/ca"),
        ("WALG_S3_STORAGE_CLASS", "STANDARD_IA"),
        ("WALG_S3_MAX_PART_SIZE", "1"),
        ("S3_LOG_LEVEL", "DEVEL"),
        ("S3_RANGE_BATCH_ENABLED", "true"),
        ("S3_USE_LIST_OBJECTS_V1", "false"),
        ("AWS_S3_FORCE_PATH_STYLE", "true"),
        ("AWS_PROFILE", "p"),
        ("WAL_S3_BUCKET", "b"),
        ("WALG_UPLOAD_CONCURRENCY", "4"),
        ("WALG_PREVENT_WAL_OVERWRITE", "true"),
        ("WALG_COMPRESSION_METHOD", "lz4"),
        ("HTTPS_PROXY", "http://p:1"),
        ("WALG_LIBSODIUM_KEY_PATH", "/key"),
        // With a key to write with, it is there to read what is older.
        ("WALG_PGP_KEY_PATH", "/old"),
    ];
    let (_kept, place) = env_dir(&variables);
    assert_eq!(Variables { places: vec![place, environment(&variables)] }.misfits(), []);
    // Common words, in the environment of a process.
    let place = environment(&[("PGP_KEY", "x"), ("SSH_PREFIX", "y")]);
    assert_eq!(Variables { places: vec![place] }.misfits(), []);
}

#[test]
fn a_server_names_what_the_program_takes_otherwise() {
    let prefix: Prefix = "s3://bucket/a".parse().unwrap();
    let (_kept, place) = env_dir(&[
        ("WALG_S3_PREFIX", "s3://bucket/b"),
        ("WALG_COMPRESSION_METHOD", "brotli"),
        ("AWS_REGION", "eu-west-1"),
    ]);
    let other = environment(&[("AWS_REGION", "eu-west-2"), ("AWS_PROFILE", "x")]);
    let variables = Variables { places: vec![place, other] };
    let misfits = variables.misfits_of_server(Some(&prefix));
    let text = format!("{misfits:?}");
    assert_eq!(misfits.len(), 3, "{text}");
    for words in ["WALG_S3_PREFIX is another prefix", "brotli", "AWS_REGION in env_dir"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let (_kept, place) = env_dir(&[("WALG_S3_PREFIX", "s3://bucket/a/")]);
    assert_eq!(Variables { places: vec![place] }.misfits_of_server(Some(&prefix)), []);
}

#[test]
fn a_key_of_the_client_s_own_is_an_error() {
    let (_kept, place) = env_dir(&[("WALG_S3_SSE_C", "hunter2")]);
    let variables = Variables { places: vec![place] };
    let error = S3Config::resolve("b", "", S3Given::default(), &variables).unwrap_err();
    assert!(error.message().contains("WALG_S3_SSE_C"), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
}
