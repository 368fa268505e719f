//! What S3 needs to know.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{EnvDir, Setting};

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
pub const DEFAULT_S3_TIMEOUT: Duration = match Setting::S3Timeout.number().default {
    Some(seconds) => Duration::from_secs(seconds.unsigned_abs()),
    None => panic!("the timeout has a default"),
};

/// What an S3 client is built from. `None` means the SDK's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// The path inside the bucket, without slashes at its ends; may be empty.
    pub path: String,
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

impl S3Config {
    /// A bucket, and nothing said of how to reach it.
    pub fn new(bucket: impl Into<String>, path: impl Into<String>) -> Self {
        S3Config {
            bucket: bucket.into(),
            path: path.into(),
            endpoint: None,
            region: None,
            force_path_style: None,
            ca_file: None,
            storage_class: None,
            sse: None,
            sse_kms_key_id: None,
            credentials: None,
            timeout: None,
        }
    }

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
    fn a_secret_is_never_printed() {
        let config = S3Config {
            credentials: Some(Credentials::Given(StaticCredentials {
                access_key_id: "AKID".into(),
                secret_access_key: Secret::new("hunter2"),
                session_token: Some(Secret::new("hunter3")),
                source: "test".into(),
            })),
            ..S3Config::new("bucket", "")
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
        let mut config = S3Config::new("bucket", "");
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
