//! `wal-e report`: one page of HTML about an archive.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use wal_e_core::config::Face;
use wal_e_core::{Error, ErrorKind, Result, report};

use super::{open_for_question, run_large};
use crate::cli;
use crate::report::{Report, print_result};
use crate::settings::Settings;

pub fn run(arguments: &cli::MakeReport, settings: &Settings, report: &Report) -> Result<()> {
    let policy = arguments.retain.policy().map_err(|why| Error::new(ErrorKind::Config, why))?;
    let prefix = settings.store.prefix().to_string();
    let gathered = run_large(async {
        let opened = open_for_question(settings, report).await?;
        let now = OffsetDateTime::now_utc();
        let gathering = report::gather(&opened.store, prefix, policy, Face::Program, now);
        report.attend(&opened.queue, || None, gathering).await
    })??;
    let page = gathered.page();
    match &arguments.output {
        None => print_result(&page),
        Some(path) => {
            write(path, page.as_bytes()).map_err(|source| Error::file("write file", path, &source))
        }
    }
}

/// Writes a file, whole or not at all. What is no regular file, like a pipe, is written as it is.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => {
            return OpenOptions::new().write(true).open(path)?.write_all(bytes);
        }
        // Where a link leads, so that it stays one.
        Ok(_) => return replace(&fs::canonicalize(path)?, bytes),
        Err(_) => {}
    }
    replace(path, bytes)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut temporary = name.to_owned();
    temporary.push(format!(".{:016x}.tmp", fastrand::u64(..)));
    let temporary: PathBuf = path.with_file_name(temporary);
    let written = File::create_new(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_a_link_stays_one() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        write(&at("page"), b"one").unwrap();
        std::os::unix::fs::symlink("page", at("link")).unwrap();
        write(&at("link"), b"two").unwrap();
        assert_eq!(fs::read(at("page")).unwrap(), b"two");
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        fs::create_dir(at("directory")).unwrap();
        for wrong in [at("directory"), at("missing/page")] {
            write(&wrong, b"three").unwrap_err();
        }
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 3);
        write(Path::new("/dev/null"), b"four").unwrap();
    }
}
