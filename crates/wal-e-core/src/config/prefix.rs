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
            // It may hold a password where none belongs: it is not repeated then.
            let shown = if url.contains('@') { "with a user name" } else { url };
            Error::new(ErrorKind::Config, format!("invalid prefix \"{shown}\""))
                .with_detail(detail.to_owned())
                .with_hint("A prefix looks like \"s3://bucket/path\" or \"file:///absolute/path\".")
        };
        let url = url.trim();
        let after = |scheme: &str| {
            let (start, rest) = url.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(rest)
        };
        if url.is_empty() {
            return Err(Error::new(ErrorKind::Config, "no prefix is configured").with_hint(
                format!(
                    "Set {} to \"s3://bucket/path\" or \"file:///absolute/path\".",
                    Setting::Prefix
                ),
            ));
        }
        if let Some(rest) = after("s3://") {
            let (bucket, path) = split_bucket(rest);
            if bucket.is_empty() {
                return Err(malformed("It names no bucket."));
            }
            if bucket.starts_with("arn:") && !is_access_point(bucket) {
                return Err(malformed(
                    "Of ARNs, only that of an access point of one region can stand for a bucket: \
                     \"s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/path\".",
                ));
            }
            let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            // "tenant:bucket" is a bucket of a tenant of Ceph.
            let name = bucket.replacen(':', "", 1);
            if !bucket.starts_with("arn:") && (name.is_empty() || !name.bytes().all(is_allowed)) {
                return Err(malformed("The bucket name has a character that S3 does not allow."));
            }
            let path = path.trim_matches('/').to_owned();
            if path.split('/').any(|part| part == "." || part == "..") {
                return Err(malformed("Its path has a \".\" or \"..\" component."));
            }
            return Ok(Prefix::S3 { bucket: bucket.to_owned(), path });
        }
        if let Some(rest) = after("file://") {
            let rest = rest.strip_prefix("localhost").unwrap_or(rest);
            if !rest.starts_with('/') {
                return Err(malformed("The directory is not an absolute path."));
            }
            if rest.contains(char::REPLACEMENT_CHARACTER) {
                return Err(malformed("Its path is not valid UTF-8."));
            }
            if Path::new(rest).components().any(|c| c == std::path::Component::ParentDir) {
                return Err(malformed("Its path has a \"..\" component."));
            }
            return Ok(Prefix::File { directory: PathBuf::from(rest) });
        }
        Err(malformed("It begins neither with \"s3://\" nor with \"file://\"."))
    }
}

/// The bucket, or what stands for it, and the path. An ARN has slashes of its own:
/// `arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME`, and with `outpost/ID/` before that.
fn split_bucket(rest: &str) -> (&str, &str) {
    let names = match rest.split_once(":outpost/") {
        _ if !rest.starts_with("arn:") => 1,
        Some(_) => 4,
        None if rest.contains(":accesspoint/") => 2,
        None => 1,
    };
    match rest.match_indices('/').nth(names - 1) {
        Some((at, _)) => (&rest[..at], &rest[at + 1..]),
        None => (rest, ""),
    }
}

fn is_access_point(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [_, partition, service, region, account, resource] = parts[..] else { return false };
    let name = resource.rsplit(['/', ':']).next().unwrap_or_default();
    let is_known = |b: u8| b.is_ascii_alphanumeric() || b"-./:".contains(&b);
    partition.starts_with("aws")
        && !region.is_empty()
        && matches!(service, "s3" | "s3-outposts" | "s3-object-lambda")
        && !account.is_empty()
        && resource.contains("accesspoint")
        && !name.is_empty()
        && name != "accesspoint"
        && arn.bytes().all(is_known)
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
    fn a_path_that_lost_bytes_is_refused() {
        let error = "file:///var/gr\u{fffd}n".parse::<Prefix>().unwrap_err();
        assert_eq!(error.detail(), Some("Its path is not valid UTF-8."));
    }

    #[test]
    fn prefixes_are_parsed_and_printed() {
        for (url, printed) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            (" S3://bucket/a ", "s3://bucket/a"),
            ("s3://db.example.com/a", "s3://db.example.com/a"),
            ("s3://Old_Bucket/a", "s3://Old_Bucket/a"),
            ("s3://tenant:bucket/a", "s3://tenant:bucket/a"),
            ("s3://:bucket/a", "s3://:bucket/a"),
            ("file:///var/backups", "file:///var/backups"),
            ("file://localhost/var/backups", "file:///var/backups"),
        ] {
            assert_eq!(url.parse::<Prefix>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn an_access_point_stands_for_a_bucket() {
        const ARN: &str = "arn:aws:s3:us-west-2:123456789012:accesspoint";
        const OUTPOST: &str = "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-1";
        for (bucket, path) in [
            (format!("{ARN}/wal"), "a/b"),
            (format!("{ARN}/wal"), ""),
            (format!("{ARN}:wal"), "a"),
            (format!("{OUTPOST}/accesspoint/wal"), "a/b"),
        ] {
            let url = format!("s3://{bucket}/{path}");
            let expected = Prefix::S3 { bucket, path: path.to_owned() };
            assert_eq!(url.parse::<Prefix>().unwrap(), expected, "{url}");
        }
        for url in [
            "s3://arn:aws:s3:::bucket/a",
            &format!("s3://{ARN}"),
            &format!("s3://{ARN}/"),
            "s3://arn:aws",
            // It is signed for in another way.
            "s3://arn:aws:s3::123456789012:accesspoint/name.mrap/a",
        ] {
            let error = url.parse::<Prefix>().unwrap_err();
            assert!(error.detail().unwrap().contains("access point"), "{url}: {error:?}");
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
            "s3://:",
            "s3://a:b:c/x",
            "file://relative/path",
            "file:///a/../b",
            "http://bucket/path",
        ] {
            let error = url.parse::<Prefix>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(error.hint().is_some(), "{url}");
        }
        let error = "s3://AKID:hunter2@bucket/a".parse::<Prefix>().unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
