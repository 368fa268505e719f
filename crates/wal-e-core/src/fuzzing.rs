//! What is done with bytes that others may have written: a function for each
//! parser, to be called with anything.
//!
//! None may panic, use memory or time without bound, or write outside of where it
//! should; and what a parser accepts must make sense. `fuzz/` calls these
//! functions with bytes that a fuzzer makes up (`make fuzz`), the unit test
//! below with those that are kept in `fuzz/corpus/`.

use std::io::{Read, Write};
use std::path::Path;

use crate::changed_blocks::{MapRun, SegmentMap, SegmentMapper};
use crate::codec::{Decompressor, Encoding};
use crate::encryption::{
    self, Key, Keyring, OpenPgpKey, OpenPgpSecret, SecretStreamReader, SecretStreamWriter,
};
use crate::layout::{self, ObjectKey};
use crate::owner::Owner;
use crate::postgres::{
    BackupLabel, BackupManifest, ControlFile, Lsn, RecordKind, SegmentSize, TimelineHistory,
    TimelineId, WalFileName, WalPageHeader, WalReader, WalSegment, tablespace_map,
    wal_summary as summary,
};
use crate::restore::fuzzing as base_backup;
use crate::sentinel::{self, FilesMetadata, Metadata, Sentinel};

/// A function of this kind.
pub type Target = fn(&[u8]);

/// All of them, by the names of their fuzz targets and corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("backup_label", backup_label),
    ("backup_manifest", backup_manifest),
    ("control_file", control_file),
    ("decompressor", decompressor),
    ("increment", increment),
    ("json", json),
    ("member_name", member_name),
    ("names", names),
    ("openpgp", openpgp),
    ("secret_stream", secret_stream),
    ("segment_blocks", segment_blocks),
    ("segment_map", segment_map),
    ("tablespace_map", tablespace_maps),
    ("tar", tar),
    ("timeline_history", timeline_history),
    ("wal_page", wal_page),
    ("wal_record", wal_record),
    ("wal_records", wal_records),
    ("wal_summary", wal_summary),
];

/// The key of the messages in the corpus.
const OPENPGP_KEY: &[u8] = include_bytes!("encryption/tests/vectors/openpgp_cv25519.key");

/// How much a decoder is let out of a few bytes: as much as shows that it streams.
const MOST_DECODED_BYTES: u64 = 8 << 20;

/// The JSON objects of a prefix.
pub fn json(bytes: &[u8]) {
    if let Ok(sentinel) = sentinel::parse::<Sentinel>("x", bytes) {
        let again = sentinel::parse::<Sentinel>("x", &sentinel::to_json(&sentinel));
        assert!(again.is_ok(), "what was read can be written and read: {sentinel:?}");
    }
    let _ = sentinel::parse::<Metadata>("x", bytes);
    let _ = sentinel::parse::<FilesMetadata>("x", bytes);
    let _ = sentinel::parse::<Owner>("x", bytes);
}

/// `backup_manifest`. Its own checksum hides the rest from bytes that are made
/// up, so the same is tried with the right one.
pub fn backup_manifest(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    BackupManifest::fix_checksum(&mut bytes);
    let Ok(manifest) = BackupManifest::parse(&bytes) else { return };
    let mut written = Vec::new();
    manifest.write(&mut written).expect("a vector takes everything");
    let again = BackupManifest::parse(&written);
    assert_eq!(again.as_ref(), Ok(&manifest));
}

/// Keys, and what their names say.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = text.parse::<WalFileName>() {
        assert_eq!(name.to_string(), text);
        for encoding in Encoding::ALL {
            let found = layout::wal_file_of(&layout::wal_file(&name, encoding));
            assert!(found.is_some_and(|(found, _)| found == name), "{name} as {encoding}");
        }
    }
    if let Some(key) = ObjectKey::from_listing(text) {
        assert!(Path::new(key.as_str()).components().count() > 0);
        let _ = layout::wal_file_of(&key);
        let _ = layout::tar_of(&key);
        let _ = layout::encoding_of_mark(&key);
        if let Some(backup) = layout::backup_of_sentinel(&key) {
            assert_eq!(layout::sentinel(backup), key);
        }
    }
    let _ = layout::timeline_of_backup(text);
}

/// A tar member's name never leads out of the target.
pub fn member_name(bytes: &[u8]) {
    base_backup::member_name(bytes);
}

/// `tablespace_map`.
pub fn tablespace_maps(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(tablespaces) = tablespace_map::parse(text) {
        let again = tablespace_map::parse(&tablespace_map::format(&tablespaces));
        assert_eq!(again.ok().as_ref(), Some(&tablespaces));
    }
}

/// The first page of a WAL segment.
pub fn wal_page(bytes: &[u8]) {
    let Some(header) = WalPageHeader::parse(bytes) else { return };
    for name in ["000000010000000000000001", "0000000100000000000000FF.partial"] {
        let name = name.parse().expect("it is the name of a segment");
        let _ = header.check(&name, 16 << 20);
        let _ = header.check(&name, bytes.len() as u64);
    }
}

/// What one WAL record says, as if its CRC was right.
pub fn wal_record(bytes: &[u8]) {
    let _ = RecordKind::of_made_up(bytes);
}

/// WAL records, in pieces of a size that the first byte chooses.
pub fn wal_records(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let start = WalPageHeader::parse(bytes).map_or(Lsn(0), |header| header.page_address);
    let mut reader = WalReader::new(start, SegmentSize::DEFAULT);
    let mut last = start;
    for piece in bytes.chunks(usize::from(*choice) * 97 + 1) {
        reader.feed(piece, &mut |record| {
            assert!(record.start >= last, "records go forward");
            last = record.start;
        });
    }
    let _ = reader.ended();
    // The same from a record on.
    let mut reader = WalReader::at_record(Lsn(start.0.saturating_add(40)), SegmentSize::DEFAULT);
    reader.feed(bytes, &mut |record| assert!(record.start >= start));
}

/// Pages of a WAL segment, of which the map is made in pieces of a size that the first byte
/// chooses. The next two say how often the last page is there again, as far as a segment has
/// room; all get the right place in the log.
pub fn segment_blocks(bytes: &[u8]) {
    const PAGE: usize = 8192;
    let Some((&[choice, low, high], bytes)) = bytes.split_first_chunk() else { return };
    let Some(header) = WalPageHeader::parse(bytes) else { return };
    let size = SegmentSize::SMALLEST;
    let segment = WalSegment::containing(TimelineId(u32::MAX), header.page_address, size);
    let start = segment.number.start_lsn(size);
    let mut pages: Vec<u8> = bytes
        .chunks(PAGE)
        .flat_map(|page| {
            let mut page = page.to_vec();
            page.resize(PAGE, 0);
            page
        })
        .collect();
    let last = pages[pages.len() - PAGE..].to_vec();
    for _ in 0..u16::from_le_bytes([low, high]) % 128 {
        pages.extend(&last);
    }
    for (page, number) in pages.chunks_mut(PAGE).zip(0..) {
        let address = start.0.saturating_add(number * PAGE as u64);
        page[8..16].copy_from_slice(&address.to_ne_bytes());
    }
    let map_of = |piece: usize| {
        let mut mapper = SegmentMapper::new(segment, size);
        let fed = pages.chunks(piece).try_for_each(|piece| mapper.feed(piece));
        fed.and_then(|()| mapper.finish())
    };
    let map = map_of(usize::from(choice) * 97 + 1);
    assert_eq!(map, map_of(pages.len()), "pieces make no difference");
    let Ok(map) = map else { return };
    assert_eq!(SegmentMap::parse("x", &map.to_bytes()).as_ref(), Ok(&map));
}

/// Maps of WAL segments, joined with themselves. Its checksum hides the rest of a map from bytes
/// that are made up, so the same is tried with the right one.
pub fn segment_map(bytes: &[u8]) {
    let _ = SegmentMap::parse("x", bytes);
    let crc = crc32c::crc32c(bytes).to_le_bytes();
    let bytes = [bytes, &crc].concat();
    let Ok(map) = SegmentMap::parse("x", &bytes) else { return };
    assert_eq!(map.to_bytes(), bytes, "there is one way only to write a map");
    let start = map.segment().number.start_lsn(map.segment_size());
    let mut run = MapRun::from(start);
    let _ = run.add(map.clone());
    let _ = run.add(map.following());
    let _ = run.finish(Lsn(start.0.saturating_add(map.segment_size().bytes())));
}

/// A timeline history file.
pub fn timeline_history(bytes: &[u8]) {
    let timeline = TimelineId(9);
    let Ok(history) = TimelineHistory::parse("00000009.history", timeline, bytes) else { return };
    for range in history.ranges() {
        assert!(range.timeline <= timeline);
        assert!(range.end.is_none_or(|end| range.begin <= end));
        let _ = history.timeline_at(range.begin);
    }
}

/// `backup_label`.
pub fn backup_label(bytes: &[u8]) {
    let _ = std::str::from_utf8(bytes).map(BackupLabel::parse);
}

/// `pg_control`. Its CRC hides the rest from bytes that are made up, so the same is
/// tried with the right one, after as many bytes as the first two say.
pub fn control_file(bytes: &[u8]) {
    let _ = ControlFile::parse(bytes);
    let Some((length, content)) = bytes.split_first_chunk::<2>() else { return };
    let mut file = content.to_vec();
    file.resize(usize::from(u16::from_le_bytes(*length)) % 1024, 0);
    file.extend(crc32c::crc32c(&file).to_ne_bytes());
    file.resize(8192, 0);
    let _ = ControlFile::parse(&file);
}

/// A WAL summary. Its frame and its CRC hide the rest from bytes that are made up, so the same
/// is tried inside of a right one.
pub fn wal_summary(bytes: &[u8]) {
    let parse = |file: &[u8]| {
        let mut forks = Vec::new();
        summary::read(Path::new("x"), file, |fork| forks.push(fork)).map(|()| forks)
    };
    for file in [bytes.to_vec(), summary::sample_of(bytes)] {
        let Ok(forks) = parse(&file) else { continue };
        assert_eq!(parse(&summary::sample(&forks)), Ok(forks));
    }
}

/// Every decoder; the first byte chooses one.
pub fn decompressor(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let encoding = Encoding::ALL[usize::from(*choice) % Encoding::ALL.len()];
    let Ok(decoder) = Decompressor::new(bytes, encoding) else { return };
    let _ = std::io::copy(&mut decoder.take(MOST_DECODED_BYTES), &mut std::io::sink());
}

/// A secret stream of libsodium, altered: the first bytes say where it is cut off, and what is
/// changed in which place. Nothing is read that was not written.
pub fn secret_stream(bytes: &[u8]) {
    let Some((&[length_low, length_high, at_low, at_high, change], content)) =
        bytes.split_first_chunk()
    else {
        return;
    };
    let key = Key::new([1; 32]);
    let content = content.repeat(8192 / content.len().max(1) + 1);
    let mut writer = SecretStreamWriter::new(Vec::new(), &key);
    writer.write_all(&content).expect("a vector takes everything");
    let stored = writer.finish().expect("a vector takes everything");
    let mut altered = stored.clone();
    altered.truncate(usize::from(u16::from_le_bytes([length_low, length_high])));
    let place = usize::from(u16::from_le_bytes([at_low, at_high]));
    if let Some(byte) = altered.get_mut(place) {
        *byte ^= change;
    }
    let mut read = Vec::new();
    let result = SecretStreamReader::new(&altered[..], &key).read_to_end(&mut read);
    assert_eq!(result.is_ok(), altered == stored);
    assert!(content.starts_with(&read));
    // As it is. A fuzzer sees the code that is computed when it is compared with that of the stream,
    // and can put it there, so that a stream of nothing may be right.
    let _ = SecretStreamReader::new(bytes, &key).read_to_end(&mut read);
}

/// A message of OpenPGP, as a key for it, and to a key that is known.
pub fn openpgp(bytes: &[u8]) {
    let _ = OpenPgpKey::parse(bytes, Some("x"));
    let keys = OpenPgpSecret::new(OPENPGP_KEY.to_vec().into(), None, "A test has it.");
    let keyring = Keyring::new(None, Vec::new(), Some(keys));
    let Ok(opened) = encryption::open(bytes, &keyring, |_| false) else { return };
    let _ = std::io::copy(&mut opened.take(MOST_DECODED_BYTES), &mut std::io::sink());
}

/// The changed pages of a file in a delta backup.
pub fn increment(bytes: &[u8]) {
    base_backup::increment(bytes);
}

/// A tar of a base backup, unpacked: it must write nowhere but into its target.
pub fn tar(bytes: &[u8]) {
    base_backup::tar(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_each_target_passes() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        for (name, target) in TARGETS {
            let folder = corpus.join(name);
            let files: Vec<_> = std::fs::read_dir(&folder)
                .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
                .map(|entry| entry.unwrap().path())
                .collect();
            assert!(!files.is_empty(), "{} is empty", folder.display());
            for file in files {
                target(&std::fs::read(file).unwrap());
            }
        }
        let targets = corpus.join("../fuzz_targets");
        for entry in std::fs::read_dir(targets).unwrap() {
            let target = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
            assert!(TARGETS.iter().any(|(name, _)| *name == target), "{target} is not in the list");
        }
    }
}
