//! Every exit code, and how an outcome becomes one.
//!
//! The codes of `wal-fetch` are read by PostgreSQL (15,
//! `src/backend/access/transam/xlogarchive.c`, `RestoreArchivedFile`): 1 to 125
//! mean that the archive does not have the file, and recovery then ends and the
//! server opens; above 125 the server stops. "I do not know" must therefore
//! never look like "it is not there", except to a standby, which asks again.
//!
//! A standby that is being promoted does not ask again: 75 is the end of the WAL to
//! it. This program cannot see that it is (`standby.signal` is there until
//! the end), and a code above 125 would stop each standby whose archive does not answer
//! for a moment. Before a promotion, make sure that the archive answers.

use std::path::Path;

use wal_e_core::ErrorKind;
use wal_e_core::postgres::data_directory::STANDBY_SIGNAL;

use crate::cli::Command;

/// Done.
pub const SUCCESS: u8 = 0;
/// It did not work.
pub const FAILURE: u8 = 1;
/// The archive does not have it; WAL-G's code for the same.
pub const NOT_FOUND: u8 = 74;
/// `wal-fetch` could not find out, and a standby may ask again; not one that is being
/// promoted.
pub const UNDECIDED_STANDBY: u8 = 75;
/// `wal-fetch` could not find out, or must not give the segment to the server, and recovery must
/// not go on.
pub const UNDECIDED_RECOVERY: u8 = 200;

/// The code for a command that failed.
pub fn of_error(command: &Command, kind: ErrorKind) -> u8 {
    match (command, kind) {
        (
            Command::WalFetch(_)
            | Command::BackupFetch(_)
            | Command::BackupVerify(_)
            | Command::BackupMark(_)
            | Command::BackupMerge(_)
            | Command::Delete(_),
            ErrorKind::NotFound,
        ) => NOT_FOUND,
        // A standby that asks again gets the same answer, and one that is promoted would
        // open without what comes after.
        (Command::WalFetch(_), ErrorKind::Unsafe) => UNDECIDED_RECOVERY,
        (Command::WalFetch(fetch), _) => undecided(Some(&fetch.destination)),
        _ => FAILURE,
    }
}

/// The code for a `wal-fetch` that does not know whether the archive has the file.
///
/// The server runs `restore_command` in its data directory, and `destination`
/// (`%p`) lies in `pg_wal` below it; one of the two finds `standby.signal`.
pub fn undecided(destination: Option<&Path>) -> u8 {
    if is_beside_standby_signal(destination) { UNDECIDED_STANDBY } else { UNDECIDED_RECOVERY }
}

/// Whether the server that wants a file at `destination` is a standby.
pub fn is_beside_standby_signal(destination: Option<&Path>) -> bool {
    is_beside(destination, STANDBY_SIGNAL)
}

/// Whether the data directory of the server that wants a file at `destination` has the
/// file `signal`.
pub fn is_beside(destination: Option<&Path>, signal: &str) -> bool {
    let data_directory = destination.and_then(Path::parent).and_then(Path::parent);
    std::iter::once(Path::new("."))
        .chain(data_directory)
        .any(|directory| directory.join(signal).exists())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, EXIT_CODES};

    fn command(arguments: &[&str]) -> Command {
        Cli::try_parse_from(["wal-e"].iter().chain(arguments)).unwrap().command
    }

    #[test]
    fn not_knowing_never_looks_like_not_there() {
        let fetch = command(&["wal-fetch", "000000010000000000000001", "/nowhere/pg_wal/x"]);
        assert_eq!(of_error(&fetch, ErrorKind::NotFound), 74);
        for kind in [
            ErrorKind::Conflict,
            ErrorKind::Denied,
            ErrorKind::Unavailable,
            ErrorKind::Throttled,
            ErrorKind::Corrupt,
            ErrorKind::Config,
            ErrorKind::Cancelled,
            ErrorKind::Io,
            ErrorKind::DiskFull,
            ErrorKind::Bug,
        ] {
            assert!(of_error(&fetch, kind) > 125, "{kind:?}");
        }
    }

    #[test]
    fn a_standby_may_ask_again() {
        let data = tempfile::tempdir().unwrap();
        let destination = data.path().join("pg_wal/RECOVERYXLOG");
        let fetch = command(&["wal-fetch", "name", destination.to_str().unwrap()]);
        assert_eq!(of_error(&fetch, ErrorKind::Unavailable), 200);
        std::fs::write(data.path().join("standby.signal"), "").unwrap();
        assert_eq!(of_error(&fetch, ErrorKind::Unavailable), 75);
        assert_eq!(of_error(&fetch, ErrorKind::Config), 75);
        assert_eq!(of_error(&fetch, ErrorKind::NotFound), 74);
        assert_eq!(of_error(&fetch, ErrorKind::Unsafe), 200, "it must not be promoted by that");
    }

    #[test]
    fn the_other_commands_fail_with_one() {
        let push = command(&["wal-push", "pg_wal/000000010000000000000001"]);
        assert_eq!(of_error(&push, ErrorKind::NotFound), 1);
        let fetch = command(&["backup-fetch", "/data", "base_1"]);
        assert_eq!(of_error(&fetch, ErrorKind::NotFound), 74);
        assert_eq!(of_error(&fetch, ErrorKind::Corrupt), 1);
        let verify = command(&["backup-verify", "base_1"]);
        assert_eq!(of_error(&verify, ErrorKind::NotFound), 74);
        assert_eq!(of_error(&verify, ErrorKind::Corrupt), 1);
    }

    #[test]
    fn the_table_names_every_code() {
        for code in [SUCCESS, FAILURE, NOT_FOUND, UNDECIDED_STANDBY, UNDECIDED_RECOVERY] {
            let listed =
                EXIT_CODES.lines().any(|line| line.trim_start().starts_with(&format!("{code} ")));
            assert!(listed, "{code}");
        }
    }
}
