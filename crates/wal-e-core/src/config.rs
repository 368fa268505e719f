//! Settings as plain values, filled by the extension from its settings and by
//! the program from flags and environment.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

mod env_dir;
mod settings;

pub use env_dir::{EnvDir, NAMESPACES};
pub use settings::{Context, Description, Flag, Guc, Number, Setting, Unit, Value, ZSTD_LEVEL};

/// The URL under which one cluster keeps everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prefix {
    /// `s3://bucket/path`.
    S3 {
        /// The bucket.
        bucket: String,
        /// The path inside the bucket, without slashes at its ends; may be empty.
        path: String,
    },
    /// `file:///absolute/path`, or WAL-G's `file://localhost/absolute/path`.
    File {
        /// An absolute directory that must exist already.
        directory: PathBuf,
    },
}

impl FromStr for Prefix {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        let malformed = |detail: &str| {
            Error::new(ErrorKind::Config, format!("invalid prefix \"{url}\""))
                .with_detail(detail.to_owned())
                .with_hint("A prefix looks like \"s3://bucket/path\" or \"file:///absolute/path\".")
        };
        if url.trim().is_empty() {
            return Err(Error::new(ErrorKind::Config, "no prefix is configured").with_hint(
                "Set \"wal_e.prefix\" (or --s3-prefix, --file-prefix) to \"s3://bucket/path\" or \"file:///absolute/path\".",
            ));
        }
        if let Some(rest) = url.strip_prefix("s3://") {
            let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(malformed("It names no bucket."));
            }
            if !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
                return Err(malformed("The bucket name has a character that S3 does not allow."));
            }
            let path = path.trim_matches('/').to_owned();
            if path.split('/').any(|part| part == "." || part == "..") {
                return Err(malformed("Its path has a \".\" or \"..\" component."));
            }
            return Ok(Prefix::S3 { bucket: bucket.to_owned(), path });
        }
        if let Some(rest) = url.strip_prefix("file://") {
            let rest = rest.strip_prefix("localhost").unwrap_or(rest);
            if !rest.starts_with('/') {
                return Err(malformed("The directory is not an absolute path."));
            }
            if Path::new(rest).components().any(|c| c == std::path::Component::ParentDir) {
                return Err(malformed("Its path has a \"..\" component."));
            }
            return Ok(Prefix::File { directory: PathBuf::from(rest) });
        }
        Err(malformed("It begins neither with \"s3://\" nor with \"file://\"."))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Prefix::S3 { bucket, path } if path.is_empty() => write!(f, "s3://{bucket}"),
            Prefix::S3 { bucket, path } => write!(f, "s3://{bucket}/{path}"),
            Prefix::File { directory } => write!(f, "file://{}", directory.display()),
        }
    }
}

/// A secret: printed as `***` wherever it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The secret itself, for the one place that signs with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A pair of keys, and where they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticCredentials {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Secret,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<Secret>,
    /// Where they came from, for error messages: `env_dir "/etc/wal-e.d/env"`.
    pub source: String,
}

/// Where the keys for S3 come from, when it is not the AWS default chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Keys that stay as they are.
    Given(StaticCredentials),
    /// An envdir directory, read again while the store is open, so that work of
    /// hours outlives a session token.
    EnvDir(PathBuf),
}

/// [`S3Config::timeout`] where none is given.
pub const DEFAULT_S3_TIMEOUT: Duration = Duration::from_secs(30);

/// What an S3 client is built from. `None` means the SDK's default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3Config {
    /// `https://host:port` of a server that is not AWS.
    pub endpoint: Option<String>,
    /// Region; with a custom endpoint and none given, `us-east-1`.
    pub region: Option<String>,
    /// Bucket in the path instead of the host name; with a custom endpoint the default.
    pub force_path_style: Option<bool>,
    /// PEM file of the authorities that may sign the server's certificate.
    pub ca_file: Option<PathBuf>,
    /// `x-amz-storage-class`.
    pub storage_class: Option<String>,
    /// `AES256`, `aws:kms`, ...
    pub sse: Option<String>,
    /// Key for `aws:kms`.
    pub sse_kms_key_id: Option<String>,
    /// `None` means the AWS default chain.
    pub credentials: Option<Credentials>,
    /// How long a request may stand still before it counts as failed; `None`
    /// means [`DEFAULT_S3_TIMEOUT`]. An answer may take twice as long, and the
    /// end of an upload in parts ten times.
    pub timeout: Option<Duration>,
}

/// Where objects live and how to reach them. Two equal values can share a
/// client; a changed one needs a new client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The cluster's prefix.
    pub prefix: Prefix,
    /// Used for `s3://` prefixes.
    pub s3: S3Config,
}

impl S3Config {
    /// Fills what is not yet set from the variables of an envdir directory. Keys
    /// are only looked for: the store reads them itself, and again when they change.
    pub fn fill_from_env_dir(&mut self, env_dir: &EnvDir) {
        let get = |names: &[&str]| names.iter().find_map(|name| env_dir.get(name));
        if self.credentials.is_none() && env_dir.credentials().is_some() {
            self.credentials = Some(Credentials::EnvDir(env_dir.path().to_owned()));
        }
        if self.region.is_none() {
            self.region = get(&["AWS_REGION", "AWS_DEFAULT_REGION"]).map(str::to_owned);
        }
        if self.endpoint.is_none() {
            self.endpoint = get(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"])
                .map(str::to_owned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_parsed_and_printed() {
        for (url, printed) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("file:///var/backups", "file:///var/backups"),
            ("file://localhost/var/backups", "file:///var/backups"),
        ] {
            assert_eq!(url.parse::<Prefix>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn malformed_prefixes_are_refused_with_a_hint() {
        for url in [
            "",
            " ",
            "bucket",
            "s3://",
            "s3:///path",
            "s3://b/../c",
            "s3://b k/x",
            "file://relative/path",
            "file:///a/../b",
            "http://bucket/path",
        ] {
            let error = url.parse::<Prefix>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(error.hint().is_some(), "{url}");
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        let config = S3Config {
            credentials: Some(Credentials::Given(StaticCredentials {
                access_key_id: "AKID".into(),
                secret_access_key: Secret::new("hunter2"),
                session_token: Some(Secret::new("hunter3")),
                source: "test".into(),
            })),
            ..S3Config::default()
        };
        let printed = format!("{config:?}");
        assert!(printed.contains("AKID") && !printed.contains("hunter"), "{printed}");
    }

    #[test]
    fn an_env_dir_is_named_as_the_source_of_keys_only_when_it_has_some() {
        let directory = tempfile::tempdir().unwrap();
        let fill = |config: &mut S3Config| {
            config.fill_from_env_dir(&EnvDir::read(directory.path()).unwrap());
        };
        let mut config = S3Config::default();
        std::fs::write(directory.path().join("AWS_REGION"), "eu-west-1").unwrap();
        fill(&mut config);
        assert_eq!(config.credentials, None);
        assert_eq!(config.region.as_deref(), Some("eu-west-1"));

        for (name, value) in [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hunter2")] {
            std::fs::write(directory.path().join(name), value).unwrap();
        }
        let from_directory = Some(Credentials::EnvDir(directory.path().to_owned()));
        fill(&mut config);
        assert_eq!(config.credentials, from_directory);
    }
}
