//! Files that a restore does not find their place for by itself: those of a tablespace,
//! and one with a long name.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cluster::Cluster;
use crate::restore::Restore;

use super::Source;

/// The tablespace "extra" with a table and an index, and a file whose path is too long
/// for the plain header of a tar.
pub struct ExtraFiles {
    tablespace: PathBuf,
    long_path: String,
}

impl ExtraFiles {
    /// Adds them to a server.
    #[track_caller]
    pub fn add_to(source: &Source) -> ExtraFiles {
        let tablespace = source.cluster.create_tablespace("extra");
        source.cluster.execute(
            "CREATE TABLE elsewhere TABLESPACE extra AS SELECT generate_series(1, 5000) i; \
             CREATE INDEX ON elsewhere (i) TABLESPACE extra",
        );
        let long_path = format!("notes/{}/{}", "d".repeat(120), "f".repeat(150));
        source.write_extra_file(&long_path, "kept");
        ExtraFiles { tablespace, long_path }
    }

    /// Moves the tablespace; returns its new place, too.
    pub fn moved_by(&self, restore: Restore) -> (Restore, PathBuf) {
        let restore = restore.tablespace(&self.tablespace, "moved");
        let place = restore.scratch().path().join("moved");
        (restore, place)
    }

    /// Asserts that the long name is kept, and that the tablespace is at `place`.
    #[track_caller]
    pub fn assert_restored(&self, cluster: &Cluster, place: &Path) {
        let kept = fs::read_to_string(cluster.data_directory().join(&self.long_path));
        assert_eq!(kept.expect("the file is there"), "kept");
        assert_eq!(cluster.tablespace_location("extra"), place.display().to_string());
    }
}
