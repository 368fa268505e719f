//! Files of a data directory that may not be read. They are found while the cluster is
//! listed: a backup that fails over each of them in turn would do so after hours.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::config::Setting;
use crate::error::{Error, ErrorKind, Result};

/// How many are named in the error.
const NAMED: usize = 10;

/// Paths below the data directory.
#[derive(Debug, Default)]
pub(super) struct Unreadable(Vec<String>);

impl Unreadable {
    /// Notes a file that this process may not read. One that has vanished, or cannot be
    /// looked at, is for those who read it.
    pub(super) fn look_at(&mut self, path: &str, full: &Path) {
        if accessat(CWD, full, Access::READ_OK, AtFlags::EACCESS) == Err(rustix::io::Errno::ACCESS)
        {
            self.add(path.to_owned());
        }
    }

    /// Notes a file or directory that may not be read.
    pub(super) fn add(&mut self, path: String) {
        self.0.push(path);
    }

    /// # Errors
    /// [`ErrorKind::Denied`] when there are any.
    pub(super) fn into_error(self, data_directory: &Path) -> Result<()> {
        let Unreadable(mut paths) = self;
        if paths.is_empty() {
            return Ok(());
        }
        let count = paths.len();
        let rest = count.saturating_sub(NAMED);
        paths.truncate(NAMED);
        let mut named =
            paths.iter().map(|path| format!("\"{path}\"")).collect::<Vec<_>>().join(", ");
        if rest > 0 {
            named += &format!(", and {rest} more");
        }
        let files = if count == 1 { "a file" } else { "files" };
        let message = format!(
            "the data directory \"{}\" has {files} that cannot be read",
            data_directory.display()
        );
        Err(Error::new(ErrorKind::Denied, message)
            .with_detail(format!("Permission is denied for {named}."))
            .with_hint(format!(
                "Give them to the user that the server runs as, or move them out of the data directory. What stands at its top and is not PostgreSQL's can be left out with {}.",
                Setting::BackupExclude
            )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(count: usize) -> Result<()> {
        let mut unreadable = Unreadable::default();
        (0..count).for_each(|number| unreadable.add(format!("file{number}")));
        unreadable.into_error(Path::new("/data"))
    }

    #[test]
    fn all_are_named_in_one_error_as_far_as_it_is_readable() {
        error_of(0).unwrap();
        let detail = |count| error_of(count).unwrap_err().detail().unwrap().to_owned();
        assert_eq!(detail(2), "Permission is denied for \"file0\", \"file1\".");
        assert!(detail(10).ends_with("\"file9\"."), "{}", detail(10));
        assert!(detail(12).ends_with("\"file9\", and 2 more."), "{}", detail(12));
    }
}
