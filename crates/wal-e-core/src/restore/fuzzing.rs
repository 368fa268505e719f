//! The parsers of this room, for [`crate::fuzzing`].

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use super::assembly::{Assembly, Begun};
use super::deferred::Deferred;
use super::destination::Destination;
use super::member;
use super::selection::Selection;
use super::syncing::SyncPool;
use super::unpack::{Budget, Purpose, Sink, onto_disk};
use crate::archived::ArchivedObject;
use crate::codec::Encoding;
use crate::increment::Head;
use crate::notice;

pub fn member_name(bytes: &[u8]) {
    if let Ok(path) = member::relative_path(Path::new(OsStr::from_bytes(bytes))) {
        assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
    }
}

/// Unpacks the bytes as they are, and with the right sum in all that looks like a
/// header: made-up bytes do not have it.
pub fn tar(bytes: &[u8]) {
    unpacked(bytes);
    let mut mended = bytes.to_vec();
    for block in mended.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    unpacked(&mended);
}

fn unpacked(bytes: &[u8]) {
    let outside = tempfile::tempdir().expect("there is room for a directory");
    let data = outside.path().join("data");
    let sink = Sink {
        target: Destination::prepare(&data, BTreeMap::new(), None, false)
            .expect("the directory is new"),
        assembly: Assembly::default(),
        deferred: Deferred::default(),
        manifest: None,
        budget: Budget::new(Some(0)),
        syncing: SyncPool::start().expect("there are threads"),
        keeps_links: true,
    };
    let object = ArchivedObject::made_up(std::io::Cursor::new(bytes.to_vec()), Encoding::None);
    let _ = onto_disk(object, &sink, &Selection::everything(), false, Purpose::Restore);
    let (notices, _queue) = notice::channel();
    let _ = sink.deferred.make_links(&sink.target, &notices);
    for entry in walkdir::WalkDir::new(&data).into_iter().flatten() {
        if let Ok(found) = entry.path().canonicalize() {
            let inside = found.starts_with(data.canonicalize().expect("the directory is there"));
            assert!(inside, "a link leads out of the target: {}", entry.path().display());
        }
    }
    let beside: Vec<_> = fs::read_dir(outside.path()).into_iter().flatten().flatten().collect();
    assert_eq!(beside.len(), 1, "written outside of the target: {beside:?}");
}

pub fn increment(bytes: &[u8]) {
    let file = tempfile::tempfile().expect("there is room for a file");
    let mut content = bytes;
    if let Ok(head) = Head::read(&mut content, bytes.len() as u64) {
        let (begun, place) = (Begun::new(head.file_bytes), Path::new("increment"));
        let missing = begun.missing(&head.numbers);
        let _ = begun.keep_pages(&head, &missing, &mut content, &file, place);
    }
}
