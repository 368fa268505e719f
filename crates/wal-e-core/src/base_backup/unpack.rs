//! One tar partition onto disk.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::target::Target;
use crate::codec::{Decompressor, Encoding};
use crate::error::{Error, ErrorKind, Result};

/// How files are written, in bytes.
const WRITE_BYTES: usize = 256 * 1024;

/// What a tar put on disk.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// Files written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Unpacks the tar in `source`, encoded as `encoding`, into `target`, syncing each
/// file. `expected` are the names that it must hold, when that is known.
///
/// Only directories and regular files are taken, and no file may be there
/// already: a tar can neither replace a file nor write through a link.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for a damaged or truncated object, a member of another
/// kind, a name that leads out of the target, and members that are missing.
pub fn unpack(
    source: impl Read,
    encoding: Encoding,
    target: &Target,
    expected: Option<&[String]>,
) -> Result<Unpacked> {
    let damaged = |error| Error::from_tar(error);
    let mut missing: Option<HashSet<&str>> =
        expected.map(|names| names.iter().map(String::as_str).collect());
    let mut unpacked = Unpacked::default();
    let mut archive = tar::Archive::new(Decompressor::new(source, encoding).map_err(damaged)?);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.into_owned();
        let place = target.place(&name)?;
        let mode = entry.header().mode().map_err(damaged)? & 0o777;
        match entry.header().entry_type() {
            tar::EntryType::Directory => directory(&place, mode)?,
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                unpacked.bytes += file(&mut entry, &place, mode)?;
                unpacked.files += 1;
                if let (Some(missing), Some(name)) = (&mut missing, name.to_str()) {
                    missing.remove(name);
                }
            }
            kind => {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!(
                        "tar member \"{}\" is neither a file nor a directory ({kind:?})",
                        name.display()
                    ),
                ));
            }
        }
    }
    // The tar ends before its frame does: only the frame's end proves its checksum.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(damaged)?;
    match missing.as_ref().and_then(|missing| missing.iter().min()) {
        None => Ok(unpacked),
        Some(name) => Err(Error::new(
            ErrorKind::Corrupt,
            format!("the tar lacks \"{name}\", which files_metadata.json says it holds"),
        )),
    }
}

impl Error {
    /// The core error inside, or else damage: what the tar reader complains of
    /// itself is the form of the tar.
    fn from_tar(source: io::Error) -> Error {
        let error = Error::from_io("the tar is damaged", source);
        match error.kind() {
            ErrorKind::Io => Error::new(ErrorKind::Corrupt, error.message()),
            _ => error,
        }
    }
}

fn directory(place: &Path, mode: u32) -> Result<()> {
    make_directory(place)?;
    fs::set_permissions(place, fs::Permissions::from_mode(mode | 0o700))
        .map_err(|error| Error::file("set permissions of directory", place, &error))
}

fn make_directory(place: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(place)
        .map_err(|error| Error::file("create directory", place, &error))
}

fn file(content: &mut impl Read, place: &Path, mode: u32) -> Result<u64> {
    if let Some(parent) = place.parent() {
        make_directory(parent)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(place)
        .map_err(|error| Error::file("create file", place, &error))?;
    let bytes = copy(content, &mut file, place)?;
    file.set_permissions(fs::Permissions::from_mode(mode | 0o600))
        .and_then(|()| file.sync_all())
        .map_err(|error| Error::file("sync file", place, &error))?;
    Ok(bytes)
}

/// Like `io::copy`, but tells the errors of the two sides apart.
fn copy(content: &mut impl Read, file: &mut File, place: &Path) -> Result<u64> {
    let mut buffer = vec![0; WRITE_BYTES];
    let mut bytes = 0;
    loop {
        let mut length = 0;
        while length < buffer.len() {
            match content.read(&mut buffer[length..]).map_err(Error::from_tar)? {
                0 => break,
                read => length += read,
            }
        }
        if length == 0 {
            return Ok(bytes);
        }
        file.write_all(&buffer[..length])
            .map_err(|error| Error::file("write file", place, &error))?;
        bytes += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Compression, Compressor};

    fn tar(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        compress(&builder.into_inner().unwrap())
    }

    fn compress(data: &[u8]) -> Vec<u8> {
        let mut writer = Compressor::new(Vec::new(), Compression::default()).unwrap();
        writer.write_all(data).unwrap();
        writer.finish().unwrap()
    }

    fn add(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, content: &[u8]) {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o640);
        header.set_size(content.len() as u64);
        if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            header.set_link_name("/etc").unwrap();
        }
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }

    fn fixture() -> (tempfile::TempDir, Target) {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::prepare(&dir.path().join("data"), None, &[]).unwrap();
        (dir, target)
    }

    #[test]
    fn files_and_directories_are_unpacked_with_their_modes() {
        let (_dir, target) = fixture();
        let object = tar(|builder| {
            add(builder, "/base", tar::EntryType::Directory, b"");
            add(builder, "/base/1/2", tar::EntryType::Regular, b"content");
        });
        let names = ["/base/1/2".to_owned()];
        let unpacked = unpack(&object[..], Encoding::Lz4, &target, Some(&names)).unwrap();
        assert_eq!((unpacked.files, unpacked.bytes), (1, 7));
        let file = target.data_directory().join("base/1/2");
        assert_eq!(fs::read(&file).unwrap(), b"content");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        let parent = fs::metadata(target.data_directory().join("base/1")).unwrap();
        assert_eq!(parent.permissions().mode() & 0o777, 0o700, "a missing parent");
    }

    #[test]
    fn hostile_members_are_refused() {
        for (name, kind) in [
            ("../escape", tar::EntryType::Regular),
            ("/base/../../escape", tar::EntryType::Regular),
            ("/link", tar::EntryType::Symlink),
            ("/link", tar::EntryType::Link),
            ("/device", tar::EntryType::Char),
            ("/fifo", tar::EntryType::Fifo),
        ] {
            let (dir, target) = fixture();
            let object = tar(|builder| add(builder, name, kind, b""));
            let error = unpack(&object[..], Encoding::Lz4, &target, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{name}");
            assert_eq!(fs::read_dir(target.data_directory()).unwrap().count(), 0, "{name}");
        }
    }

    #[test]
    fn a_file_is_never_written_twice() {
        let (_dir, target) = fixture();
        let object = tar(|builder| {
            add(builder, "/a", tar::EntryType::Regular, b"first");
            add(builder, "/a", tar::EntryType::Regular, b"second");
        });
        assert!(unpack(&object[..], Encoding::Lz4, &target, None).is_err());
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let content: Vec<u8> = (0..400_000_u32).map(|n| (n * 7 % 256) as u8).collect();
        let object = tar(|builder| add(builder, "/a", tar::EntryType::Regular, &content));
        for length in (0..object.len()).step_by(object.len() / 50) {
            let (_dir, target) = fixture();
            let error = unpack(&object[..length], Encoding::Lz4, &target, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {length}");
        }
        // The content's checksum is the last four bytes of all.
        let mut damaged = object.clone();
        *damaged.last_mut().unwrap() ^= 1;
        let (_dir, target) = fixture();
        assert_eq!(
            unpack(&damaged[..], Encoding::Lz4, &target, None).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        let (_dir, target) = fixture();
        let names = ["/a".to_owned(), "/b".to_owned()];
        let error = unpack(&object[..], Encoding::Lz4, &target, Some(&names)).unwrap_err();
        assert!(error.message().contains("\"/b\""));
    }
}
