//! The maps of WAL segments that a server keeps beside its WAL, and what they say together.
//!
//! They are of use until the next base backup, and each can be done without: where one is missing
//! or damaged, the segment itself may still be there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::summaries::Stretch;
use super::{ChangedBlocks, LARGEST_MAP_BYTES, MapRun, SegmentMap, SegmentMapper};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{Lsn, SegmentNumber, SegmentSize, WalFileName, WalSegment};

/// In `pg_wal`, whose content no base backup has, and where PostgreSQL passes over what is not
/// named like a WAL file.
const DIRECTORY: &str = "wal_e.changed_blocks";

/// How many are kept at most, if no base backup is taken: of 256 GB of WAL in segments of 16 MB.
const MOST_MAPS: u64 = 16_384;

/// After how many segments it is looked whether there are too many.
const LOOK_EVERY: u64 = 256;

/// How segments are read, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// The maps of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptMaps {
    wal_directory: PathBuf,
}

impl KeptMaps {
    /// Those beside the WAL in this directory.
    pub fn beside(wal_directory: &Path) -> Self {
        KeptMaps { wal_directory: wal_directory.to_owned() }
    }

    /// Those of the cluster in this data directory.
    pub fn of_cluster(data_directory: &Path) -> Self {
        KeptMaps { wal_directory: data_directory.join("pg_wal") }
    }

    /// Keeps a map. It is not synced: one that is damaged by a crash is noticed when it is read.
    ///
    /// # Errors
    /// Those of the file system; an older map of the segment may be there then.
    pub fn keep(&self, map: &SegmentMap) -> io::Result<()> {
        let WalSegment { number, .. } = map.segment();
        let place = self.place(map.segment(), map.segment_size());
        if let Err(error) = write(&place, &map.to_bytes()) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            self.make_directory()?;
            write(&place, &map.to_bytes())?;
        }
        if number.0.is_multiple_of(LOOK_EVERY) {
            let oldest = SegmentNumber(number.0.saturating_sub(MOST_MAPS));
            self.remove_before(oldest, map.segment_size())?;
        }
        Ok(())
    }

    /// Whether a place for maps is there: who archives without the server's settings keeps maps
    /// then.
    pub fn are_wanted(&self) -> bool {
        self.directory().is_dir()
    }

    /// Makes the place for maps, as the owner of the WAL would.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn make_directory(&self) -> io::Result<()> {
        let directory = self.directory();
        let of_wal = fs::metadata(&self.wal_directory)?;
        fs::create_dir_all(&directory)?;
        if fs::metadata(&directory)?.uid() != of_wal.uid() {
            chown(&directory, Some(of_wal.uid()), Some(of_wal.gid()))?;
        }
        fs::set_permissions(&directory, of_wal.permissions())
    }

    /// Removes the maps of the segments before `oldest`, of all timelines.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_before(&self, oldest: SegmentNumber, size: SegmentSize) -> io::Result<()> {
        let entries = match fs::read_dir(self.directory()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let file_name = entry.file_name();
            // One that is being written has an ending.
            let name = file_name.to_str().map(|name| name.get(..24).unwrap_or(name));
            let name: Option<WalFileName> = name.and_then(|name| name.parse().ok());
            let number = name.and_then(|name| name.segment_number(size));
            if number.is_some_and(|number| number < oldest) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// What has changed in a stretch of the log. Where there is no sound map, the segment in
    /// `pg_wal` is read, and so is the last one up to the end of the stretch.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is neither, [`ErrorKind::Corrupt`] and
    /// [`ErrorKind::Config`] as for [`MapRun::add`], and [`ErrorKind::Cancelled`].
    pub fn changed_in(
        &self,
        stretch: Stretch,
        size: SegmentSize,
        cancel: &CancellationToken,
    ) -> Result<ChangedBlocks> {
        let Stretch { timeline, from, to } = stretch;
        let mut run = MapRun::from(from);
        let last = SegmentNumber::containing(to, size);
        let mut segment = WalSegment { timeline, number: SegmentNumber::containing(from, size) };
        while segment.number <= last {
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let map = match segment.number == last {
                true => self.of_segment(segment, size, Some(to))?,
                false => match self.read(segment, size) {
                    Some(map) => map,
                    None => self.of_segment(segment, size, None)?,
                },
            };
            run.add(map)?;
            segment = segment.next();
        }
        run.finish(to)
    }

    /// Why [`KeptMaps::changed_in`] has to fail: the first segment of the stretch of which there is
    /// neither a map nor the segment. Only names are looked at.
    pub fn first_missing(&self, stretch: Stretch, size: SegmentSize) -> Option<Error> {
        let Stretch { timeline, from, to } = stretch;
        let (first, last) =
            (SegmentNumber::containing(from, size), SegmentNumber::containing(to, size));
        let mut segments =
            (first.0..=last.0).map(|number| WalSegment { timeline, number: SegmentNumber(number) });
        let missing = segments.find(|&segment| {
            let has_map = segment.number != last && self.place(segment, size).exists();
            !has_map && !self.wal_directory.join(segment.file_name(size)).exists()
        });
        missing.map(|segment| no_record(&WalFileName::segment(segment, size)))
    }

    /// The kept map of a segment, if there is a sound one.
    fn read(&self, segment: WalSegment, size: SegmentSize) -> Option<SegmentMap> {
        let place = self.place(segment, size);
        let mut bytes = Vec::new();
        File::open(&place).ok()?.take(LARGEST_MAP_BYTES + 1).read_to_end(&mut bytes).ok()?;
        let map = SegmentMap::parse(&place.to_string_lossy(), &bytes).ok()?;
        (map.segment() == segment && map.segment_size() == size).then_some(map)
    }

    /// The map of a segment in `pg_wal`, up to `until`.
    fn of_segment(
        &self,
        segment: WalSegment,
        size: SegmentSize,
        until: Option<Lsn>,
    ) -> Result<SegmentMap> {
        let name = WalFileName::segment(segment, size);
        let place = self.wal_directory.join(name.as_str());
        let unread = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => no_record(&name),
            _ => Error::file("read file", &place, &error),
        };
        let mut file = File::open(&place).map_err(unread)?;
        let mapper = SegmentMapper::new(segment, size);
        let mut mapper = match until {
            Some(lsn) => mapper.until(lsn),
            None => mapper,
        };
        let start = segment.number.start_lsn(size).0;
        let mut left = until.map_or(size.bytes(), |lsn| page_end(lsn.0 - start));
        let mut buffer = vec![0; READ_BYTES];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
            file.read_exact(&mut buffer[..wanted]).map_err(unread)?;
            mapper.feed(&buffer[..wanted])?;
            left -= wanted as u64;
        }
        mapper.finish()
    }

    fn directory(&self) -> PathBuf {
        self.wal_directory.join(DIRECTORY)
    }

    fn place(&self, segment: WalSegment, size: SegmentSize) -> PathBuf {
        self.directory().join(WalFileName::segment(segment, size).as_str())
    }
}

fn no_record(segment: &WalFileName) -> Error {
    let message =
        format!("there is no record of the blocks that WAL segment \"{segment}\" changes");
    Error::new(ErrorKind::NotFound, message)
}

/// The end of the page that holds the byte at `offset`.
fn page_end(offset: u64) -> u64 {
    const PAGE_BYTES: u64 = crate::postgres::BLOCK_SIZE as u64;
    (offset / PAGE_BYTES + 1) * PAGE_BYTES
}

/// Writes a file that appears as a whole. The group may read it where it may read the directory.
fn write(place: &Path, content: &[u8]) -> io::Result<()> {
    let directory = place.parent().unwrap_or(Path::new("."));
    let mode = 0o600 | fs::metadata(directory)?.permissions().mode() & 0o040;
    let temporary = place.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    file.write_all(content)?;
    fs::rename(&temporary, place)
}

#[cfg(test)]
mod tests;
