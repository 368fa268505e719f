//! Makes executables run where they were copied to.

use std::fs;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::copy_file;

/// Kinds of program headers, and the flag that allows to write (elf.h).
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PF_W: u32 = 2;

const PAGE_BYTES: u64 = 4096;

/// Makes the segments writable that have the dynamic section of the executable at
/// `path`. One that is as it should be stays as it is.
///
/// The loader puts an address into that section. In the wheel that the tests take two
/// installations from, `pg_verifybackup` has it in a segment that is not writable, and ends
/// with a segmentation fault before its first line runs.
pub fn make_dynamic_section_writable(path: &Path) {
    let Some(mut bytes) = executable(path) else { return };
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
        replace(path, bytes);
    }
}

/// Has the executable at `path` started by the copy of its loader in the directory `copied`,
/// if its own is in `original`. The kernel takes no path that is relative to the executable.
///
/// # Panics
///
/// When the path of the copy is longer than the room for it, which `scripts/fetch-postgresql`
/// makes.
pub fn use_copied_loader(path: &Path, original: &Path, copied: &Path) {
    let Some(mut bytes) = executable(path) else { return };
    let headers = program_headers(&bytes);
    let Some(room) = headers.into_iter().find(|header| header.kind == PT_INTERP) else { return };
    let room = &mut bytes[room.content];
    let end = room.iter().position(|byte| *byte == 0).expect("the path of a loader ends");
    let loader = Path::new(std::ffi::OsStr::from_bytes(&room[..end]));
    let Ok(name) = loader.strip_prefix(original) else { return };
    let loader = copied.join(name);
    let loader = loader.as_os_str().as_bytes();
    assert!(loader.len() < room.len(), "{} has no room for {copied:?}", path.display());
    room.fill(0);
    room[..loader.len()].copy_from_slice(loader);
    replace(path, bytes);
}

/// Gives the executable at `path` another content, without being open for writing in this
/// process ([`copy_file`]).
fn replace(path: &Path, bytes: Vec<u8>) {
    let beside = path.with_extension("changed");
    fs::write(&beside, bytes).expect("a file can be written beside a staged executable");
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755))
        .expect("a file just made can be given a mode");
    copy_file(&beside, path);
    fs::remove_file(&beside).expect("a file just made can be removed");
}

/// What is in the file at `path`, if it is an executable of 64 bits.
fn executable(path: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(path).expect("a staged executable can be read");
    bytes.starts_with(b"\x7fELF\x02\x01").then_some(bytes)
}

struct ProgramHeader {
    kind: u32,
    flags: u32,
    flags_at: usize,
    /// Where it is in the file.
    content: Range<usize>,
    addresses: Range<u64>,
}

fn program_headers(bytes: &[u8]) -> Vec<ProgramHeader> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let half = |at: usize| usize::from(bytes[at]) | usize::from(bytes[at + 1]) << 8;
    let place = |at: usize| {
        usize::try_from(long(at)).expect("a file has fewer bytes than there are addresses")
    };
    let first = place(32);
    let (size, count) = (half(54), half(56));
    (0..count)
        .map(|index| first + index * size)
        .map(|at| ProgramHeader {
            kind: word(at),
            flags: word(at + 4),
            flags_at: at + 4,
            content: place(at + 8)..place(at + 8) + place(at + 32),
            addresses: long(at + 16)..long(at + 16) + long(at + 40),
        })
        .collect()
}
