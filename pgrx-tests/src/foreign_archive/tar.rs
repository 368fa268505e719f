//! Tars, made by Python's `tarfile`, with which WAL-E made them.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::codec::filter;

const SCRIPT: &str = include_str!("make_tar.py");

/// About as much as the members of one tar have together, so that a small cluster
/// has several.
const PART_BYTES: u64 = 8 * 1024 * 1024;

/// How headers are written where the plain form has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TarFormat {
    /// WAL-G, as Go's `archive/tar` does: only names that are too long have a PAX
    /// header.
    Go,
    /// WAL-E on Python before 3.8.
    Gnu,
    /// WAL-E on Python from 3.8 on: times are fractions, in a PAX header for each member.
    Pax,
}

/// A member of a tar.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// As the tar has it.
    pub(super) name: String,
    /// Permissions.
    pub(super) mode: u32,
    /// Seconds and nanoseconds since 1970.
    pub(super) modified: (i64, i64),
    /// Where the content is; `None` for a directory.
    pub(super) content: Option<PathBuf>,
}

impl Member {
    /// A file with what the server handed out: no file of the data directory.
    pub(super) fn label(name: &str, content: PathBuf) -> Member {
        Member { name: name.to_owned(), mode: 0o600, modified: (0, 0), content: Some(content) }
    }

    pub(super) fn bytes(&self) -> u64 {
        let size = |path: &PathBuf| path.metadata().expect("the content is there").len();
        self.content.as_ref().map_or(0, size)
    }
}

/// The tar of `members`; without the two blocks of zeros at its end when
/// `trailer` is false.
#[track_caller]
pub(super) fn tar(format: TarFormat, trailer: bool, members: &[Member]) -> Vec<u8> {
    let described = members.iter().map(|member| {
        let (seconds, nanoseconds) = member.modified;
        let modified = match format {
            TarFormat::Go | TarFormat::Gnu => json!(seconds),
            TarFormat::Pax => json!(seconds as f64 + nanoseconds as f64 / 1e9),
        };
        let path = member.content.as_deref().map(Path::to_string_lossy);
        json!({ "name": member.name, "mode": member.mode, "mtime": modified, "path": path })
    });
    let request = json!({
        "format": if format == TarFormat::Gnu { "gnu" } else { "pax" },
        "trailer": trailer,
        "members": described.collect::<Vec<_>>(),
    });
    filter(&["python3", "-c", SCRIPT], request.to_string().as_bytes())
}

/// Deals members into tars, in their order.
pub(super) fn parts(members: Vec<Member>) -> Vec<Vec<Member>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for member in members {
        bytes += member.bytes();
        parts.last_mut().expect("there is one").push(member);
        if bytes >= PART_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}
