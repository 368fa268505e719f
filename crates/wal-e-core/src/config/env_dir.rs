//! An envdir directory: one file for each variable, as daemontools' `envdir` reads it.
//!
//! The name of the file is the variable, its first line the value; spaces and
//! tabs at the end are removed, a NUL stands for a newline, and an empty file
//! means that the variable is not set (<https://cr.yp.to/daemontools/envdir.html>).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Secret, StaticCredentials};
use crate::error::{Error, ErrorKind, Result};

/// What a variable may be called: `S3_SSE` is also `WALE_S3_SSE` and
/// `WALG_S3_SSE`, and the longer names, being meant for us, count first.
pub const NAMESPACES: [&str; 3] = ["WALE_", "WALG_", ""];

/// The largest file that is taken for a variable; a key is a few dozen bytes,
/// a session token about a thousand.
const MAX_VARIABLE_BYTES: u64 = 64 * 1024;

/// The variables of an envdir directory. Its values are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvDir {
    path: PathBuf,
    variables: BTreeMap<String, Zeroizing<String>>,
}

impl EnvDir {
    /// Reads the directory.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the directory or one of its files cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let unreadable = |what: &Path, source: &std::io::Error| {
            let error = Error::file("read environment directory", what, source);
            Error::new(ErrorKind::Config, error.message()).with_hint(
                "It must be a directory that the server's operating system user can read, with one file for each variable, such as AWS_ACCESS_KEY_ID.",
            )
        };
        let mut variables = BTreeMap::new();
        for entry in std::fs::read_dir(path).map_err(|e| unreadable(path, &e))? {
            let entry = entry.map_err(|e| unreadable(path, &e))?;
            let file = entry.path();
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            // Kubernetes mounts secrets with "..data" links next to the files.
            if name.starts_with('.') || name.contains('=') {
                continue;
            }
            let metadata = std::fs::metadata(&file).map_err(|e| unreadable(&file, &e))?;
            if !metadata.is_file() || metadata.len() > MAX_VARIABLE_BYTES {
                continue;
            }
            let content = Zeroizing::new(std::fs::read(&file).map_err(|e| unreadable(&file, &e))?);
            // Editors of other systems put it there; it is no part of a value.
            let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content[..]);
            let line = content.split(|&b| b == b'\n').next().unwrap_or_default();
            let value = Zeroizing::new(String::from_utf8_lossy(line).replace('\0', "\n"));
            let value = value.trim_end_matches([' ', '\t', '\r']);
            if !value.is_empty() {
                variables.insert(name, Zeroizing::new(value.to_owned()));
            }
        }
        Ok(EnvDir { path: path.to_owned(), variables })
    }

    /// Where it was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a variable, when it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.as_str())
    }

    /// The names of those that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// The keys in it. They count only as a pair, so that an access key of one
    /// place is never combined with a secret of another.
    pub fn credentials(&self) -> Option<StaticCredentials> {
        NAMESPACES.iter().find_map(|namespace| {
            let get = |names: [&str; 2]| {
                names.into_iter().find_map(|name| self.get(&format!("{namespace}{name}")))
            };
            Some(StaticCredentials {
                access_key_id: get(["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"])?.to_owned(),
                secret_access_key: Secret::new(get(["AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"])?),
                session_token: get(["AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"]).map(Secret::new),
                source: format!("env_dir \"{}\"", self.path.display()),
            })
        })
    }
}

impl fmt::Debug for EnvDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvDir")
            .field("path", &self.path)
            .field("names", &self.variables.keys().collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_envdir_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("AWS_ACCESS_KEY_ID", "AKID  \t\nsecond line\n"),
            ("AWS_SECRET_ACCESS_KEY", "with\0newline"),
            ("AWS_REGION", ""),
            ("S3_SSE", "\u{feff}AES256\r\n"),
            (".hidden", "x"),
        ] {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let env = EnvDir::read(dir.path()).unwrap();
        assert_eq!(env.get("AWS_ACCESS_KEY_ID"), Some("AKID"));
        assert_eq!(env.get("AWS_SECRET_ACCESS_KEY"), Some("with\nnewline"));
        assert_eq!(env.get("AWS_REGION"), None);
        assert_eq!(env.get("S3_SSE"), Some("AES256"));
        assert_eq!(env.get(".hidden"), None);
        assert!(!format!("{env:?}").contains("newline"));
    }

    #[test]
    fn keys_count_as_a_pair_and_the_longest_name_first() {
        let dir = tempfile::tempdir().unwrap();
        let read = || EnvDir::read(dir.path()).unwrap().credentials();
        let write = |name: &str, value: &str| std::fs::write(dir.path().join(name), value).unwrap();
        write("AWS_ACCESS_KEY_ID", "AKID");
        write("WALG_AWS_SECRET_ACCESS_KEY", "hunter2");
        assert_eq!(read(), None);
        write("AWS_SECRET_KEY", "hunter3");
        write("AWS_SECURITY_TOKEN", "token");
        let keys = read().unwrap();
        assert_eq!(keys.access_key_id, "AKID");
        assert_eq!(keys.secret_access_key.expose(), "hunter3");
        assert_eq!(keys.session_token.unwrap().expose(), "token");
        assert_eq!(keys.source, format!("env_dir \"{}\"", dir.path().display()));
        write("WALG_AWS_ACCESS_KEY_ID", "WALG");
        assert_eq!(read().unwrap().access_key_id, "WALG");
    }

    #[test]
    fn a_missing_directory_is_a_configuration_error() {
        let error = EnvDir::read(Path::new("/nonexistent/env")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("/nonexistent/env"));
    }
}
