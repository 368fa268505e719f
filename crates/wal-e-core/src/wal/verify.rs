//! Whether the archive can give a WAL file back.

use std::io::Read;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::READ_BYTES;
use super::fetch::open;
use crate::codec::Decompressor;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{SegmentSize, SystemIdentifier, WalFileKind, WalFileName, WalPageHeader};
use crate::store::ObjectStore;
use crate::tasks::blocking;
use crate::transfer::download;

/// Reads the archived WAL file `name` to its end and returns its size in bytes.
/// Checked are the checksum of the frame, the checksum that was kept beside the
/// object, and of a segment its size and the header of its first page; with
/// `system_identifier`, that this cluster wrote it.
///
/// # Errors
/// As those of [`fetch`](super::fetch): [`ErrorKind::NotFound`] when the archive
/// does not have it, [`ErrorKind::Corrupt`] when it is not what it should be.
pub async fn verify(
    store: Arc<dyn ObjectStore>,
    name: &WalFileName,
    system_identifier: Option<SystemIdentifier>,
) -> Result<u64> {
    let (object, encoding) = open(&*store, name).await?;
    let url = store.url(object.info.key.as_str());
    let expected = object.info.attributes.content_xxh128.clone();
    let (reader, name) = (download(object), name.clone());
    blocking("verifying a WAL file", move || {
        let damaged = |what: String| {
            Error::new(ErrorKind::Corrupt, format!("archived object \"{url}\" is damaged: {what}"))
        };
        let failed = |source| {
            let error = Error::from_io(format!("could not read object \"{url}\""), source);
            match error.kind() {
                ErrorKind::Corrupt => damaged(error.message().to_owned()),
                _ => error,
            }
        };
        let mut content = Content::default();
        let mut reader = Decompressor::new(reader, encoding).map_err(failed)?;
        content.read(&mut reader).map_err(failed)?;
        let Content { bytes, beginning, checksum } = content;
        if bytes > SegmentSize::LARGEST.bytes() {
            return Err(damaged("it is larger than any WAL segment".to_owned()));
        }
        let checksum = format!("{:032x}", checksum.digest128());
        if expected.is_some_and(|expected| expected != checksum) {
            let what = "its content does not have the checksum that was kept with it";
            return Err(damaged(what.to_owned()));
        }
        if name.kind() == WalFileKind::Segment {
            let header = WalPageHeader::parse(&beginning)
                .ok_or_else(|| damaged(format!("it has {bytes} bytes")))?;
            let misfit = |error: Error| damaged(error.message_and_detail());
            header.check(&name, bytes).map_err(misfit)?;
            if let Some(cluster) = system_identifier {
                header.check_system_identifier(&name, cluster).map_err(misfit)?;
            }
        }
        Ok(bytes)
    })
    .await
}

/// What is known of a file's content while it passes.
#[derive(Default)]
struct Content {
    bytes: u64,
    /// As much as a page header needs.
    beginning: Vec<u8>,
    checksum: Xxh3,
}

impl Content {
    /// Reads until the end, or until there is more than any segment has.
    fn read(&mut self, reader: &mut impl Read) -> std::io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let length = reader.read(&mut buffer)?;
            if length == 0 || self.bytes > SegmentSize::LARGEST.bytes() {
                return Ok(());
            }
            let chunk = &buffer[..length];
            let wanted = WalPageHeader::LENGTH.saturating_sub(self.beginning.len()).min(length);
            self.beginning.extend_from_slice(&chunk[..wanted]);
            self.checksum.update(chunk);
            self.bytes = self.bytes.saturating_add(length as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::codec::{Compression, Compressor, Encoding};
    use crate::layout;
    use crate::store::memory::MemoryStore;
    use crate::store::{Attributes, PutMode};
    use crate::wal::sample::{self, CLUSTER, SEGMENT_BYTES};

    fn name(text: &str) -> WalFileName {
        text.parse().unwrap()
    }

    /// What `verify` says of `content`, archived as `name`.
    async fn verified(
        name: &WalFileName,
        content: &[u8],
        encoding: Encoding,
        damage: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u64> {
        let store = MemoryStore::new();
        let compression = Compression::new(encoding, None).unwrap();
        let mut writer = Compressor::new(Vec::new(), compression).unwrap();
        writer.write_all(content).unwrap();
        let mut body = writer.finish().unwrap();
        damage(&mut body);
        let key = layout::wal_file(name, encoding);
        let attributes = Attributes::default();
        let _ = store.put(&key, body.into(), PutMode::CreateOnly, &attributes).await.unwrap();
        verify(Arc::new(store), name, Some(CLUSTER)).await
    }

    #[tokio::test]
    async fn a_sound_file_has_its_size() {
        let segment = name("000000010000000000000007");
        let content = sample::segment(&segment, 7);
        for encoding in [Encoding::Lz4, Encoding::Zstd, Encoding::None] {
            let size = verified(&segment, &content, encoding, |_| {}).await.unwrap();
            assert_eq!(size, SEGMENT_BYTES as u64);
        }
        let history = name("00000002.history");
        let size = verified(&history, b"1\t0/3000000\tno\n", Encoding::Lz4, |_| {}).await.unwrap();
        assert_eq!(size, 15);
    }

    #[tokio::test]
    async fn what_is_not_the_segment_is_told_with_the_object() {
        let segment = name("000000010000000000000007");
        let content = sample::segment(&segment, 7);
        let other = sample::segment(&name("000000010000000000000008"), 7);
        let mut foreign = content.clone();
        foreign[24] ^= 1;
        let short = content[..SEGMENT_BYTES / 2].to_vec();
        for wrong in [other, foreign, short, Vec::new()] {
            let error = verified(&segment, &wrong, Encoding::Lz4, |_| {}).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.message().contains("000000010000000000000007.lz4"), "{error}");
        }
        let cut = |body: &mut Vec<u8>| body.truncate(body.len() / 2);
        let error = verified(&segment, &content, Encoding::Lz4, cut).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }

    #[tokio::test]
    async fn a_checksum_that_was_kept_is_compared() {
        let store = MemoryStore::new();
        let history = name("00000002.history");
        let attributes =
            Attributes { content_xxh128: Some("0".repeat(32)), ..Attributes::default() };
        let key = layout::wal_file(&history, Encoding::None);
        let _ = store.put(&key, "x".into(), PutMode::CreateOnly, &attributes).await.unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(store);
        let error = verify(Arc::clone(&store), &history, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let missing = name("00000003.history");
        let error = verify(store, &missing, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}
