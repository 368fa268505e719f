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

/// Where a symbolic link that stands at `link` below the data directory leads,
/// as a path below the data directory. `None` when it leads elsewhere, or to
/// the data directory itself.
pub(super) fn link_target(data_directory: &Path, link: &Path, target: &Path) -> Option<PathBuf> {
    let (mut place, rest) = match target.strip_prefix(data_directory) {
        Ok(inside) => (PathBuf::new(), inside),
        Err(_) if target.is_absolute() => return None,
        Err(_) => (link.parent()?.to_owned(), target),
    };
    for component in rest.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => place.push(name),
            Component::ParentDir => place.pop().then_some(())?,
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    // A link among the tablespaces would lead out of the data directory.
    let outside = place.starts_with("pg_tblspc") || place.as_os_str().is_empty();
    (!outside).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_only_as_far_as_the_data_directory() {
        let target =
            |link: &str, to: &str| link_target(Path::new("/data"), Path::new(link), Path::new(to));
        assert_eq!(target("a", "b"), Some("b".into()));
        assert_eq!(target("base/1/a", "../2/./b"), Some("base/2/b".into()));
        assert_eq!(target("a", "/data/conf/b"), Some("conf/b".into()));
        for (link, to) in [
            ("a", "/etc/passwd"),
            ("a", "/data/../etc"),
            ("a", "/database"),
            ("a", "../etc"),
            ("base/a", "../../etc"),
            ("a", "b/../../etc"),
            ("a", "."),
            ("a", ""),
            ("a", "/data"),
            ("a", "pg_tblspc/16384/x"),
        ] {
            assert_eq!(target(link, to), None, "{link} {to}");
        }
    }
}
