//! The URL of an archive.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Setting;
use crate::error::{Error, ErrorKind, Result};

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
                format!(
                    "Set {} to \"s3://bucket/path\" or \"file:///absolute/path\".",
                    Setting::Prefix
                ),
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
}
