//! The parsers of this room, for [`crate::fuzzing`].

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use super::member;
use super::target::Target;
use super::unpack::unpack;
use crate::codec::Encoding;

pub fn member_name(bytes: &[u8]) {
    if let Ok(path) = member::relative_path(Path::new(OsStr::from_bytes(bytes))) {
        assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
    }
}

pub fn tar(bytes: &[u8]) {
    let outside = tempfile::tempdir().expect("there is room for a directory");
    let data = outside.path().join("data");
    let target = Target::prepare(&data, None, &[]).expect("the directory is new");
    let _ = unpack(bytes, Encoding::None, &target, None);
    let beside: Vec<_> = fs::read_dir(outside.path()).into_iter().flatten().flatten().collect();
    assert_eq!(beside.len(), 1, "written outside of the target: {beside:?}");
}
