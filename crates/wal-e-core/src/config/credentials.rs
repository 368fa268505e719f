//! Keys for S3, and where they come from.

use std::fmt;
use std::path::PathBuf;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret: printed as `***` wherever it is printed, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
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
