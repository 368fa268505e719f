//! The names of tar members.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// The path below the data directory that a member's name means. The name may
/// begin with `/` or `./`; the empty path is the data directory itself.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for a name that leads out of the data directory.
pub(super) fn relative_path(member: &Path) -> Result<PathBuf> {
    let mut relative = PathBuf::new();
    for component in member.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => relative.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("tar member \"{}\" leads out of the data directory", member.display()),
                ));
            }
        }
    }
    Ok(relative)
}
