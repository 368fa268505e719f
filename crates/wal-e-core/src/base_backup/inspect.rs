//! What of a cluster would make its base backups fail, or useless: looked for before one is
//! taken, and by the check of a set-up.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::walk::{self, Cluster};
use crate::check::Check;
use crate::config::{Setting, StoreConfig, StorePlace};
use crate::error::{Error, ErrorKind, Result};
use crate::notice;
use crate::tasks::{Work, blocking};

const DATA_DIRECTORY: &str = "data_directory";

/// Whether all of the cluster can be read, and is elsewhere than its backups: one row of a
/// check. Lists the whole cluster.
pub fn check(cluster: Cluster, store: Option<&StoreConfig>) -> Work<'_, Check> {
    Box::pin(async move {
        let archive = match store {
            Some(StoreConfig { place: StorePlace::File(file), .. }) => Some(file.directory.clone()),
            _ => None,
        };
        let looked_at = blocking("listing the cluster", move || {
            let (notices, queue) = notice::channel();
            let listing = walk::walk(&cluster, &notices)?;
            refuse_inside(archive.as_deref(), &cluster.data_directory, &listing.tablespaces)?;
            let bytes: u64 = listing.files.iter().map(|file| file.size_bytes).sum();
            let skipped: Vec<String> = queue.drain().into_iter().map(|of| of.message).collect();
            Ok((listing.files.len(), bytes, listing.wal_directory, skipped))
        });
        match looked_at.await {
            Ok((files, bytes, wal_directory, skipped)) => {
                let size = format!("{files} files, {} MB, all readable", bytes >> 20);
                let wal = wal_directory.map(|place| {
                format!("; pg_wal is in \"{}\", and a restore puts it into the data directory unless it is told otherwise", place.display())
            });
                let skipped = skipped.iter().map(|what| format!("; {what}"));
                Check::passed(
                    DATA_DIRECTORY,
                    size + &wal.unwrap_or_default() + &skipped.collect::<String>(),
                )
            }
            Err(error) => Check::of_error(DATA_DIRECTORY, &error, "See the server log."),
        }
    })
}

/// Refuses an archive inside of what is backed up: each backup would hold all earlier ones,
/// and be lost with the cluster.
///
/// # Errors
/// [`ErrorKind::Config`] when `archive` is inside the data directory or a tablespace.
pub(super) fn refuse_inside(
    archive: Option<&Path>,
    data_directory: &Path,
    tablespaces: &BTreeMap<u32, PathBuf>,
) -> Result<()> {
    let Some(archive) = archive else { return Ok(()) };
    // Directories are compared as the file system knows them: a path may lead there through
    // a link or a second mount.
    let identity = |path: &Path| fs::metadata(path).map(|of| (of.dev(), of.ino())).ok();
    let resolved = archive.canonicalize().unwrap_or_else(|_| archive.to_owned());
    let around: Vec<_> = resolved.ancestors().filter_map(identity).collect();
    let is_inside = |directory: &Path| identity(directory).is_some_and(|id| around.contains(&id));
    let whose = if is_inside(data_directory) {
        format!("the data directory \"{}\"", data_directory.display())
    } else if let Some((oid, place)) = tablespaces.iter().find(|(_, place)| is_inside(place)) {
        format!("tablespace {oid}, \"{}\"", place.display())
    } else {
        return Ok(());
    };
    let message = format!("the archive \"{}\" is inside {whose}", archive.display());
    Err(Error::new(ErrorKind::Config, message)
        .with_detail(
            "Each base backup would hold all earlier ones, and would be lost together with the cluster.",
        )
        .with_hint(format!(
            "Set {} to a directory on another disk, or to a bucket.",
            Setting::Prefix
        )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_archive_inside_of_what_is_backed_up_is_found_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        for directory in ["data/archive", "space/deep/archive", "beside"] {
            fs::create_dir_all(place(directory)).unwrap();
        }
        symlink(place("data"), place("link")).unwrap();
        let spaces = BTreeMap::from([(16384, place("space"))]);
        let refused = |archive: &str| {
            refuse_inside(Some(&place(archive)), &place("link"), &spaces)
                .map_err(|error| error.kind())
        };
        for archive in ["data/archive", "link/archive", "data", "space/deep/archive"] {
            assert_eq!(refused(archive), Err(ErrorKind::Config), "{archive}");
        }
        for archive in ["beside", "not-there"] {
            assert_eq!(refused(archive), Ok(()), "{archive}");
        }
        assert!(refuse_inside(None, &place("data"), &spaces).is_ok());
    }
}
