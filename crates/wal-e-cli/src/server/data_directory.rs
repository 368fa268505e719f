//! Whether a directory is the one that the server works in.
//!
//! A backup reads the files itself: those of another server, taken between this
//! server's start and stop, would make a backup that nobody can restore.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use wal_e_core::postgres::SystemIdentifier;
use wal_e_core::{Error, ErrorKind, Result};

use super::ServerFacts;

/// Checks that `directory` is the server's data directory on this host, and
/// returns its absolute path without links.
///
/// # Errors
/// [`ErrorKind::Config`] when it is another directory or another server's,
/// [`ErrorKind::Io`] when it cannot be read.
pub fn check_belongs_to_server(directory: &Path, facts: &ServerFacts) -> Result<PathBuf> {
    let path = fs::canonicalize(directory)
        .map_err(|source| Error::file("open directory", directory, &source))?;
    let of_another = |detail: String| {
        let message = format!("\"{}\" is not the data directory of the server", path.display());
        Error::new(ErrorKind::Config, message).with_detail(detail).with_hint(
            "Run it on the server's host, with PGHOST and PGPORT naming the server of this directory.",
        )
    };

    let identity = |path: &Path| fs::metadata(path).map(|of| (of.dev(), of.ino())).ok();
    if identity(&path) != identity(&facts.data_directory) {
        return Err(of_another(format!(
            "The server works in \"{}\".",
            facts.data_directory.display()
        )));
    }
    let system_identifier = read_system_identifier(&path)?;
    if system_identifier != facts.system_identifier {
        return Err(of_another(format!(
            "Its system identifier is {system_identifier}, the server's is {}.",
            facts.system_identifier
        )));
    }
    // A copy of the cluster on another host has the same path and identifier.
    if let Some(of_server) = &facts.postmaster_pid {
        let file = path.join("postmaster.pid");
        let here = fs::read(&file).map_err(|source| Error::file("read file", &file, &source))?;
        if start_of(&String::from_utf8_lossy(&here)) != start_of(of_server) {
            let detail = "Its postmaster.pid differs from the one that the server reads.";
            return Err(of_another(detail.to_owned()));
        }
    }
    Ok(path)
}

/// Process, directory and start time; the lines after them change.
fn start_of(postmaster_pid: &str) -> Vec<&str> {
    postmaster_pid.lines().take(3).collect()
}

/// The first field of the control file (PostgreSQL 15,
/// `src/include/catalog/pg_control.h`, `ControlFileData`), in the host's byte order.
pub fn read_system_identifier(directory: &Path) -> Result<SystemIdentifier> {
    let file = directory.join("global/pg_control");
    let mut bytes = [0; 8];
    File::open(&file)
        .and_then(|mut open| open.read_exact(&mut bytes))
        .map_err(|source| Error::file("read file", &file, &source))?;
    Ok(SystemIdentifier(u64::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use wal_e_core::archiving::{Attempts, Way};
    use wal_e_core::postgres::SegmentSize;

    use super::*;

    const PID_FILE: &str = "4711\n/data\n1700000000\n5432\n/tmp\n";

    fn data_directory() -> (tempfile::TempDir, ServerFacts) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("global")).unwrap();
        let control = [7u64.to_ne_bytes(), [0; 8]].concat();
        fs::write(directory.path().join("global/pg_control"), control).unwrap();
        fs::write(directory.path().join("postmaster.pid"), format!("{PID_FILE}ready   \n"))
            .unwrap();
        let facts = ServerFacts {
            version: 150_000,
            log_directory: None,
            data_directory: directory.path().to_owned(),
            system_identifier: SystemIdentifier(7),
            segment_size: SegmentSize::DEFAULT,
            data_checksums: false,
            logs_hints: false,
            summarizes_wal: false,
            started_at: std::time::SystemTime::UNIX_EPOCH,
            postmaster_pid: Some(format!("{PID_FILE}starting\n")),
            archives_by: Way::Program,
            attempts: Attempts::default(),
        };
        (directory, facts)
    }

    #[test]
    fn the_server_s_own_directory_is_accepted_also_through_a_link() {
        let (directory, facts) = data_directory();
        let path = fs::canonicalize(directory.path()).unwrap();
        assert_eq!(check_belongs_to_server(directory.path(), &facts).unwrap(), path);
        let elsewhere = tempfile::tempdir().unwrap();
        let link = elsewhere.path().join("main");
        std::os::unix::fs::symlink(directory.path(), &link).unwrap();
        assert_eq!(check_belongs_to_server(&link, &facts).unwrap(), path);
    }

    #[test]
    fn the_directory_of_another_server_is_refused() {
        let (directory, facts) = data_directory();
        let (other, _) = data_directory();
        let refused = |directory: &Path, facts: &ServerFacts| {
            let error = check_belongs_to_server(directory, facts).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
            assert!(error.detail().is_some() && error.hint().is_some(), "{error:?}");
        };
        refused(other.path(), &facts);
        let identifier = ServerFacts { system_identifier: SystemIdentifier(8), ..facts.clone() };
        refused(directory.path(), &identifier);
        let elsewhere = Some(PID_FILE.replace("4711", "4712"));
        refused(directory.path(), &ServerFacts { postmaster_pid: elsewhere, ..facts });
    }
}
