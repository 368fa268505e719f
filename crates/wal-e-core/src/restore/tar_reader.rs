//! The members of a tar, in bounded memory.
//!
//! Reads what WAL-G (Go's `archive/tar`), WAL-E (Python's `tarfile`) and this
//! program write: USTAR, PAX and GNU headers. Nothing is believed that a header
//! says of a size before the bytes have come, and what extends a header is read
//! only up to a limit.
//!
//! Format: POSIX.1-2017, `pax`, "ustar Interchange Format" and "pax Header
//! Block"; GNU tar's manual, "Basic Tar Format".

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};

const BLOCK: usize = 512;

/// The longest name or set of records that may come before a header.
const LARGEST_EXTENSION_BYTES: u64 = 1024 * 1024;

/// How many of them may come before one header.
const MOST_EXTENSIONS: u32 = 8;

/// How many zeros may follow a tar: writers fill it up to the size of a record,
/// 10240 bytes if not told otherwise.
const MOST_PADDING_BYTES: u64 = 1024 * 1024;

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MemberKind {
    /// A regular file; its content follows.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, and where it leads.
    SymbolicLink(PathBuf),
    /// A named pipe: has no content, and PostgreSQL needs none.
    Fifo,
    /// Something that no cluster has, in words.
    Unsupported(&'static str),
}

/// One member of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name as it stands there.
    pub(crate) name: PathBuf,
    /// What it is.
    pub(crate) kind: MemberKind,
    /// Size of its content in bytes; 0 for all but files.
    pub(crate) size: u64,
    /// Its mode, with all bits.
    pub(crate) mode: u32,
}

/// A tar that is being read. Reading from it gives the content of the member
/// that [`TarReader::next_member`] told last.
#[derive(Debug)]
pub(crate) struct TarReader<R> {
    inner: R,
    /// Of the current member's content.
    left: u64,
    /// After the current member's content, up to a whole block.
    padding: u64,
    ended: bool,
}

/// What comes before a header and changes its meaning.
#[derive(Debug, Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl<R: Read> TarReader<R> {
    /// Reads the tar in `inner`.
    pub(crate) fn new(inner: R) -> Self {
        TarReader { inner, left: 0, padding: 0, ended: false }
    }

    /// Goes on to the next member, past what was not read of the one before.
    /// `None` is the end: a block of zeros, or the end of the stream where a
    /// header could begin, as not every writer ends a tar.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for a damaged or truncated tar; those of the
    /// stream below as they are.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>> {
        self.skip_content()?;
        let mut extensions = Extensions::default();
        for _ in 0..=MOST_EXTENSIONS {
            let Some(header) = self.header()? else {
                return match extensions.is_empty() {
                    true => Ok(None),
                    false => Err(damaged("it ends after the extension of a header")),
                };
            };
            match header.kind() {
                b'L' => extensions.name = Some(c_string(&self.extension(&header)?)),
                b'K' => extensions.link = Some(c_string(&self.extension(&header)?)),
                b'x' => {
                    let records = self.extension(&header)?;
                    extensions.add_records(&records)?;
                }
                b'g' => {
                    let mut global = Extensions::default();
                    let records = self.extension(&header)?;
                    global.add_records(&records)?;
                    if !global.is_empty() {
                        return Err(damaged("a global header names or sizes its members"));
                    }
                }
                _ => return self.member(&header, extensions).map(Some),
            }
        }
        Err(damaged("too many extensions of one header"))
    }

    /// After the last member: reads the stream to its end, where checksums are.
    /// Nothing but zeros may come, and not too many.
    pub(crate) fn finish(mut self) -> Result<()> {
        let mut zeros = 0;
        let mut buffer = [0; 16 * BLOCK];
        loop {
            let length = read_some(&mut self.inner, &mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            if buffer[..length].iter().any(|byte| *byte != 0) {
                return Err(damaged("something follows its end"));
            }
            zeros += length as u64;
            if zeros > MOST_PADDING_BYTES {
                return Err(damaged("too many zeros follow its end"));
            }
        }
    }

    /// The next header; `None` at the end of the tar.
    fn header(&mut self) -> Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        match read_full(&mut self.inner, &mut block)? {
            0 => self.ended = true,
            BLOCK if block.iter().all(|byte| *byte == 0) => self.ended = true,
            BLOCK => return Header::new(block).map(Some),
            _ => return Err(damaged("it is truncated in a header")),
        }
        Ok(None)
    }

    /// The content of an extension.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header.size()?;
        if size > LARGEST_EXTENSION_BYTES {
            return Err(damaged("the extension of a header is too large"));
        }
        self.begin_content(size);
        let mut content = Vec::new();
        (&mut *self).take(size).read_to_end(&mut content).map_err(Error::from_tar)?;
        self.skip_content()?;
        Ok(content)
    }

    fn member(&mut self, header: &Header, extensions: Extensions) -> Result<Member> {
        let name = extensions.name.unwrap_or_else(|| header.name());
        if name.is_empty() || name.contains(&0) {
            return Err(damaged("a member has no sound name"));
        }
        let has_slash = name.ends_with(b"/");
        let name = PathBuf::from(OsStr::from_bytes(&name));
        let kind = match header.kind() {
            _ if extensions.sparse => MemberKind::Unsupported("a sparse file"),
            // Before there was a type for directories, they ended with a slash.
            0 if has_slash => MemberKind::Directory,
            b'0' | 0 | b'7' => MemberKind::File,
            b'5' => MemberKind::Directory,
            b'2' => {
                let link = extensions.link.unwrap_or_else(|| header.link());
                MemberKind::SymbolicLink(PathBuf::from(OsStr::from_bytes(&link)))
            }
            b'1' => MemberKind::Unsupported("a hard link"),
            b'3' => MemberKind::Unsupported("a character device"),
            b'4' => MemberKind::Unsupported("a block device"),
            b'6' => MemberKind::Fifo,
            b'S' => MemberKind::Unsupported("a sparse file"),
            _ => MemberKind::Unsupported("of an unknown type"),
        };
        // What the others say of a size is not followed by bytes.
        let size = match kind {
            MemberKind::File => match extensions.size {
                Some(size) => size,
                None => header.size()?,
            },
            _ => 0,
        };
        self.begin_content(size);
        Ok(Member { name, kind, size, mode: header.mode()? })
    }

    fn begin_content(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_content(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * BLOCK];
        while self.left > 0 {
            if self.read(&mut buffer).map_err(Error::from_tar)? == 0 {
                return Err(truncated());
            }
        }
        while self.padding > 0 {
            let wanted = usize::try_from(self.padding).unwrap_or(BLOCK).min(BLOCK);
            match read_full(&mut self.inner, &mut buffer[..wanted])? {
                length if length == wanted => self.padding -= wanted as u64,
                // The content is whole. A writer that does not end its tar may
                // not fill up the last block either.
                _ => {
                    self.padding = 0;
                    self.ended = true;
                }
            }
        }
        Ok(())
    }
}

/// Reads the current member's content. Its early end is an error.
impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let length = self.inner.read(&mut buffer[..wanted])?;
        if length == 0 {
            return Err(truncated().into());
        }
        self.left = self.left.saturating_sub(length as u64);
        Ok(length)
    }
}

impl Error {
    /// The core error inside, or else damage: what a decoder complains of is the
    /// form of the object.
    pub(crate) fn from_tar(source: io::Error) -> Error {
        let error = Error::from_io("the tar is damaged", source);
        match error.kind() {
            ErrorKind::Io => Error::new(ErrorKind::Corrupt, error.message()),
            _ => error,
        }
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the tar is damaged: {what}"))
}

fn truncated() -> Error {
    damaged("it is truncated in a member's content")
}

fn read_some(inner: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match inner.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(Error::from_tar),
        }
    }
}

/// Fills the buffer, as far as the stream goes.
fn read_full(inner: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match read_some(inner, &mut buffer[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

/// What a field holds before its first NUL.
fn c_string(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// A header block whose checksum is right.
struct Header([u8; BLOCK]);

impl Header {
    fn new(block: [u8; BLOCK]) -> Result<Self> {
        let header = Header(block);
        let stored = octal(header.field(148, 8));
        let in_place =
            |index: usize, byte: u8| if (148..156).contains(&index) { b' ' } else { byte };
        let bytes = || header.0.iter().enumerate().map(|(index, byte)| in_place(index, *byte));
        let unsigned: u64 = bytes().map(u64::from).sum();
        // Some old writers took bytes for signed numbers.
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        match stored {
            Some(sum) if sum == unsigned || i64::try_from(sum) == Ok(signed) => Ok(header),
            _ => Err(damaged("the checksum of a header is wrong")),
        }
    }

    fn field(&self, start: usize, length: usize) -> &[u8] {
        &self.0[start..start + length]
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn name(&self) -> Vec<u8> {
        let name = c_string(self.field(0, 100));
        let prefix = c_string(self.field(345, 155));
        // Only POSIX has a prefix; GNU keeps other things in its place.
        if self.field(257, 6) != b"ustar\0" || prefix.is_empty() {
            return name;
        }
        [prefix, b"/".to_vec(), name].concat()
    }

    fn link(&self) -> Vec<u8> {
        c_string(self.field(157, 100))
    }

    fn mode(&self) -> Result<u32> {
        let mode = number(self.field(100, 8)).and_then(|mode| u32::try_from(mode).ok());
        mode.ok_or_else(|| damaged("the mode of a member is no number"))
    }

    fn size(&self) -> Result<u64> {
        let size = number(self.field(124, 12)).filter(|size| i64::try_from(*size).is_ok());
        size.ok_or_else(|| damaged("the size of a member is no number that a file can have"))
    }
}

/// A number in octal digits, with blanks around, or in GNU's binary form.
/// `None` for a negative one, too.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    // The highest bit marks the form; the next one is the sign.
    if first & 0x40 != 0 {
        return None;
    }
    rest.iter().try_fold(u64::from(first & 0x3f), |value, byte| {
        value.checked_mul(256)?.checked_add(u64::from(*byte))
    })
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value.checked_mul(8)?.checked_add(u64::from(digit))
    })
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.size.is_none() && !self.sparse
    }

    /// PAX records: `LENGTH KEY=VALUE\n`, where the length counts all of it.
    fn add_records(&mut self, mut records: &[u8]) -> Result<()> {
        while !records.is_empty() {
            let (record, rest) = split_record(records)
                .ok_or_else(|| damaged("an extension of a header is malformed"))?;
            let (key, value) = record;
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    let size = size.filter(|size: &u64| i64::try_from(*size).is_ok());
                    self.size = Some(size.ok_or_else(|| {
                        damaged("the size of a member is no number that a file can have")
                    })?);
                }
                _ => self.sparse |= key.starts_with(b"GNU.sparse."),
            }
            records = rest;
        }
        Ok(())
    }
}

/// The first record as key and value, and the records after it.
#[expect(clippy::type_complexity, reason = "three slices of one")]
fn split_record(records: &[u8]) -> Option<((&[u8], &[u8]), &[u8])> {
    let blank = records.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..blank]).ok()?.parse().ok()?;
    if length > records.len() {
        return None;
    }
    let record = records.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some(((&record[..equals], &record[equals + 1..]), &records[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, kind: u8, size: u64) -> [u8; BLOCK] {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkflag = [kind];
        header.set_mode(0o4640);
        header.set_size(size);
        header.set_cksum();
        *header.as_bytes()
    }

    fn padded(content: &[u8]) -> Vec<u8> {
        let mut blocks = content.to_vec();
        blocks.resize(content.len().next_multiple_of(BLOCK), 0);
        blocks
    }

    fn member(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        [header(name, kind, content.len() as u64).to_vec(), padded(content)].concat()
    }

    fn record(key: &str, value: &str) -> String {
        let rest = key.len() + value.len() + 3;
        let length = (1..).find(|length| length.to_string().len() + rest == *length).unwrap();
        format!("{length} {key}={value}\n")
    }

    fn read_all(tar: &[u8]) -> Result<Vec<(Member, Vec<u8>)>> {
        let mut reader = TarReader::new(tar);
        let mut members = Vec::new();
        while let Some(member) = reader.next_member()? {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).map_err(Error::from_tar)?;
            members.push((member, content));
        }
        reader.finish()?;
        Ok(members)
    }

    fn names(tar: &[u8]) -> Vec<String> {
        let members = read_all(tar).unwrap();
        members.into_iter().map(|(member, _)| member.name.display().to_string()).collect()
    }

    #[test]
    fn members_come_with_their_content() {
        let tar = [
            member("/", b'5', b""),
            member("base/1/2", b'0', b"content"),
            member("old", 0, b"x"),
            member("dir/", 0, b""),
            member("link", b'2', b""),
            vec![0; 2 * BLOCK],
        ]
        .concat();
        let members = read_all(&tar).unwrap();
        assert_eq!(members[1].1, b"content");
        assert_eq!((members[1].0.size, members[1].0.mode), (7, 0o4640));
        let kinds: Vec<_> = members.into_iter().map(|(member, _)| member.kind).collect();
        let link = MemberKind::SymbolicLink(PathBuf::new());
        let (file, directory) = (MemberKind::File, MemberKind::Directory);
        assert_eq!(kinds, [directory.clone(), file.clone(), file, directory, link]);
    }

    #[test]
    fn the_end_may_be_missing_and_is_not_taken_for_a_cut() {
        let whole = [member("a", b'0', &[7; 600]), member("b", b'0', b"b")].concat();
        assert_eq!(names(&whole), ["a", "b"]);
        // The last block of the last member need not be full.
        assert_eq!(names(&whole[..whole.len() - 511]), ["a", "b"]);
        for zeros in [1, 2, 20] {
            assert_eq!(names(&[whole.clone(), vec![0; zeros * BLOCK]].concat()), ["a", "b"]);
        }
        let boundary = BLOCK + 1024;
        for length in 1..whole.len() - 511 {
            let complete = length == boundary || (BLOCK + 600..boundary).contains(&length);
            assert_eq!(read_all(&whole[..length]).is_ok(), complete, "cut at {length}");
        }
    }

    #[test]
    fn what_follows_the_end_is_refused() {
        let end = vec![0; BLOCK];
        let after = [member("a", b'0', b""), end.clone(), member("b", b'0', b"")].concat();
        assert!(read_all(&after).unwrap_err().message().contains("something follows"));
        let zeros = io::repeat(0).take(10 << 30);
        let mut reader = TarReader::new(zeros);
        assert_eq!(reader.next_member().unwrap(), None);
        assert!(reader.finish().unwrap_err().message().contains("too many zeros"));
    }

    #[test]
    fn long_names_and_large_sizes_are_read_in_both_dialects() {
        let long = format!("/base/{}", "d".repeat(300));
        let gnu = [
            member("././@LongLink", b'L', format!("{long}\0").as_bytes()),
            member("cut", b'0', b"1"),
            member("next", b'0', b"2"),
        ];
        assert_eq!(names(&gnu.concat()), [long.as_str(), "next"]);
        let records = [record("mtime", "1.5"), record("path", &long), record("size", "3")].concat();
        let mut content = header("cut", b'0', 0).to_vec();
        content.extend(padded(b"abc"));
        let pax = [
            member("PaxHeaders/cut", b'x', records.as_bytes()),
            content,
            member("next", b'0', b"2"),
        ];
        let members = read_all(&pax.concat()).unwrap();
        assert_eq!((members[0].0.size, members[0].1.as_slice()), (3, b"abc".as_slice()));
        assert_eq!(names(&pax.concat()), [long.as_str(), "next"]);
        let mut ustar = tar::Header::new_ustar();
        ustar.set_path(format!("{}/{}", "p".repeat(120), "n".repeat(80))).unwrap();
        ustar.set_size(0);
        ustar.set_mode(0);
        ustar.set_cksum();
        assert_eq!(names(ustar.as_bytes())[0].len(), 201);
        let mut comment = member("g", b'g', record("comment", "x").as_bytes());
        comment.extend(member("a", b'0', b""));
        assert_eq!(names(&comment), ["a"]);
    }

    #[test]
    fn what_no_cluster_has_is_told_by_its_kind() {
        let sparse = record("GNU.sparse.major", "1");
        for (tar, kind) in [
            (member("x", b'1', b""), "a hard link"),
            (member("x", b'3', b""), "a character device"),
            (member("x", b'4', b""), "a block device"),
            (member("x", b'S', b""), "a sparse file"),
            (member("x", b'D', b""), "of an unknown type"),
            (
                [member("p", b'x', sparse.as_bytes()), member("x", b'0', b"")].concat(),
                "a sparse file",
            ),
        ] {
            assert_eq!(read_all(&tar).unwrap()[0].0.kind, MemberKind::Unsupported(kind));
        }
        assert_eq!(read_all(&member("x", b'6', b"")).unwrap()[0].0.kind, MemberKind::Fifo);
    }

    #[test]
    fn sizes_that_lie_and_headers_that_are_damaged_are_refused() {
        let with_size = |size: &[u8; 12]| {
            let mut header = tar::Header::from_byte_slice(&header("x", b'0', 0)).clone();
            header.as_old_mut().size = *size;
            header.set_cksum();
            header.as_bytes().to_vec()
        };
        for size in [
            [0xff; 12],
            *b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
            *b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            *b"-0000000001\0",
            *b"00000000009\0",
            *b"77777777777\0",
        ] {
            assert_eq!(read_all(&with_size(&size)).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let mut damaged = member("x", b'0', b"");
        damaged[0] ^= 1;
        assert!(read_all(&damaged).unwrap_err().message().contains("checksum"));
        for record in [
            "5 a=b\n",
            "99 a=b\n",
            "x a=b\n",
            "6 a=b",
            "6 aab\n",
            "0 ",
            "18446744073709551616 a=b\n",
        ] {
            let tar = [member("p", b'x', record.as_bytes()), member("x", b'0', b"")].concat();
            assert_eq!(read_all(&tar).unwrap_err().kind(), ErrorKind::Corrupt, "{record:?}");
        }
        for bad in
            [record("size", "-1"), record("size", "99999999999999999999"), record("path", "")]
        {
            let tar = [member("p", b'x', bad.as_bytes()), member("x", b'0', b"")].concat();
            assert_eq!(read_all(&tar).unwrap_err().kind(), ErrorKind::Corrupt, "{bad:?}");
        }
        let global = member("g", b'g', record("path", "x").as_bytes());
        assert!(read_all(&[global, member("x", b'0', b"")].concat()).is_err());
    }

    /// Ten gigabytes of a header's extension are refused at once, and a tar of
    /// nothing but extensions ends, too.
    #[test]
    fn extensions_are_bounded() {
        for kind in [b'L', b'K', b'x', b'g'] {
            let header = header("x", kind, 7 << 30);
            let large = header.chain(io::repeat(b'x').take(10 << 30));
            let mut reader = TarReader::new(large);
            assert!(reader.next_member().unwrap_err().message().contains("too large"));
        }
        let many = member("x", b'L', b"name").repeat(20);
        assert!(read_all(&many).unwrap_err().message().contains("too many extensions"));
        assert!(read_all(&member("x", b'L', b"name")).is_err(), "nothing follows it");
    }
}
