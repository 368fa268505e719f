//! WAL of another history in the archive, found before a base backup uploads anything.
//!
//! A copy of a cluster that archives to the prefix of the original finds segments of the
//! names that it is about to write. Its own archiver stops at the first of them; a base
//! backup must not take them for its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::BackupStart;
use super::pg_wal::PgWal;
use crate::archived::ContentChecksum;
use crate::codec::{Encoding, StoredEncoding};
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::postgres::{SegmentNumber, SegmentSize, WalFileKind, WalFileName, WalSegment};
use crate::store::{ListRequest, ObjectStore};
use crate::tasks::blocking;
use crate::wal;

/// Refuses to begin when a segment from the backup's start on is archived that this server
/// has not finished, or finished with other content.
///
/// # Errors
/// [`ErrorKind::Conflict`], and those of the store.
pub(super) async fn refuse_foreign_wal(
    store: &Arc<dyn ObjectStore>,
    start: &BackupStart,
) -> Result<()> {
    let first = WalSegment::containing(start.timeline, start.start_lsn, start.segment_size);
    let archived = archived_from(&**store, first, start.segment_size).await?;
    if archived.is_empty() {
        return Ok(());
    }
    // After the listing: what this server had archived by then has its mark.
    let (pg_wal, size) = (PgWal::of(&start.data_directory), start.segment_size);
    let finished = blocking("reading pg_wal", {
        let pg_wal = pg_wal.clone();
        move || Finished::read(&pg_wal, first, size)
    })
    .await?;
    for (number, encoding) in archived {
        let segment = WalSegment { number, ..first };
        let name = WalFileName::segment(segment, size);
        if !finished.has(number) {
            if pg_wal.is_standby() {
                continue; // The primary is ahead.
            }
            let url = store.url(layout::wal_file(&name, encoding).as_str());
            return Err(not_finished(&name, &url));
        }
        compare(store, &name, encoding, pg_wal.file(&name)).await?;
    }
    Ok(())
}

/// The archived segments of a timeline from one on that can be read; of many, the first.
async fn archived_from(
    store: &dyn ObjectStore,
    first: WalSegment,
    size: SegmentSize,
) -> Result<Vec<(SegmentNumber, Encoding)>> {
    let request = ListRequest {
        prefix: layout::wal_of_timeline(first.timeline),
        start_after: Some(layout::before_wal_file(&WalFileName::segment(first, size))),
        shallow: true,
    };
    let objects = store.list(&request, None).await?.objects.into_iter();
    let segments = objects.filter_map(|object| {
        let (name, encoding) = layout::wal_file_of(&object.key)?;
        let number = name.segment_number(size).filter(|number| *number >= first.number)?;
        match encoding {
            StoredEncoding::Readable(encoding) if name.kind() == WalFileKind::Segment => {
                Some((number, encoding))
            }
            _ => None,
        }
    });
    Ok(segments.collect())
}

/// Compares a segment with the archived one, as long as it is in `pg_wal`.
async fn compare(
    store: &Arc<dyn ObjectStore>,
    name: &WalFileName,
    encoding: Encoding,
    path: PathBuf,
) -> Result<()> {
    let checksum = blocking("reading a WAL file", {
        let path = path.clone();
        move || Ok(super::pg_wal::checksum(&path))
    });
    let Some(checksum) = checksum.await? else { return Ok(()) };
    let checksum = ContentChecksum(checksum);
    match wal::compare_with_archived(store, name, encoding, &path, checksum).await {
        // It was recycled since.
        Err(error) if error.kind() != ErrorKind::Conflict && !path.exists() => Ok(()),
        result => result,
    }
}

fn not_finished(name: &WalFileName, url: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("WAL segment \"{name}\" is archived already, but this server has not finished it"),
    )
    .with_detail(format!(
        "The archive has it as \"{url}\". Another copy of this cluster archives to the same prefix; a base backup of this server could not be restored with that WAL."
    ))
    .with_hint(super::OWN_PREFIX)
}

/// Which segments of a timeline the server has finished.
struct Finished {
    /// The lowest that is in `pg_wal`: those before it were removed.
    lowest: Option<SegmentNumber>,
    /// The highest that is marked as archived, or to be archived.
    highest: Option<SegmentNumber>,
}

impl Finished {
    fn read(pg_wal: &PgWal, of: WalSegment, size: SegmentSize) -> Result<Self> {
        let numbers = |directory: &Path, endings: &[&str]| -> Result<BTreeSet<SegmentNumber>> {
            let entries = fs::read_dir(directory)
                .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
                .map_err(|error| Error::file("read directory", directory, &error))?;
            let number = |entry: &fs::DirEntry| {
                let file = entry.file_name().into_string().ok()?;
                let name = endings.iter().find_map(|ending| file.strip_suffix(ending))?;
                let name: WalFileName = name.parse().ok()?;
                let own = name.kind() == WalFileKind::Segment && name.timeline() == of.timeline;
                name.segment_number(size).filter(|_| own)
            };
            Ok(entries.iter().filter_map(number).collect())
        };
        Ok(Finished {
            lowest: numbers(pg_wal.directory(), &[""])?.first().copied(),
            highest: numbers(&pg_wal.marks(), &[".ready", ".done"])?.last().copied(),
        })
    }

    fn has(&self, number: SegmentNumber) -> bool {
        self.highest.is_some_and(|highest| number <= highest)
            || self.lowest.is_some_and(|lowest| number < lowest)
    }
}
