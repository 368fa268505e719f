//! Whether the file systems of a restore have the space that it needs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::chain::Chain;
use super::manifest::Manifest;
use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of the files that a restore writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Needed {
    /// In the data directory (`None`) and in each tablespace, by OID.
    Each(BTreeMap<Option<u32>, u64>),
    /// In all of them.
    Total(u64),
    /// The backup does not say.
    Unknown,
}

/// The size of the backup's files, as far as it says. A delta says nothing about the files
/// that come from the backups that it builds on.
pub(super) fn needed(chain: &Chain, manifest: Option<&Manifest>) -> Needed {
    match (manifest, chain.levels(), chain.file_bytes()) {
        (Some(manifest), _, _) => Needed::Each(manifest.bytes_by_tablespace()),
        (None, [_], Some(bytes)) => Needed::Total(bytes),
        (None, ..) => Needed::Unknown,
    }
}

/// A file system on which something is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileSystem {
    /// A directory on it, for messages.
    place: PathBuf,
    free_bytes: u64,
    needed_bytes: u64,
}

/// Compares what a restore needs with what is free. Where a file system does not report its
/// free space, nothing is refused.
///
/// # Errors
/// [`ErrorKind::DiskFull`] when it cannot fit, unless a file system compresses.
pub(super) fn check(
    backup: &str,
    data_directory: &Path,
    tablespaces: &BTreeMap<u32, PathBuf>,
    needed: &Needed,
) -> Result<()> {
    let places = std::iter::once((None, data_directory))
        .chain(tablespaces.iter().map(|(oid, place)| (Some(*oid), place.as_path())));
    let mut systems: BTreeMap<u64, FileSystem> = BTreeMap::new();
    for (oid, place) in places {
        let Some((device, existing, free_bytes)) = file_system_of(place) else { return Ok(()) };
        let system = systems.entry(device).or_insert(FileSystem {
            place: existing,
            free_bytes,
            needed_bytes: 0,
        });
        if let Needed::Each(bytes) = needed {
            system.needed_bytes += bytes.get(&oid).copied().unwrap_or_default();
            // Tablespaces that have no place of their own are in the data directory.
            let rest = bytes.iter().filter(|(of, _)| {
                oid.is_none() && of.is_some_and(|of| !tablespaces.contains_key(&of))
            });
            system.needed_bytes += rest.map(|(_, bytes)| bytes).sum::<u64>();
        }
    }
    compare(backup, systems.into_values().collect(), needed)
}

fn compare(backup: &str, mut systems: Vec<FileSystem>, needed: &Needed) -> Result<()> {
    if let Needed::Total(bytes) = needed {
        let all = systems.iter().map(|system| system.free_bytes).fold(0, u64::saturating_add);
        systems.truncate(1);
        for system in &mut systems {
            (system.free_bytes, system.needed_bytes) = (all, *bytes);
        }
    }
    let short = systems.iter().find(|system| system.free_bytes < system.needed_bytes);
    let Some(FileSystem { place, free_bytes, needed_bytes }) = short else { return Ok(()) };
    Err(Error::new(
        ErrorKind::DiskFull,
        format!("\"{}\" has too little space for base backup \"{backup}\"", place.display()),
    )
    .with_detail(format!(
        "The files need {} MB; {} MB are free.",
        needed_bytes.div_ceil(1 << 20),
        free_bytes >> 20
    ))
    .with_hint(format!(
        "Free some space or restore to another file system. If this one compresses its files, add {}.",
        Word::IgnoreFreeSpace
    )))
}

/// The file system that a path is on, or will be: its device, a directory on it that
/// exists, and its free bytes. `None` when it does not report them.
fn file_system_of(place: &Path) -> Option<(u64, PathBuf, u64)> {
    let place = std::path::absolute(place).ok()?;
    let (existing, metadata) =
        place.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?)))?;
    let statistics = rustix::fs::statvfs(existing).ok()?;
    // Some in user space report that they have no blocks at all.
    if statistics.f_blocks == 0 {
        return None;
    }
    // Only the superuser may use the blocks reserved for it.
    let blocks = match rustix::process::geteuid().is_root() {
        true => statistics.f_bfree,
        false => statistics.f_bavail,
    };
    Some((metadata.dev(), existing.to_owned(), blocks.checked_mul(statistics.f_frsize)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_system_has_to_hold_what_goes_to_it() {
        let system = |free_bytes, needed_bytes| FileSystem {
            place: PathBuf::from("/x"),
            free_bytes,
            needed_bytes,
        };
        let each = Needed::Each(BTreeMap::new());
        assert!(compare("b", vec![system(10, 10), system(5, 0)], &each).is_ok());
        let error = compare("b", vec![system(100, 10), system(5 << 20, 7 << 20)], &each);
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DiskFull);
        assert_eq!(error.detail(), Some("The files need 7 MB; 5 MB are free."));
        // Where it is not known what goes where, all of them together.
        let systems = || vec![system(10, 0), system(5, 0)];
        assert!(compare("b", systems(), &Needed::Total(15)).is_ok());
        assert!(compare("b", systems(), &Needed::Total(16)).is_err());
        assert!(compare("b", systems(), &Needed::Unknown).is_ok());
    }

    #[test]
    fn a_restore_that_cannot_fit_is_refused_wherever_its_directories_will_be() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("not/there/yet");
        let tablespaces = BTreeMap::from([(5, dir.path().join("space"))]);
        let needed = |data: u64, mapped: u64, other: u64| {
            Needed::Each(BTreeMap::from([(None, data), (Some(5), mapped), (Some(6), other)]))
        };
        assert!(check("b", &data, &tablespaces, &needed(1, 1, 1)).is_ok());
        for too_much in [needed(1 << 60, 0, 0), needed(0, 1 << 60, 0), needed(0, 0, 1 << 60)] {
            let error = check("b", &data, &tablespaces, &too_much).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DiskFull, "{too_much:?}");
        }
    }
}
