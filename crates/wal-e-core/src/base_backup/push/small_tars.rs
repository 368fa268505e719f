//! The tars that hold one or two files: `pg_control`, and label with tablespace map.

use std::fs::{self, Metadata};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use time::OffsetDateTime;

use super::super::member::{member_name, time_of};
use super::super::tar_stream::{StoredFile, TarStream};
use super::BackupPush;
use crate::archived::Pieces;
use crate::codec::Encoding;
use crate::error::{Error, Result};
use crate::layout;
use crate::postgres::data_directory::{BACKUP_LABEL, CONTROL_FILE, TABLESPACE_MAP, file_mode};
use crate::postgres::{ControlFile, ManifestFile};
use crate::sentinel::{self, FileMetadata};

/// How often `pg_control` is read until it is sound, and how long it is left alone
/// in between.
const CONTROL_FILE_ATTEMPTS: u32 = 500;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

/// A member of one of the small tars.
struct SmallFile {
    /// Below the data directory.
    path: &'static str,
    /// In the tar.
    name: String,
    modified: OffsetDateTime,
    content: Vec<u8>,
}

impl BackupPush {
    /// Stores `pg_control` as it is now.
    pub(super) async fn push_control_file(&mut self) -> Result<()> {
        let control = SmallFile {
            path: CONTROL_FILE,
            name: member_name(CONTROL_FILE),
            modified: self.modified(CONTROL_FILE)?,
            content: self.read_control_file().await?,
        };
        self.push_small_tar(layout::pg_control_file_name, vec![control]).await
    }

    /// Stores label and tablespace map as `pg_backup_stop` returned them at `stopped`.
    pub(super) async fn push_label(
        &mut self,
        backup_label: String,
        tablespace_map: String,
        stopped: OffsetDateTime,
    ) -> Result<()> {
        let files = [
            (BACKUP_LABEL, backup_label.into_bytes()),
            (TABLESPACE_MAP, tablespace_map.into_bytes()),
        ]
        .map(|(path, content)| SmallFile {
            path,
            name: path.to_owned(),
            modified: stopped,
            content,
        });
        self.push_small_tar(layout::backup_label_file_name, files.into()).await
    }

    async fn push_small_tar(
        &mut self,
        file_name: fn(Encoding) -> String,
        files: Vec<SmallFile>,
    ) -> Result<()> {
        let mode = file_mode(stat(&self.start.data_directory)?.permissions().mode());
        let cancel = self.draft.cancel.clone();
        let tars = self.draft.tar_store();
        let fill = move |tar: &mut TarStream<&mut Pieces>| {
            let store = |file: SmallFile| {
                let SmallFile { path, name, modified, content } = file;
                tar.content(&name, mode, modified.unix_timestamp(), &content)?;
                let mtime = sentinel::format_time(modified);
                let metadata = FileMetadata { mtime, ..FileMetadata::default() };
                let manifest = ManifestFile::of_content(path, &content, modified);
                let member_bytes = content.len() as u64;
                Ok((name, StoredFile { metadata, manifest, member_bytes }))
            };
            files.into_iter().map(store).collect()
        };
        let tar = tars.push(file_name(tars.encoding()), 0, cancel, fill).await?;
        self.draft.record(tar);
        Ok(())
    }

    /// The server replaces `pg_control` in place, so a read may see half of a change;
    /// its CRC does not match then.
    async fn read_control_file(&self) -> Result<Vec<u8>> {
        let path = self.start.data_directory.join(CONTROL_FILE);
        let mut attempts = CONTROL_FILE_ATTEMPTS;
        loop {
            let content =
                fs::read(&path).map_err(|error| Error::file("read file", &path, &error))?;
            attempts -= 1;
            match ControlFile::parse(&content) {
                Err(_) if attempts > 0 => tokio::time::sleep(BETWEEN_ATTEMPTS).await,
                Err(error) => {
                    return Err(error
                        .with_detail(format!(
                            "It is in \"{}\". The server could not be started again with it.",
                            self.start.data_directory.display()
                        ))
                        .with_hint("Find out what damaged it before you stop the server."));
                }
                Ok(_) => return Ok(content),
            }
        }
    }

    fn modified(&self, path: &str) -> Result<OffsetDateTime> {
        stat(&self.start.data_directory.join(path)).map(|metadata| time_of(&metadata))
    }
}

fn stat(path: &Path) -> Result<Metadata> {
    fs::metadata(path).map_err(|error| Error::file("stat file", path, &error))
}
