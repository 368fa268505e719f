//! The program `wal-e`: arguments in, the core called, an exit code out.
//!
//! Results go to standard output and everything else to standard error.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use wal_e_core::ErrorKind;
use wal_e_core::postgres::WalFileName;

use crate::cli::{Cli, Command};
use crate::interrupt::Failure;
use crate::report::Report;

mod cli;
mod commands;
mod compression;
mod exit_code;
mod interrupt;
mod recovering_server;
mod report;
mod restore_command;
mod server;
mod server_programs;
mod settings;
mod table;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let code = match Cli::try_parse_from(&arguments) {
        Ok(cli) => run(&cli),
        Err(error) => {
            let _ = error.print();
            refused(&arguments, &error)
        }
    };
    ExitCode::from(code)
}

fn run(cli: &Cli) -> u8 {
    let report = Arc::new(Report::new(cli.terse));
    // A panic has its own exit code, 101, which PostgreSQL would take for "the
    // archive does not have it".
    match catch_unwind(AssertUnwindSafe(|| commands::run(cli, &report))) {
        Ok(Ok(())) => exit_code::SUCCESS,
        Ok(Err(Failure::Error(error))) => {
            let code = exit_code::of_error(&cli.command, error.kind());
            match &cli.command {
                // Every recovery asks for files that are not there: the end of the
                // WAL, the history of timelines to come. That is not an error.
                Command::WalFetch(fetch) if code == exit_code::NOT_FOUND => {
                    report.log(&format!("\"{}\" is not in the archive", fetch.name));
                }
                _ => report.error(&error),
            }
            code
        }
        Ok(Err(Failure::Signal(signal))) => signal.exit_code(),
        Err(_) => exit_code::of_error(&cli.command, ErrorKind::Bug),
    }
}

/// The code for a command line that was not understood, or that asked for help.
fn refused(arguments: &[OsString], error: &clap::Error) -> u8 {
    let is_usage = error.use_stderr();
    if is_usage && arguments.iter().any(is_of_restore_command) {
        return exit_code::undecided(arguments.last().map(Path::new));
    }
    u8::try_from(error.exit_code()).unwrap_or(exit_code::FAILURE)
}

/// Whether an argument is one that a `restore_command` has, so that a typo in
/// it is not taken for "the archive does not have it".
fn is_of_restore_command(argument: &OsString) -> bool {
    let path = Path::new(argument);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    argument == "wal-fetch"
        || ["RECOVERYXLOG", "RECOVERYHISTORY"].contains(&name)
        || argument.to_str().is_some_and(|name| name.parse::<WalFileName>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(arguments: &[&str]) -> u8 {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        refused(&arguments, &Cli::try_parse_from(&arguments).unwrap_err())
    }

    #[test]
    fn a_wrong_restore_command_stops_recovery() {
        assert_eq!(refuse(&["wal-e", "wal-push"]), 2);
        let (segment, destination) = ("000000010000000000000001", "pg_wal/RECOVERYXLOG");
        assert_eq!(refuse(&["wal-e", "wal-fecth", segment, destination]), 200);
        assert_eq!(refuse(&["wal-e", segment, destination]), 200);
        assert_eq!(refuse(&["wal-e", "wal-push", segment, "pg_wal/RECOVERYXLOG"]), 200);
        assert_eq!(refuse(&["wal-e", "--help"]), 0);
        assert_eq!(refuse(&["wal-e", "wal-fetch", "--help"]), 0);
        assert_eq!(refuse(&["wal-e", "wal-fetch", "x"]), 200);
        assert_eq!(refuse(&["wal-e", "--no-such-option", "wal-fetch", "x", "/no/where/y"]), 200);
    }
}
