//! What S3 needs to know.

use std::path::PathBuf;
use std::time::Duration;

use super::{AwsVariables, Credentials, Endpoint, Proxies, Setting, Variables};
use crate::error::{Error, ErrorKind, Result};

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
    /// PEM file of the authorities that may sign the server's certificate, or of that itself.
    pub ca_file: Option<PathBuf>,
    /// What is on the way there.
    pub proxies: Proxies,
    /// `x-amz-storage-class`.
    pub storage_class: Option<String>,
    /// `AES256`, `aws:kms`, ...
    pub sse: Option<String>,
    /// Key for `aws:kms`.
    pub sse_kms_key_id: Option<String>,
    /// `None` means the AWS default chain.
    pub credentials: Option<Credentials>,
    /// What the AWS default chain goes by.
    pub aws: AwsVariables,
    /// How long a request may stall before it counts as failed; `None`
    /// means [`DEFAULT_S3_TIMEOUT`]. An answer may take twice as long, and the
    /// completion of a multipart upload ten times.
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
            proxies: Proxies::default(),
            storage_class: None,
            sse: None,
            sse_kms_key_id: None,
            credentials: None,
            aws: AwsVariables::default(),
            timeout: None,
        }
    }

    /// A bucket with what was given for it and, where nothing was, with what variables say.
    /// A server and the program read the same directory of variables in this one way. Keys
    /// in it are only looked for: the store reads them itself, and again when they change.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] for a variable that counts and has no meaning.
    pub fn resolve(
        bucket: impl Into<String>,
        path: impl Into<String>,
        given: S3Given,
        variables: &Variables,
    ) -> Result<Self> {
        if let Some(found) = variables.find_name("S3_SSE_C") {
            let message = format!("{} is set, and wal_e cannot do what it says", found.name);
            return Err(Error::new(ErrorKind::Config, message)
                .with_detail(
                    "Objects would be stored without the encryption with a key of the client's \
                     own (SSE-C) that it asks for.",
                )
                .with_hint(format!(
                    "Remove it, and set {} to \"AES256\" or \"aws:kms\".",
                    Setting::S3Sse
                )));
        }
        let text = |given: Option<String>, setting| {
            given.or_else(|| variables.find(setting).map(|found| found.value))
        };
        let endpoint = match (given.endpoint, variables.find(Setting::S3Endpoint)) {
            (Some(endpoint), _) => Some(endpoint),
            (None, found) => found.map(|found| found.value.parse::<Endpoint>()).transpose()?,
        };
        let force_path_style = match (given.force_path_style, Setting::S3ForcePathStyle) {
            (Some(force), _) => Some(force),
            (None, setting) => variables.find(setting).map(|found| found.boolean()).transpose()?,
        };
        let timeout = match (given.timeout, Setting::S3Timeout) {
            (Some(timeout), _) => Some(timeout),
            (None, setting) => {
                variables.find(setting).map(|found| found.seconds(setting)).transpose()?
            }
        };
        let ca_file = variables.find(Setting::S3CaFile).map(|found| PathBuf::from(found.value));
        Ok(S3Config {
            bucket: bucket.into(),
            path: path.into(),
            force_path_style: force_path_style
                .or_else(|| endpoint.as_ref().and_then(|endpoint| endpoint.force_path_style)),
            endpoint: endpoint.map(|endpoint| endpoint.url),
            region: text(given.region, Setting::S3Region),
            ca_file: given.ca_file.or(ca_file),
            proxies: Proxies::resolve(given.proxy.as_deref(), variables)?,
            storage_class: text(given.storage_class, Setting::S3StorageClass),
            sse: text(given.sse, Setting::S3Sse),
            sse_kms_key_id: text(given.sse_kms_key_id, Setting::S3SseKmsKeyId),
            credentials: given.credentials.or_else(|| variables.env_dir_with_keys()),
            aws: AwsVariables::find(variables),
            timeout,
        })
    }
}

/// What is said of S3 where it counts most: by a server's settings, or on the command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3Given {
    /// A server that is not AWS.
    pub endpoint: Option<Endpoint>,
    /// [`S3Config::region`].
    pub region: Option<String>,
    /// [`S3Config::force_path_style`].
    pub force_path_style: Option<bool>,
    /// [`S3Config::ca_file`].
    pub ca_file: Option<PathBuf>,
    /// A proxy for all requests, or "none".
    pub proxy: Option<String>,
    /// [`S3Config::storage_class`].
    pub storage_class: Option<String>,
    /// [`S3Config::sse`].
    pub sse: Option<String>,
    /// [`S3Config::sse_kms_key_id`].
    pub sse_kms_key_id: Option<String>,
    /// [`S3Config::credentials`].
    pub credentials: Option<Credentials>,
    /// [`S3Config::timeout`].
    pub timeout: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EnvDir, Secret, StaticCredentials};

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
        let resolve = || {
            let variables = EnvDir::read(directory.path()).unwrap().into();
            S3Config::resolve("bucket", "", S3Given::default(), &variables).unwrap()
        };
        std::fs::write(directory.path().join("AWS_REGION"), "eu-west-1").unwrap();
        let config = resolve();
        assert_eq!(config.credentials, None);
        assert_eq!(config.region.as_deref(), Some("eu-west-1"));

        for (name, value) in [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hunter2")] {
            std::fs::write(directory.path().join(name), value).unwrap();
        }
        let from_directory = Some(Credentials::EnvDir(directory.path().to_owned()));
        assert_eq!(resolve().credentials, from_directory);
    }

    #[test]
    fn what_is_given_counts_before_variables_and_leaves_them_unread() {
        let directory = tempfile::tempdir().unwrap();
        for (name, value) in [
            ("AWS_REGION", "eu-west-1"),
            ("S3_ENDPOINT", "ftp://x"),
            ("AWS_S3_FORCE_PATH_STYLE", "perhaps"),
            ("S3_TIMEOUT", "soon"),
            ("S3_CA_CERT_FILE", "/variable.pem"),
        ] {
            std::fs::write(directory.path().join(name), value).unwrap();
        }
        let variables = EnvDir::read(directory.path()).unwrap().into();
        let endpoint = Endpoint { url: "http://h".to_owned(), force_path_style: None };
        let given = S3Given {
            endpoint: Some(endpoint),
            region: Some("given-1".to_owned()),
            force_path_style: Some(false),
            ca_file: Some("/given.pem".into()),
            timeout: Some(Duration::from_secs(7)),
            ..S3Given::default()
        };
        let config = S3Config::resolve("bucket", "path", given, &variables).unwrap();
        let expected = S3Config {
            endpoint: Some("http://h".to_owned()),
            region: Some("given-1".to_owned()),
            force_path_style: Some(false),
            ca_file: Some("/given.pem".into()),
            timeout: Some(Duration::from_secs(7)),
            ..S3Config::new("bucket", "path")
        };
        assert_eq!(config, expected);
    }
}
