//! What comes out of the tars early and goes to the disk last.
//!
//! `global/pg_control` is kept until everything else is on disk. Links are created
//! after the last file is written, so that no file is written through a link.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::destination::Destination;
use super::member;
use crate::error::{Error, ErrorKind, Result};
use crate::notice::Notices;
use crate::postgres::data_directory::CONTROL_FILE;
use crate::postgres::{ControlFile, RequiredSettings};

/// Where it is written before it gets its name.
const NEW_CONTROL_FILE: &str = "global/pg_control.wal-e-new";

/// What is not on disk yet.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    control: Option<Control>,
    links: Vec<(PathBuf, PathBuf)>,
}

#[derive(Debug)]
struct Control {
    content: Vec<u8>,
    /// It comes from its own tar, which takes precedence over a copy among other files.
    is_own: bool,
}

impl Deferred {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the control file. The one in its own tar takes precedence.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it appears twice.
    pub(super) fn keep_control(&self, content: Vec<u8>, is_own: bool) -> Result<()> {
        let mut state = self.lock();
        match &state.control {
            Some(before) if before.is_own == is_own => Err(Error::new(
                ErrorKind::Corrupt,
                format!("tar member \"{CONTROL_FILE}\" appears twice"),
            )),
            Some(before) if before.is_own => Ok(()),
            _ => {
                state.control = Some(Control { content, is_own });
                Ok(())
            }
        }
    }

    /// Whether there is a control file.
    pub(super) fn has_control(&self) -> bool {
        self.lock().control.is_some()
    }

    /// The settings that a recovering server needs, by the control file.
    pub(super) fn required_settings(&self) -> Option<RequiredSettings> {
        let state = self.lock();
        let control = ControlFile::parse(&state.control.as_ref()?.content).ok()?;
        control.required_settings
    }

    /// Keeps a link of `place`, below the data directory, to `target`.
    pub(super) fn keep_link(&self, place: PathBuf, target: PathBuf) {
        self.lock().links.push((place, target));
    }

    /// Creates the links that stay within the data directory, and warns about the others,
    /// which are skipped.
    pub(super) fn make_links(&self, target: &Destination, notices: &Notices) -> Result<()> {
        for (link, to) in std::mem::take(&mut self.lock().links) {
            let skip = |why: &str| {
                notices.warning(format!(
                    "skipped link \"{}\" to \"{}\": {why}",
                    link.display(),
                    to.display()
                ));
            };
            // The server needs the directory.
            if link == Path::new("pg_wal") || link == Path::new("pg_xlog") {
                if target.place(&link) == target.data_directory().join(&link) {
                    target.make_directory(&target.data_directory().join(&link))?;
                    skip("it becomes a directory");
                }
                continue;
            }
            let Some(inside) = member::link_target(target.data_directory(), &link, &to) else {
                skip("it leads out of the data directory");
                continue;
            };
            let place = target.data_directory().join(&link);
            if place.symlink_metadata().is_ok() || link.starts_with("pg_tblspc") {
                skip("a file or directory of that name exists");
                continue;
            }
            target.make_parent(&place)?;
            let depth = link.components().count().saturating_sub(1);
            let up: PathBuf = std::iter::repeat_n("..", depth).collect();
            symlink(up.join(inside), &place)
                .map_err(|error| Error::file("create link", &place, &error))?;
        }
        Ok(())
    }

    /// Writes and syncs the control file atomically. Returns its size in bytes.
    pub(super) fn write_control(&self, target: &Destination) -> Result<u64> {
        let Some(control) = self.lock().control.take() else {
            return Err(Error::new(ErrorKind::Bug, "there is no control file to write"));
        };
        let place = target.data_directory().join(CONTROL_FILE);
        let new = target.data_directory().join(NEW_CONTROL_FILE);
        let failed = |error| Error::file("write file", &place, &error);
        target.make_parent(&place)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(failed)?;
        let permissions = fs::Permissions::from_mode(target.file_mode()?);
        file.write_all(&control.content)
            .and_then(|()| file.set_permissions(permissions))
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        fs::rename(&new, &place).map_err(failed)?;
        let directory = target.data_directory().join("global");
        File::open(&directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| Error::file("sync directory", &directory, &error))?;
        Ok(control.content.len() as u64)
    }
}
