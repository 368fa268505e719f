//! The programs that compress.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

/// How the objects of an archive are compressed, and what their names end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// `.lz4`
    Lz4,
    /// `.zst`
    Zstd,
    /// `.lzma`
    Lzma,
    /// `.br`
    Brotli,
    /// `.gz`
    Gzip,
    /// `.lzo`
    Lzop,
    /// Not at all.
    None,
    /// Not at all, with the dot that WAL-G left at the end of the name until 2026.
    NoneWithDot,
}

impl Codec {
    /// What WAL-G writes or reads.
    pub const WAL_G: [Codec; 6] =
        [Codec::Lz4, Codec::Zstd, Codec::Lzma, Codec::Brotli, Codec::Gzip, Codec::None];

    /// What is added to the name of an object.
    pub fn suffix(self) -> &'static str {
        match self {
            Codec::Lz4 => ".lz4",
            Codec::Zstd => ".zst",
            Codec::Lzma => ".lzma",
            Codec::Brotli => ".br",
            Codec::Gzip => ".gz",
            Codec::Lzop => ".lzo",
            Codec::None => "",
            Codec::NoneWithDot => ".",
        }
    }

    /// The object with this content.
    #[track_caller]
    pub fn compress(self, content: &[u8]) -> Vec<u8> {
        match self {
            Codec::Lz4 => filter(&["lz4", "-c"], content),
            Codec::Zstd => filter(&["zstd", "-q", "-c"], content),
            Codec::Lzma => filter(&["xz", "--format=lzma", "-1", "-c"], content),
            Codec::Brotli => filter(&["brotli", "-q", "3", "-c"], content),
            Codec::Gzip => filter(&["gzip", "-1", "-c"], content),
            Codec::Lzop => filter(&["lzop", "-c"], content),
            Codec::None | Codec::NoneWithDot => content.to_vec(),
        }
    }
}

/// What a program makes of `input`.
///
/// # Panics
///
/// When the program is missing or fails.
#[track_caller]
pub(super) fn filter(command: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("could not run {}: {error}; see \"scripts/install-deps test\"", command[0])
        });
    let mut stdin = child.stdin.take().expect("it was piped");
    thread::scope(|scope| {
        let writing = scope.spawn(move || stdin.write_all(input));
        let output = child.wait_with_output().expect("a child can be waited for");
        assert!(output.status.success(), "{command:?}: {}", output.status);
        writing.join().expect("no panic").expect("the program reads all of its input");
        output.stdout
    })
}
