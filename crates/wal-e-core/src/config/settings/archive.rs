//! Where the archive is.

use super::{Description, TEXT_OF_SERVER, Value, option};

/// A prefix has no variable without one of these before its name.
pub(super) const OURS: &[&str] = &["WALE_", "WALG_"];

pub(super) const PREFIX: Description = Description {
    name: "prefix",
    purpose: "Where this cluster keeps its WAL and base backups",
    note: "\"s3://bucket/path\" or \"file:///absolute/path\".",
    remarks: "While it is empty the log says why archiving waits. A prefix belongs to one cluster. \
              The program has an option for each kind of prefix.",
    value: Value::Text { empty: "that archiving waits" },
    ..TEXT_OF_SERVER
};

pub(super) const S3_PREFIX: Description = Description {
    name: "s3_prefix",
    purpose: "Keep everything below this S3 prefix",
    guc: None,
    option: option("s3-prefix", "URL", "s3://BUCKET/PATH"),
    variables: &["S3_PREFIX"],
    namespaces: OURS,
    ..TEXT_OF_SERVER
};

pub(super) const FILE_PREFIX: Description = Description {
    name: "file_prefix",
    purpose: "Keep everything below this directory",
    guc: None,
    option: option("file-prefix", "URL", "file:///PATH or /PATH"),
    variables: &["FILE_PREFIX"],
    namespaces: OURS,
    ..TEXT_OF_SERVER
};

pub(super) const ENV_DIR: Description = Description {
    name: "env_dir",
    purpose: "Directory with one file for each variable, such as AWS_ACCESS_KEY_ID",
    note: "As daemontools' envdir reads it.",
    remarks: "The keys in it are read again when they change, also by a base backup that runs.",
    value: Value::Text { empty: "the AWS default credential chain" },
    option: option("env-dir", "DIR", ""),
    ..TEXT_OF_SERVER
};
