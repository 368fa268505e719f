//! What has to be known of a certificate that is trusted as it is, of any version.

use rustls::CertificateError;
use rustls::pki_types::{ServerName, UnixTime};
use time::{Date, Month, PrimitiveDateTime, Time};

/// The parts of a certificate. RFC 5280 has the whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Certificate<'a> {
    /// SubjectPublicKeyInfo, whole.
    pub(super) key_info: &'a [u8],
    /// What is inside of its AlgorithmIdentifier.
    pub(super) key_algorithm: &'a [u8],
    /// The bits of the key.
    pub(super) key: &'a [u8],
    /// Whether it has the extension with the names that it is for.
    pub(super) has_names: bool,
    common_names: Vec<&'a str>,
    /// Seconds since 1970.
    not_before: i64,
    not_after: i64,
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xA0;
const EXTENSIONS: u8 = 0xA3;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1D, 0x11];

impl<'a> Certificate<'a> {
    /// `None` for what is not a certificate.
    pub(super) fn parse(der: &'a [u8]) -> Option<Certificate<'a>> {
        let mut certificate = Der(Der(der).expect(SEQUENCE)?);
        let mut body = Der(certificate.expect(SEQUENCE)?);
        body.optional(VERSION);
        body.expect(INTEGER)?;
        let _signature_algorithm = body.expect(SEQUENCE)?;
        let _issuer = body.expect(SEQUENCE)?;
        let mut validity = Der(body.expect(SEQUENCE)?);
        let (not_before, not_after) = (validity.moment()?, validity.moment()?);
        let common_names = common_names(body.expect(SEQUENCE)?)?;
        let (tag, key_info, inside) = body.next()?;
        let mut inside = Der((tag == SEQUENCE).then_some(inside)?);
        let key_algorithm = inside.expect(SEQUENCE)?;
        // The first byte says how many bits at the end do not count: none, in a key.
        let key = inside.expect(BIT_STRING)?.strip_prefix(&[0])?;
        let mut has_names = false;
        while let Some((tag, _, inside)) = body.next() {
            if tag == EXTENSIONS {
                has_names = has_extension(inside, SUBJECT_ALT_NAME)?;
            }
        }
        Some(Certificate {
            key_info,
            key_algorithm,
            key,
            has_names,
            common_names,
            not_before,
            not_after,
        })
    }

    /// Whether `now` is within the time that it is for.
    pub(super) fn is_valid_at(&self, now: UnixTime) -> Result<(), CertificateError> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < self.not_before {
            return Err(CertificateError::NotValidYet);
        }
        if now > self.not_after {
            return Err(CertificateError::Expired);
        }
        Ok(())
    }

    /// Whether it is for `name`, by the name of its subject.
    pub(super) fn has_common_name(&self, name: &ServerName<'_>) -> Result<(), CertificateError> {
        let name = name.to_str();
        let names = |own: &&str| match own.strip_prefix("*.") {
            Some(domain) => {
                name.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain))
            }
            None => own.eq_ignore_ascii_case(&name),
        };
        match self.common_names.iter().any(names) {
            true => Ok(()),
            false => Err(CertificateError::NotValidForName),
        }
    }
}

/// Elements of DER, one after another.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Tag, the whole element, and what is inside of it.
    fn next(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            // In one to three bytes.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (inside, after) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some((tag, whole, inside))
    }

    /// What is inside of the next element, which has this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, _, inside) = self.next()?;
        (found == tag).then_some(inside)
    }

    fn optional(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }

    fn moment(&mut self) -> Option<i64> {
        let (tag, _, text) = self.next()?;
        let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
        let (year, rest) = match tag {
            UTC_TIME => {
                let year: i32 = digits.get(..2)?.parse().ok()?;
                (if year < 50 { 2000 + year } else { 1900 + year }, digits.get(2..)?)
            }
            GENERALIZED_TIME => (digits.get(..4)?.parse().ok()?, digits.get(4..)?),
            _ => return None,
        };
        let pair = |at: usize| rest.get(at..at + 2)?.parse::<u8>().ok();
        let month = Month::try_from(pair(0)?).ok()?;
        let date = Date::from_calendar_date(year, month, pair(2)?).ok()?;
        let time = Time::from_hms(pair(4)?, pair(6)?, pair(8)?).ok()?;
        Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
    }
}

/// The common names in a distinguished name.
fn common_names(name: &[u8]) -> Option<Vec<&str>> {
    let (mut sets, mut found) = (Der(name), Vec::new());
    while let Some((tag, _, inside)) = sets.next() {
        let mut attributes = Der((tag == SET).then_some(inside)?);
        while let Some((_, _, attribute)) = attributes.next() {
            let mut attribute = Der(attribute);
            let is_common_name = attribute.expect(OBJECT_IDENTIFIER)? == COMMON_NAME;
            let (_, _, value) = attribute.next()?;
            if is_common_name && let Ok(value) = std::str::from_utf8(value) {
                found.push(value);
            }
        }
    }
    Some(found)
}

fn has_extension(extensions: &[u8], identifier: &[u8]) -> Option<bool> {
    let mut extensions = Der(Der(extensions).expect(SEQUENCE)?);
    while let Some((_, _, extension)) = extensions.next() {
        if Der(extension).expect(OBJECT_IDENTIFIER)? == identifier {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests;
