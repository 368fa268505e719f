//! The PostgreSQL that will run a restored cluster: its major version must be the backup's.

use std::path::{Path, PathBuf};
use std::process::Command;

use wal_e_core::{Error, ErrorKind, Result};

/// Where packages put the programs of a major version.
const USUAL_PLACES: [&str; 2] = ["/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin"];

/// The major version in `server_version_num`: `15`, or `9.6`.
pub fn major(version_number: u32) -> String {
    match version_number {
        100_000.. => (version_number / 10_000).to_string(),
        _ => format!("{}.{}", version_number / 10_000, version_number / 100 % 100),
    }
}

/// What speaks against running a cluster of this version with the programs that are found:
/// in `directory`, or else next to this program, or else on PATH. `None` when they fit, or
/// when there are none.
///
/// # Errors
/// [`ErrorKind::Config`] when `directory` has no `postgres` that runs.
pub fn mismatch(version_number: u32, directory: Option<&Path>) -> Result<Option<String>> {
    let found = match directory {
        Some(directory) => {
            let program = directory.join("postgres");
            let version = version_of(&program).ok_or_else(|| {
                let message = format!("\"{}\" does not run", program.display());
                Error::new(ErrorKind::Config, message).with_hint(
                    "Name the directory of PostgreSQL's server programs with --pg-bindir.",
                )
            })?;
            Some((program, version))
        }
        None => candidates().into_iter().find_map(|program| {
            let version = version_of(&program)?;
            Some((program, version))
        }),
    };
    Ok(found.and_then(|(program, version)| complaint(&major(version_number), &program, &version)))
}

fn complaint(needed: &str, program: &Path, version: &str) -> Option<String> {
    let is_of = |version: &str| {
        let rest = version.strip_prefix(needed)?;
        (!rest.starts_with(|c: char| c.is_ascii_digit())).then_some(())
    };
    if is_of(version).is_some() {
        return None;
    }
    let places = USUAL_PLACES.map(|place| PathBuf::from(place.replace("{}", needed)));
    let remedy = match places.into_iter().find(|place| place.join("postgres").is_file()) {
        Some(place) => format!("start it with the programs in \"{}\"", place.display()),
        None => format!("install PostgreSQL {needed} to start it"),
    };
    Some(format!(
        "the base backup is of PostgreSQL {needed}, and \"{}\" is {version}: {remedy}",
        program.display()
    ))
}

fn candidates() -> Vec<PathBuf> {
    let own = std::env::current_exe().ok();
    let own = own.as_deref().and_then(Path::parent).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = own.into_iter().chain(std::env::split_paths(&path));
    directories
        .map(|directory| directory.join("postgres"))
        .filter(|file| file.is_absolute() && file.is_file())
        .collect()
}

/// `15.14`, out of `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let version = said.strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?;
    Some(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_versions_are_told_apart() {
        assert_eq!((major(150_014), major(90_603)), ("15".to_owned(), "9.6".to_owned()));
        let program = Path::new("/bin/postgres");
        for (needed, version) in [("15", "15.14"), ("18", "18beta1"), ("9.6", "9.6.24")] {
            assert_eq!(complaint(needed, program, version), None);
        }
        for (needed, version) in [("15", "18.1"), ("1", "15.1"), ("9.6", "9.5.3")] {
            let said = complaint(needed, program, version).unwrap();
            assert!(said.contains(&format!("is of PostgreSQL {needed}, and")), "{said}");
        }
        assert!(mismatch(150_000, Some(Path::new("/nonexistent"))).is_err());
    }
}
