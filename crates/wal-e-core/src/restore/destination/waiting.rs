//! Where the pages of newer backups wait until the rest of their file comes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Destination;
use crate::error::{Error, Result};
use crate::postgres::data_directory::UNFINISHED_RESTORE;
use crate::restore::tablespaces;

/// The path below the data directory of the file where pages of the file at `path` wait. It is on
/// the same file system: in the same tablespace.
pub(crate) fn waiting_pages(path: &Path) -> PathBuf {
    let (beginning, inside) = in_tablespace(path).unwrap_or((PathBuf::new(), path));
    beginning.join(directory()).join(inside)
}

/// The path of a tablespace, and what is below it.
fn in_tablespace(path: &Path) -> Option<(PathBuf, &Path)> {
    let mut components = path.strip_prefix("pg_tblspc").ok()?.components();
    let name = components.next()?.as_os_str().to_str()?;
    let oid: u32 = name.parse().ok()?;
    let inside = components.as_path();
    let is_below = name == oid.to_string() && !inside.as_os_str().is_empty();
    is_below.then(|| (Path::new("pg_tblspc").join(name), inside))
}

/// Its name begins as that of all notes of a restore.
fn directory() -> String {
    format!("{UNFINISHED_RESTORE}.pages")
}

impl Destination {
    /// Removes the directories of waiting pages.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn remove_waiting(&self) -> Result<()> {
        let in_place = tablespaces::in_place(&self.data_directory)?;
        let in_place =
            in_place.iter().map(|oid| self.place(Path::new(&format!("pg_tblspc/{oid}"))));
        for root in self.roots().map(Path::to_owned).chain(in_place) {
            let place = root.join(directory());
            match fs::remove_dir_all(&place) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::file("remove directory", &place, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::postgres::data_directory::is_note_of_restore;

    #[test]
    fn pages_wait_in_the_same_tablespace_and_under_names_that_no_backup_has() {
        for (path, expected) in [
            ("base/5/16384", "wal_e.unfinished_restore.pages/base/5/16384"),
            ("pg_tblspc/7/PG_18/5/1", "pg_tblspc/7/wal_e.unfinished_restore.pages/PG_18/5/1"),
            ("pg_tblspc/7", "wal_e.unfinished_restore.pages/pg_tblspc/7"),
            ("pg_tblspc/07/x", "wal_e.unfinished_restore.pages/pg_tblspc/07/x"),
        ] {
            let place = waiting_pages(Path::new(path));
            assert_eq!(place, Path::new(expected));
            assert!(is_note_of_restore(expected));
        }
    }

    #[test]
    fn their_directories_are_removed_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let (data, mapped) = (dir.path().join("data"), dir.path().join("mapped"));
        let tablespaces = BTreeMap::from([(7, mapped.clone())]);
        let target = Destination::prepare(&data, tablespaces, None, false).unwrap();
        let waiting = ["base/5/1", "pg_tblspc/7/PG_18/5/1", "pg_tblspc/8/PG_18/5/1"];
        for path in waiting {
            let place = target.place(&waiting_pages(Path::new(path)));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, b"pages").unwrap();
        }
        // What others put beside the tablespaces.
        fs::write(data.join("pg_tblspc/.keep"), b"").unwrap();
        fs::create_dir(data.join("pg_tblspc/lost+found")).unwrap();
        target.remove_waiting().unwrap();
        for path in waiting {
            let place = target.place(&waiting_pages(Path::new(path)));
            assert!(!place.exists(), "{path}");
        }
        assert!(data.join("pg_tblspc/.keep").exists() && data.join("pg_tblspc/8").is_dir());
        assert!(mapped.is_dir());
        target.remove_waiting().unwrap();
    }
}
