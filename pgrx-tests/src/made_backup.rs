//! Base backups made by hand, byte by byte: what no server and no well-meaning
//! program would write.

use lzzzz::lz4f::{ContentChecksum, PreferencesBuilder, compress_to_vec};
use serde_json::json;

use crate::archive::Archive;

/// The name of the backup that [`MadeBackup`] makes.
pub const NAME: &str = "base_000000010000000000000002";

/// Bytes of its files, as its sentinel says.
const UNCOMPRESSED_BYTES: u64 = 1 << 20;

/// A base backup of WAL-G's form in an archive: sentinel, `pg_control.tar` and
/// `backup_label.tar` are sound; the tar partition is what a test makes of it.
pub struct MadeBackup<'a> {
    archive: &'a Archive,
}

impl<'a> MadeBackup<'a> {
    /// Writes everything but the tar partition.
    pub fn new(archive: &'a Archive) -> Self {
        let backup = MadeBackup { archive };
        let mut control = Tar::new();
        control.file("/global/pg_control", &[0; 8192]);
        backup.put("pg_control.tar.lz4", &lz4(&control.finish()));
        let mut label = Tar::new();
        label.file(
            "backup_label",
            b"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n\
              CHECKPOINT LOCATION: 0/2000060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
              START TIME: 2026-01-02 03:04:05 UTC\nLABEL: made\nSTART TIMELINE: 1\n",
        );
        label.file("tablespace_map", b"");
        backup.put("backup_label.tar.lz4", &lz4(&label.finish()));
        let sentinel = json!({
            "LSN": 0x200_0028, "FinishLSN": 0x200_0100, "PgVersion": 150_018,
            "SystemIdentifier": 7_000_000_000_000_000_001_u64,
            "UncompressedSize": UNCOMPRESSED_BYTES, "CompressedSize": UNCOMPRESSED_BYTES,
            "FilesMetadataDisabled": true, "Version": 2,
        });
        let object = format!("basebackups_005/{NAME}_backup_stop_sentinel.json");
        archive.replace_object(&object, sentinel.to_string().into_bytes());
        backup
    }

    /// Stores an object among the tars.
    pub fn put(&self, file_name: &str, bytes: &[u8]) {
        let object = format!("basebackups_005/{NAME}/tar_partitions/{file_name}");
        self.archive.replace_object(&object, bytes.to_vec());
    }
}

/// One LZ4 frame.
pub fn lz4(content: &[u8]) -> Vec<u8> {
    let preferences = PreferencesBuilder::new().content_checksum(ContentChecksum::Enabled).build();
    let mut frame = Vec::new();
    compress_to_vec(content, &mut frame, &preferences).expect("it fits into memory");
    frame
}

/// A tar, header by header.
#[derive(Debug, Default)]
pub struct Tar(Vec<u8>);

/// What a header says; the checksum is made.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// The member's name.
    pub name: &'a str,
    /// `0` a file, `1` a hard link, `2` a symbolic link, `5` a directory, ...
    pub kind: u8,
    /// Its size, octal, as the header has it.
    pub size: &'a str,
    /// Where a link leads.
    pub link: &'a str,
}

impl Tar {
    /// An empty tar.
    pub fn new() -> Tar {
        Tar::default()
    }

    /// Adds a header and nothing after it.
    pub fn header(&mut self, member: &Member<'_>) -> &mut Tar {
        let mut header = [0; 512];
        let mut put = |offset: usize, bytes: &[u8]| {
            header[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        put(0, member.name.as_bytes());
        put(100, b"0000600\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, member.size.as_bytes());
        put(136, b"00000000001\0");
        put(148, b"        ");
        put(156, &[member.kind]);
        put(157, member.link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self
    }

    /// Adds bytes as they are, up to a whole block.
    pub fn content(&mut self, bytes: &[u8]) -> &mut Tar {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, bytes: &[u8]) -> &mut Tar {
        let size = format!("{:011o}", bytes.len());
        self.header(&Member { name, kind: b'0', size: &size, link: "" }).content(bytes)
    }

    /// Adds a member without content.
    pub fn empty(&mut self, name: &str, kind: u8, link: &str) -> &mut Tar {
        self.header(&Member { name, kind, size: "00000000000", link })
    }

    /// The tar with the zeros that end it.
    pub fn finish(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    /// The tar as it is, without its end.
    pub fn cut(&self) -> Vec<u8> {
        self.0.clone()
    }
}
