//! The archive compared with `pg_wal`, byte for byte.
//!
//! The server must still have what is compared: the tests set `wal_keep_size`
//! so large that it removes nothing.

use crate::archive::Archive;
use crate::cluster::Cluster;

impl Cluster {
    /// Asserts that every WAL segment from `first` to `last`, and every other
    /// file that the server takes for archived, is in the archive as it is in
    /// `pg_wal`, and that none of them still waits. Says how many segments there are.
    #[track_caller]
    pub fn assert_archived_without_gap(&self, archive: &Archive, first: &str, last: &str) -> usize {
        let waiting: Vec<_> =
            self.ready_files().into_iter().filter(|name| name.as_str() <= last).collect();
        assert!(waiting.is_empty(), "still to be archived: {waiting:?}");
        let segments = segments_between(first, last, self.wal_segment_bytes());
        for name in &segments {
            assert!(self.wal_file(name).is_some(), "{name} is no longer in pg_wal");
            self.assert_archived_as_it_is(archive, name);
        }
        self.assert_done_files_are_archived(archive);
        segments.len()
    }

    /// Asserts that every WAL file that is marked as archived and still in
    /// `pg_wal` is in the archive as it is there. Says how many there are.
    #[track_caller]
    pub fn assert_done_files_are_archived(&self, archive: &Archive) -> usize {
        let done = self.done_files();
        done.iter().filter(|name| self.assert_archived_as_it_is(archive, name)).count()
    }

    /// False when the file is no longer in `pg_wal`.
    #[track_caller]
    fn assert_archived_as_it_is(&self, archive: &Archive, name: &str) -> bool {
        let Some(file) = self.wal_file(name) else { return false };
        assert!(archive.wal_file(name) == file, "{name} is archived with other bytes");
        true
    }

    /// The size of a WAL segment.
    #[track_caller]
    pub fn wal_segment_bytes(&self) -> u64 {
        let output = crate::process::run(
            self.installation().command("pg_controldata").arg(self.data_directory()),
        )
        .success();
        output
            .lines()
            .find_map(|line| line.strip_prefix("Bytes per WAL segment:")?.trim().parse().ok())
            .unwrap_or_else(|| {
                panic!("pg_controldata does not show it for {}", self.data_directory().display())
            })
    }
}

/// The names of all segments from `first` to `last`, on the timeline of both.
///
/// # Panics
///
/// When they are on different timelines, or are not names of segments.
#[track_caller]
pub fn segments_between(first: &str, last: &str, segment_bytes: u64) -> Vec<String> {
    let per_log_file = 0x1_0000_0000 / segment_bytes;
    let parse = |name: &str| {
        let digits = |range| {
            let digits = name.get(range).unwrap_or_else(|| panic!("\"{name}\" is not a segment"));
            u64::from_str_radix(digits, 16)
                .unwrap_or_else(|_| panic!("\"{name}\" is not a segment"))
        };
        (digits(0..8), digits(8..16) * per_log_file + digits(16..24))
    };
    let ((timeline, first), (timeline_of_last, last)) = (parse(first), parse(last));
    assert_eq!(timeline, timeline_of_last, "on one timeline");
    (first..=last)
        .map(|n| format!("{timeline:08X}{:08X}{:08X}", n / per_log_file, n % per_log_file))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_segments_carry_over() {
        let names = segments_between(
            "0000000100000001000000FE",
            "000000010000000200000001",
            16 * 1024 * 1024,
        );
        assert_eq!(
            names,
            [
                "0000000100000001000000FE",
                "0000000100000001000000FF",
                "000000010000000200000000",
                "000000010000000200000001"
            ]
        );
    }
}
