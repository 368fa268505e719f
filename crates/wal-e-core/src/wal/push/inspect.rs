//! What is looked at in a WAL file before it is sent.

use std::io::Read;
use std::path::Path;

use super::{Pusher, open};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{SegmentSize, WalFileKind, WalFileName, WalPageHeader};
use crate::tasks::blocking;
use crate::wal::left_segment::left_within;

impl Pusher {
    /// The size of the file, once it is clear that it is what its name says.
    pub(super) async fn inspect(&self, name: &WalFileName, path: &Path) -> Result<u64> {
        let (name, path) = (name.clone(), path.to_owned());
        let expected = self.options.system_identifier;
        let notices = self.notices.clone();
        blocking("reading a WAL file", move || {
            let mut file = open(&path)?;
            let unreadable = |source| Error::file("read file", &path, &source);
            let bytes = file.metadata().map_err(unreadable)?.len();
            match name.kind() {
                WalFileKind::Segment | WalFileKind::Partial => {
                    if SegmentSize::new(bytes).is_none() {
                        return Err(wrong_size(&path, bytes));
                    }
                    let mut start = [0; WalPageHeader::LENGTH];
                    file.read_exact(&mut start).map_err(unreadable)?;
                    let header =
                        WalPageHeader::parse(&start).ok_or_else(|| wrong_size(&path, bytes))?;
                    header.check(&name, bytes)?;
                    if let Some(expected) = expected {
                        header.check_system_identifier(&name, expected)?;
                    }
                }
                WalFileKind::TimelineHistory if bytes == 0 => return Err(wrong_size(&path, bytes)),
                // Only people read these, and the server would wait for it for ever.
                WalFileKind::BackupHistory if bytes == 0 => notices.warning(format!(
                    "backup history file \"{}\" is empty and is archived as it is",
                    path.display()
                )),
                WalFileKind::TimelineHistory | WalFileKind::BackupHistory => {}
            }
            Ok(bytes)
        })
        .await
    }

    /// Whether it is a standby's part of a segment in which its timeline was left.
    pub(super) async fn was_left_within(
        &self,
        name: &WalFileName,
        path: &Path,
        bytes: u64,
    ) -> Result<bool> {
        let Some(size) = SegmentSize::new(bytes) else { return Ok(false) };
        let (file, path) = (name.clone(), path.to_owned());
        let left = blocking("reading a WAL file", move || left_within(&file, &path, size)).await?;
        if let Some(left) = left {
            self.notices.log(format!(
                "WAL segment \"{name}\" is not archived: timeline {} left it at LSN {}, and has the same up to there in a segment of its own",
                left.newer, left.at
            ));
        }
        Ok(left.is_some())
    }
}

fn wrong_size(path: &Path, bytes: u64) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "file \"{}\" has {bytes} bytes, which is not the size of a WAL file",
            path.display()
        ),
    )
    .with_hint(
        "Replace the file with a sound copy: a standby may have one. If there is none, remove its mark in pg_wal/archive_status and take a base backup: older ones cannot be restored beyond this file.",
    )
}
