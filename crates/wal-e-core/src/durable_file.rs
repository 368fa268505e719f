//! A small file that is replaced as a whole, and stays so through a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Replaces the file at `path` by what `content` makes of the file that will be there. The
/// group may read it where it may read the directory.
///
/// # Errors
/// Those of the file system; the old file is there then.
pub(crate) fn replace(
    path: &Path,
    content: impl FnOnce(&File) -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mode = 0o600 | fs::metadata(directory)?.permissions().mode() & 0o040;
    // Its name begins as the file's: what is left out of backups is told by that.
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(format!(".tmp{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    let written = content(&file)
        .and_then(|content| file.write_all(&content))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // One that stays does no harm.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(directory)?.sync_all()
}
