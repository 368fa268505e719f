//! Repairs an executable that the tool which packed it has left unusable.
//!
//! The dynamic section of a program has to be writable: the loader puts an address
//! into it. In the wheel that the tests take PostgreSQL 18 from, `pg_verifybackup`
//! has it in a segment that is not, and ends with a segmentation fault before its
//! first line runs.

use std::fs;
use std::ops::Range;
use std::path::Path;

/// Kinds of program headers, and the flag that allows to write (elf.h).
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PF_W: u32 = 2;

const PAGE_BYTES: u64 = 4096;

/// Makes the segments writable that have the dynamic section of the executable at
/// `path`. One that is as it should be stays as it is.
pub fn make_dynamic_section_writable(path: &Path) {
    let mut bytes = fs::read(path).expect("a staged executable can be read");
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return;
    }
    let headers = program_headers(&bytes);
    let Some(dynamic) = headers.iter().find(|header| header.kind == PT_DYNAMIC) else { return };
    let in_the_way = headers.iter().filter(|header| {
        header.kind == PT_LOAD
            && header.flags & PF_W == 0
            && header.addresses.start / PAGE_BYTES * PAGE_BYTES < dynamic.addresses.end
            && dynamic.addresses.start < header.addresses.end.next_multiple_of(PAGE_BYTES)
    });
    let mut changed = false;
    for header in in_the_way {
        let flags = (header.flags | PF_W).to_le_bytes();
        bytes[header.flags_at..header.flags_at + 4].copy_from_slice(&flags);
        changed = true;
    }
    if changed {
        fs::write(path, bytes).expect("a staged executable can be written");
    }
}

struct ProgramHeader {
    kind: u32,
    flags: u32,
    flags_at: usize,
    addresses: Range<u64>,
}

fn program_headers(bytes: &[u8]) -> Vec<ProgramHeader> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let half = |at: usize| usize::from(bytes[at]) | usize::from(bytes[at + 1]) << 8;
    let first = usize::try_from(long(32)).expect("a file has fewer bytes than there are addresses");
    let (size, count) = (half(54), half(56));
    (0..count)
        .map(|index| first + index * size)
        .map(|at| ProgramHeader {
            kind: word(at),
            flags: word(at + 4),
            flags_at: at + 4,
            addresses: long(at + 16)..long(at + 16) + long(at + 40),
        })
        .collect()
}
