//! Records that change blocks, as a server would write them.

use super::WalWriter;
use crate::postgres::{Lsn, RelationId};

/// The data of a record, with its headers.
#[derive(Debug, Clone)]
pub struct Made {
    pub rmgr: u8,
    pub info: u8,
    pub data: Vec<u8>,
}

/// A block that a record changes.
#[derive(Debug, Clone)]
pub struct Reference {
    pub relation: RelationId,
    pub fork: u8,
    pub block: u32,
    pub image: Image,
    pub data: u16,
}

/// Its image in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    None,
    Whole,
    /// So many bytes, beside the hole.
    WithHole(u16),
    /// So many bytes, and the bit of the method.
    Compressed(u16, u8),
    /// The same, without a hole.
    CompressedWhole(u16, u8),
}

impl Reference {
    /// To a block of a main fork.
    pub fn to(relation: RelationId, block: u32) -> Self {
        Reference { relation, fork: 0, block, image: Image::None, data: 0 }
    }
}

/// A relation of the default tablespace.
pub fn relation(number: u32) -> RelationId {
    RelationId { tablespace: 1663, database: 5, number }
}

/// A record that changes blocks.
pub fn changing(rmgr: u8, references: &[Reference], main: usize) -> Made {
    let (mut headers, mut bytes) = (Vec::new(), 0);
    let mut before = None;
    for (id, reference) in (0..).zip(references) {
        let same = before == Some(reference.relation);
        let mut flags = reference.fork;
        flags |= if reference.image == Image::None { 0 } else { 0x10 };
        flags |= if reference.data == 0 { 0 } else { 0x20 };
        flags |= if same { 0x80 } else { 0 };
        headers.extend([id, flags]);
        headers.extend(reference.data.to_ne_bytes());
        bytes += usize::from(reference.data);
        let image = match reference.image {
            Image::None => None,
            Image::Whole => Some((8192, 0, 0x02, false)),
            Image::WithHole(length) => Some((length, 100_u16, 0x03, false)),
            Image::Compressed(length, method) => Some((length, 100, 0x03 | method, true)),
            Image::CompressedWhole(length, method) => Some((length, 0, 0x02 | method, false)),
        };
        if let Some((length, hole, info, has_hole_length)) = image {
            headers.extend(length.to_ne_bytes());
            headers.extend(hole.to_ne_bytes());
            headers.push(info);
            if has_hole_length {
                headers.extend(77_u16.to_ne_bytes());
            }
            bytes += usize::from(length);
        }
        if !same {
            headers.extend(numbers(reference.relation));
        }
        headers.extend(reference.block.to_ne_bytes());
        before = Some(reference.relation);
    }
    headers.extend(main_header(main));
    let payload = (0..bytes + main).map(|n| ((n * 31) >> 2) as u8);
    Made { rmgr, info: 0, data: headers.into_iter().chain(payload).collect() }
}

/// The end of a transaction that drops relations.
pub fn dropping(operation: u8, subtransactions: u32, relations: &[RelationId]) -> Made {
    let parts: u32 = 1 | 2 | if relations.is_empty() { 0 } else { 4 };
    let mut data = 1_u64.to_ne_bytes().to_vec();
    data.extend(parts.to_ne_bytes());
    data.extend([5_u32, 1663].map(u32::to_ne_bytes).concat());
    data.extend(subtransactions.to_ne_bytes());
    data.extend((0..subtransactions).flat_map(u32::to_ne_bytes));
    if !relations.is_empty() {
        data.extend((relations.len() as u32).to_ne_bytes());
        data.extend(relations.iter().flat_map(|relation| numbers(*relation)));
    }
    let special = u8::from(!relations.is_empty());
    of_main_data(1, operation | 0x80 | special, data)
}

pub fn creating(relation: RelationId, fork: u32) -> Made {
    of_main_data(2, 0x11, [numbers(relation), fork.to_ne_bytes().to_vec()].concat())
}

pub fn truncating(relation: RelationId, blocks: u32, flags: u32) -> Made {
    let [blocks, flags] = [blocks, flags].map(|number| number.to_ne_bytes().to_vec());
    of_main_data(2, 0x21, [blocks, numbers(relation), flags].concat())
}

/// A database is copied; by `info`, file by file or block by block.
pub fn copying_database(info: u8, tablespace: u32, database: u32) -> Made {
    let data = [database, tablespace, 1, 1663].map(u32::to_ne_bytes).concat();
    of_main_data(4, info | 1, data)
}

pub fn dropping_database(tablespaces: &[u32], database: u32) -> Made {
    let head = [database, tablespaces.len() as u32];
    let data = head.iter().chain(tablespaces).flat_map(|number| number.to_ne_bytes());
    of_main_data(4, 0x21, data.collect())
}

/// A record that changes nothing.
pub fn message(bytes: usize) -> Made {
    of_main_data(21, 0, (0..bytes).map(|n| ((n * 7) >> 3) as u8).collect())
}

pub fn of_main_data(rmgr: u8, info: u8, main: Vec<u8>) -> Made {
    Made { rmgr, info, data: [main_header(main.len()), main].concat() }
}

fn main_header(bytes: usize) -> Vec<u8> {
    match u8::try_from(bytes) {
        Ok(0) => Vec::new(),
        Ok(length) => vec![255, length],
        Err(_) => [vec![254], (bytes as u32).to_ne_bytes().to_vec()].concat(),
    }
}

fn numbers(relation: RelationId) -> Vec<u8> {
    let numbers = [relation.tablespace, relation.database, relation.number];
    numbers.map(u32::to_ne_bytes).concat()
}

impl WalWriter {
    pub fn write(&mut self, made: &Made) -> Lsn {
        self.record(made.rmgr, made.info, 7, &made.data)
    }

    /// Fills a segment with records that change nothing, but for so many bytes at its end: this
    /// one, or the next when there is no room.
    pub fn fill_but(&mut self, bytes: usize) {
        assert!(bytes.is_multiple_of(8));
        if self.room() < bytes + 1000 {
            self.write(&message(bytes + 8192));
        }
        // Headers of the record and of its data. Records begin at multiples of 8.
        let filled = self.room() / 8 * 8 - bytes - 24 - 5;
        self.write(&message(filled));
        assert!(bytes == 0 || self.room() == bytes, "{} left", self.room());
    }
}
