//! What the programs of other encodings write, read here.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::{fs, iter, thread};

use super::*;
use super::{corrupt, decompress, noise, sample};
use crate::error::{Error, ErrorKind};

/// What other programs write, as these do, and whether it has checksums.
const PROGRAMS: [(Encoding, bool, &[&str]); 18] = [
    (Encoding::Lzop, true, &["lzop"]),
    (Encoding::Lzop, true, &["lzop", "-1"]),
    (Encoding::Lzop, true, &["lzop", "-9"]),
    (Encoding::Lzop, true, &["lzop", "--crc32"]),
    (Encoding::Lzop, true, &["lzop", "-CC"]),
    (Encoding::Lzop, true, &["lzop", "-CC", "--crc32"]),
    (Encoding::Lzop, false, &["lzop", "-F"]),
    (Encoding::Lzma, false, &["xz", "--format=lzma"]),
    (Encoding::Lzma, false, &["xz", "--format=lzma", "-9", "--threads=1"]),
    (Encoding::Brotli, false, &["brotli", "-q", "3"]),
    (Encoding::Brotli, false, &["brotli", "-q", "9", "-w", "24"]),
    (Encoding::Gzip, true, &["gzip", "-1"]),
    (Encoding::Gzip, true, &["gzip", "-9"]),
    (Encoding::Lz4, true, &["lz4", "-q"]),
    (Encoding::Lz4, true, &["lz4", "-q", "-9", "-B4", "-BD"]),
    (Encoding::Lz4, true, &["lz4", "-q", "-B5", "-BD", "-BX"]),
    (Encoding::Lz4, true, &["lz4", "-q", "-B6", "--content-size"]),
    (Encoding::Lz4, false, &["lz4", "-q", "-BD", "--no-frame-crc"]),
];

/// What `command` makes of `data`.
fn run(command: &[&str], data: &[u8]) -> Vec<u8> {
    let program = command[0];
    let mut child = Command::new(program)
        .args(&command[1..])
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("could not run {program}: {error}; \"scripts/install-deps test\" installs it")
        });
    let mut input = child.stdin.take().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || input.write_all(data).unwrap());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{command:?}");
        output.stdout
    })
}

/// One command for each encoding.
fn foreign() -> impl Iterator<Item = (Encoding, &'static [&'static str])> {
    Encoding::ALL.into_iter().filter_map(|encoding| {
        let (_, _, command) = PROGRAMS.into_iter().find(|(other, ..)| *other == encoding)?;
        Some((encoding, command))
    })
}

#[test]
fn whatever_the_programs_write_is_read() {
    const BLOCK: usize = 256 * 1024;
    for (encoding, _, command) in PROGRAMS {
        let sizes = [0, 1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 1_000_000];
        for data in sizes.map(sample).into_iter().chain([noise(700_000)]) {
            let stored = run(command, &data);
            let read = decompress(&stored, encoding).unwrap();
            assert!(read == data, "{command:?}, {} bytes", data.len());
        }
    }
}

#[test]
fn it_does_not_matter_in_which_pieces_bytes_arrive() {
    struct Bytewise<'a>(&'a [u8], bool);
    impl Read for Bytewise<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            self.0.read(&mut buffer[..1])
        }
    }
    let data: Vec<u8> = sample(3000).into_iter().chain(noise(3000)).collect();
    let own = Encoding::WRITABLE.into_iter().map(|encoding| {
        let compression = Compression::new(encoding, None).unwrap();
        let mut writer = Compressor::new(Vec::new(), compression).unwrap();
        writer.write_all(&data).unwrap();
        (encoding, writer.finish().unwrap())
    });
    let foreign = foreign().map(|(encoding, command)| (encoding, run(command, &data)));
    for (encoding, stored) in own.chain(foreign) {
        let mut reader = Decompressor::new(Bytewise(&stored, false), encoding).unwrap();
        let mut read = Vec::new();
        let mut buffer = [0; 7];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => read.extend_from_slice(&buffer[..length]),
                Err(error) => {
                    // Nothing is lost with what is not decoded.
                    assert_eq!(encoding, Encoding::None, "{error}");
                    assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
                }
            }
        }
        assert!(read == data, "{encoding}");
    }
}

#[test]
fn what_is_cut_anywhere_is_an_error() {
    for (encoding, _, command) in PROGRAMS {
        for data in [sample(20_000), noise(300_000), Vec::new()] {
            let stored = run(command, &data);
            let step = (stored.len() / 500).max(1);
            let end = stored.len().saturating_sub(30);
            let lengths = (0..end.min(60)).chain((60..end).step_by(step)).chain(end..stored.len());
            for length in lengths {
                let error = corrupt(&stored[..length], encoding);
                let expected = if length == 0 { "empty" } else { "" };
                assert!(error.message().contains(expected), "cut at {length}: {error}");
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_changes_nothing_where_there_are_checksums() {
    for (encoding, has_checksums, command) in PROGRAMS {
        for data in [sample(300_000), noise(3_000)] {
            let stored = run(command, &data);
            let positions = (0..60).chain((60..stored.len()).step_by(7));
            for position in positions.filter(|position| *position < stored.len()) {
                for bit in [0x01, 0x10, 0x80] {
                    let mut damaged = stored.clone();
                    damaged[position] ^= bit;
                    match decompress(&damaged, encoding) {
                        Err(error) => {
                            let kind = Error::from_io("", error).kind();
                            assert_eq!(kind, ErrorKind::Corrupt, "{command:?}: byte {position}");
                        }
                        // Times and names in a header; a match that begins a period earlier.
                        Ok(read) => assert!(
                            read == data || !has_checksums,
                            "{command:?}: bit {bit} of byte {position}"
                        ),
                    }
                }
            }
        }
    }
}

#[test]
fn what_follows_is_another_member_or_an_error() {
    for (encoding, _, command) in PROGRAMS {
        let stored = run(command, &sample(300_000));
        let again = run(command, b"second");
        for garbage in
            [&b"g"[..], b"\0", b"\0\0\0\0", b"garbage", &again[..again.len() - 1], &again[..1]]
        {
            corrupt(&[&stored, garbage].concat(), encoding);
        }
        let both = [run(command, b"first "), again].concat();
        if matches!(encoding, Encoding::Lzop | Encoding::Gzip | Encoding::Lz4) {
            assert_eq!(decompress(&both, encoding).unwrap(), b"first second");
        } else {
            corrupt(&both, encoding);
        }
    }
}

#[test]
fn lzop_stores_names_and_several_files_in_one() {
    let directory = tempfile::tempdir().unwrap();
    let paths = ["a", "a name of some length.tar"].map(|name| directory.path().join(name));
    let contents = [noise(400_000), sample(400_000)];
    for (path, content) in iter::zip(&paths, &contents) {
        fs::write(path, content).unwrap();
    }
    for options in [&["-c"][..], &["-c", "-P", "--crc32"], &["-c", "-9"]] {
        let output = Command::new("lzop").args(options).args(&paths).output().unwrap();
        assert!(output.status.success());
        let stored = output.stdout;
        assert!(decompress(&stored, Encoding::Lzop).unwrap() == contents.concat());
        // In the middle of the second header.
        let second = stored.windows(4).rposition(|bytes| bytes == b"\x89LZO").unwrap();
        for length in [second + 1, second + 9, second + 40] {
            corrupt(&stored[..length], Encoding::Lzop);
        }
    }
}

#[test]
fn sizes_that_lie_are_refused_before_memory_is_taken() {
    let stored = run(&["lzop", "-F"], b"x");
    // The header, and a block of one byte that is stored as it is.
    let header = &stored[..stored.len() - 4 - 4 - 1 - 4];
    for block in [
        &[0x04, 0, 0, 1, 0, 0, 0, 9][..],
        &[0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 9],
        &[0, 0, 0, 9, 0, 0, 0, 10],
        &[0, 0, 0, 9, 0, 0, 0, 0],
        &[0x04, 0, 0, 0, 0x03, 0, 0, 0],
    ] {
        corrupt(&[header, block, &noise(100)].concat(), Encoding::Lzop);
    }
    let mut lzma = run(&["xz", "--format=lzma"], &sample(1000));
    lzma[1..5].copy_from_slice(&(128_u32 << 20).to_le_bytes());
    assert!(decompress(&lzma, Encoding::Lzma).unwrap() == sample(1000));
    lzma[1..5].copy_from_slice(&(130_u32 << 20).to_le_bytes());
    assert!(corrupt(&lzma, Encoding::Lzma).message().contains("128 MiB"));
    let large_window = run(&["brotli", "--large_window=28", "-q", "5"], &noise(100_000));
    corrupt(&large_window, Encoding::Brotli);
}

#[test]
fn one_encoding_under_the_name_of_another_is_an_error() {
    let all: Vec<_> =
        foreign().map(|(encoding, command)| (encoding, run(command, &noise(5000)))).collect();
    for (encoding, stored) in &all {
        let others = Encoding::ALL.into_iter().filter(|other| other != encoding);
        for other in others.filter(|other| *other != Encoding::None) {
            let error = corrupt(stored, other);
            let says_so = error.message().contains("magic number");
            assert!(says_so || other == Encoding::Brotli, "{encoding} as {other}: {error}");
            assert_eq!(error.hint().is_some(), says_so || other == Encoding::Brotli, "{error}");
        }
    }
}

#[test]
fn an_lz4_frame_of_the_legacy_format_is_said_to_be_one() {
    let stored = run(&["lz4", "-q", "-l"], &sample(10_000));
    let error = Error::from_io("", decompress(&stored, Encoding::Lz4).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("legacy") && error.hint().is_some());
    let modern = run(&["lz4", "-q"], &sample(10_000));
    assert!(decompress(&modern, Encoding::Lz4).unwrap() == sample(10_000));
}

#[test]
fn after_an_error_there_is_no_end() {
    for (encoding, command) in foreign() {
        let stored = run(command, &noise(1000));
        let mut reader = Decompressor::new(&stored[..stored.len() - 2], encoding).unwrap();
        let mut buffer = [0; 2000];
        while reader.read(&mut buffer).is_ok_and(|length| length > 0) {}
        assert!(reader.read(&mut buffer).is_err(), "{encoding}");
    }
}
