//! What the content of an archived WAL file must be before it may be used.

use xxhash_rust::xxh3::Xxh3;

use super::open::{RESTORE_IT, damaged};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{SegmentSize, SystemIdentifier, WalFileKind, WalFileName, WalPageHeader};

/// The content of a WAL file as it passes by.
pub(crate) struct Content {
    start: Vec<u8>,
    bytes: u64,
    checksum: Xxh3,
}

impl Content {
    pub(crate) fn new() -> Self {
        Content { start: Vec::new(), bytes: 0, checksum: Xxh3::new() }
    }

    /// The content that is all of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut content = Content::new();
        content.update(bytes);
        content
    }

    /// Takes in what comes next.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        let missing = WalPageHeader::LENGTH.saturating_sub(self.start.len());
        self.start.extend(bytes.iter().take(missing));
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.checksum.update(bytes);
    }

    /// How many bytes have passed.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// XXH3 of all that has passed, 128 bits.
    pub(crate) fn digest(&self) -> u128 {
        self.checksum.digest128()
    }

    /// Whether more has passed than any WAL file has.
    pub(crate) fn is_too_large(&self) -> bool {
        self.bytes > SegmentSize::LARGEST.bytes()
    }

    /// Checks the content once all of it has passed: that it has the checksum that
    /// was kept with it, and, for segments and partial segments, that its page
    /// header is the one of that segment of that cluster. `url` names the object
    /// in errors.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it is not the file of that name,
    /// [`ErrorKind::Conflict`] when it is another cluster's.
    pub(crate) fn check(
        &self,
        name: &WalFileName,
        system_identifier: Option<SystemIdentifier>,
        kept_checksum: Option<&str>,
        url: &str,
    ) -> Result<()> {
        if self.is_too_large() {
            return Err(damaged(url, "it is larger than any WAL segment"));
        }
        if kept_checksum.is_some_and(|kept| kept != format!("{:032x}", self.digest())) {
            let what = "its content does not have the checksum that was kept with it";
            return Err(damaged(url, what));
        }
        match name.kind() {
            WalFileKind::Segment | WalFileKind::Partial => {
                self.check_header(name, system_identifier, url)
            }
            WalFileKind::TimelineHistory if self.bytes == 0 => {
                Err(damaged(url, "a timeline history file is not empty"))
            }
            // Only people read backup history files.
            WalFileKind::TimelineHistory | WalFileKind::BackupHistory => Ok(()),
        }
    }

    fn check_header(
        &self,
        name: &WalFileName,
        system_identifier: Option<SystemIdentifier>,
        url: &str,
    ) -> Result<()> {
        let header = WalPageHeader::parse(&self.start);
        let (Some(header), Some(_)) = (header, SegmentSize::new(self.bytes)) else {
            let what = format!("{} bytes are not the size of a WAL segment", self.bytes);
            return Err(damaged(url, &what));
        };
        if let Err(misfit) = header.check(name, self.bytes) {
            let message = format!("archived object \"{url}\" is not the WAL segment of that name");
            let error = Error::new(ErrorKind::Corrupt, message).with_hint(RESTORE_IT);
            return Err(match misfit.detail() {
                Some(detail) => error.with_detail(detail),
                None => error,
            });
        }
        match system_identifier {
            Some(expected) if expected != header.system_identifier => Err(Error::new(
                ErrorKind::Conflict,
                format!("archived object \"{url}\" is WAL of another cluster"),
            )
            .with_detail(format!(
                "Its header says system identifier {}; this cluster has {expected}.",
                header.system_identifier
            ))
            .with_hint("Check that the prefix is the one that this cluster archived to.")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::sample::{CLUSTER, segment};

    fn check(name: &str, bytes: &[u8], cluster: Option<SystemIdentifier>) -> Result<()> {
        Content::of(bytes).check(&name.parse().unwrap(), cluster, None, "s3://b/x")
    }

    const NAME: &str = "0000000200000000000000A1";

    #[test]
    fn a_segment_must_be_the_one_of_its_name_and_cluster() {
        let whole = segment(&NAME.parse().unwrap(), 3);
        for name in [NAME, &format!("{NAME}.partial"), "0000000300000000000000A1"] {
            check(name, &whole, Some(CLUSTER)).unwrap();
            check(name, &whole, None).unwrap();
        }
        let mut zeroed = whole.clone();
        zeroed[..40].fill(0);
        for (name, bytes) in [
            ("0000000200000000000000A2", whole.as_slice()),
            ("0000000100000000000000A1", &whole),
            ("0000000200000000000000A2.partial", &whole),
            (NAME, &zeroed),
            (NAME, &whole[..whole.len() / 2]),
            (NAME, &whole[..39]),
            (NAME, &[]),
        ] {
            let error = check(name, bytes, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.message().contains("s3://b/x"), "{error}");
            assert!(!error.hint().unwrap().contains("pg_wal"), "it is about the archive");
        }
        let error = check(NAME, &whole, Some(SystemIdentifier(7))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.detail().unwrap().contains("has 7"), "{error:?}");
    }

    #[test]
    fn content_in_pieces_is_the_same_content() {
        let whole = segment(&NAME.parse().unwrap(), 3);
        let mut content = Content::new();
        for piece in whole.chunks(7) {
            content.update(piece);
        }
        assert_eq!(content.bytes(), whole.len() as u64);
        assert_eq!(content.digest(), xxhash_rust::xxh3::xxh3_128(&whole));
        let kept = format!("{:032x}", content.digest());
        let name = NAME.parse().unwrap();
        content.check(&name, Some(CLUSTER), Some(&kept), "x").unwrap();
        let error = content.check(&name, None, Some("0"), "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn other_files_have_no_header() {
        check("00000002.history", b"1\t0/5000000\tno recovery target specified\n", None).unwrap();
        assert!(check("00000002.history", b"", None).is_err());
        check("0000000200000000000000A1.00000028.backup", b"", None).unwrap();
    }
}
