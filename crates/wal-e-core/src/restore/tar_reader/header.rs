//! The header of a tar member, and the extensions before it.

use super::{BLOCK, damaged};
use crate::error::Result;

/// What comes before a header and changes its meaning.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) name: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) sparse: bool,
}

impl Extensions {
    pub(super) fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.size.is_none() && !self.sparse
    }

    /// PAX records: `LENGTH KEY=VALUE\n`, where the length counts all of it.
    pub(super) fn add_records(&mut self, mut records: &[u8]) -> Result<()> {
        while !records.is_empty() {
            let (record, rest) =
                split_record(records).ok_or_else(|| damaged("a header extension is malformed"))?;
            let (key, value) = record;
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    let size = size.filter(|size: &u64| i64::try_from(*size).is_ok());
                    self.size =
                        Some(size.ok_or_else(|| {
                            damaged("the size of a member is not a valid file size")
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

/// What a field holds before its first NUL.
pub(super) fn c_string(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// A header block whose checksum is right.
pub(super) struct Header([u8; BLOCK]);

impl Header {
    pub(super) fn new(block: [u8; BLOCK]) -> Result<Self> {
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

    pub(super) fn kind(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let name = c_string(self.field(0, 100));
        let prefix = c_string(self.field(345, 155));
        // Only POSIX has a prefix; GNU keeps other things in its place.
        if self.field(257, 6) != b"ustar\0" || prefix.is_empty() {
            return name;
        }
        [prefix, b"/".to_vec(), name].concat()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        c_string(self.field(157, 100))
    }

    pub(super) fn mode(&self) -> Result<u32> {
        let mode = number(self.field(100, 8)).and_then(|mode| u32::try_from(mode).ok());
        mode.ok_or_else(|| damaged("the mode of a member is not a number"))
    }

    pub(super) fn size(&self) -> Result<u64> {
        let size = number(self.field(124, 12)).filter(|size| i64::try_from(*size).is_ok());
        size.ok_or_else(|| damaged("the size of a member is not a valid file size"))
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
