//! The content of an object, read piece by piece.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::blocking;
use super::root::Root;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::store::ObjectBody;

/// The size of the pieces in which an object is handed out.
const CHUNK_BYTES: usize = 256 * 1024;

/// A file that is being read.
pub(super) struct FileBody {
    pub(super) root: Arc<Root>,
    pub(super) key: ObjectKey,
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
    /// Where to stop, at the latest at the object's end.
    pub(super) end: u64,
    pub(super) size_bytes: u64,
}

#[async_trait]
impl ObjectBody for FileBody {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        let wanted = (self.end - self.offset).min(CHUNK_BYTES as u64) as usize;
        if wanted == 0 {
            return Ok(None);
        }
        let (root, key) = (Arc::clone(&self.root), self.key.clone());
        let (file, offset, size_bytes) = (Arc::clone(&self.file), self.offset, self.size_bytes);
        let chunk = blocking(move || {
            let mut chunk = BytesMut::zeroed(wanted);
            file.read_exact_at(&mut chunk, offset).map_err(|error| {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    Error::new(
                        ErrorKind::Corrupt,
                        format!(
                            "object \"{}\" became shorter than its {size_bytes} bytes while it was read",
                            root.url(key.as_str())
                        ),
                    )
                } else {
                    root.refused("get", &key, &root.file(&key), &error)
                }
            })?;
            Ok(chunk.freeze())
        })
        .await?;
        self.offset += chunk.len() as u64;
        Ok(Some(chunk))
    }
}
