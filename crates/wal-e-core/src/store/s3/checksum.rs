//! How an upload says what its content is, so that the server can refuse what arrived otherwise.

use aws_sdk_s3::types::ChecksumAlgorithm;
use aws_smithy_types::base64;
use md5::Md5;
use sha2::Sha256;

/// What goes with the content of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    Crc32c,
    Md5,
    Crc32,
    Sha256,
    /// Nothing besides the hash that is part of the signature.
    Signature,
}

impl Checksum {
    /// In the order in which they are tried: the cheapest, then what all servers know.
    pub(super) const ALL: [Checksum; 5] =
        [Checksum::Crc32c, Checksum::Md5, Checksum::Crc32, Checksum::Sha256, Checksum::Signature];

    /// The header that it stands in.
    pub(super) fn header(self) -> &'static str {
        match self {
            Checksum::Crc32c => "x-amz-checksum-crc32c",
            Checksum::Md5 => "Content-MD5",
            Checksum::Crc32 => "x-amz-checksum-crc32",
            Checksum::Sha256 => "x-amz-checksum-sha256",
            Checksum::Signature => "x-amz-content-sha256",
        }
    }

    /// What announces the checksum, with the content (Ceph looks at no other) and at the
    /// beginning of an upload in parts; those that are older than such announcements have none.
    pub(super) fn algorithm(self) -> Option<ChecksumAlgorithm> {
        match self {
            Checksum::Crc32c => Some(ChecksumAlgorithm::Crc32C),
            Checksum::Crc32 => Some(ChecksumAlgorithm::Crc32),
            Checksum::Sha256 => Some(ChecksumAlgorithm::Sha256),
            Checksum::Md5 | Checksum::Signature => None,
        }
    }
}

/// The values of the headers of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) crc32c: Option<String>,
    pub(super) md5: Option<String>,
    pub(super) crc32: Option<String>,
    pub(super) sha256: Option<String>,
}

impl Headers {
    /// Those for `content`.
    pub(super) fn of(checksum: Checksum, content: &[u8]) -> Headers {
        let none = Headers::default();
        match checksum {
            Checksum::Crc32c => {
                let crc32c = Some(base64::encode(crc32c::crc32c(content).to_be_bytes()));
                Headers { crc32c, ..none }
            }
            Checksum::Md5 => {
                Headers { md5: Some(base64::encode(<Md5 as md5::Digest>::digest(content))), ..none }
            }
            Checksum::Crc32 => {
                let crc32 = Some(base64::encode(crc32fast::hash(content).to_be_bytes()));
                Headers { crc32, ..none }
            }
            Checksum::Sha256 => Headers {
                sha256: Some(base64::encode(<Sha256 as sha2::Digest>::digest(content))),
                ..none
            },
            Checksum::Signature => none,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_written_as_s3_wants_them() {
        // The check values of the CRCs, and the digests of "123456789".
        let of = |checksum| Headers::of(checksum, b"123456789");
        assert_eq!(of(Checksum::Crc32c).crc32c.as_deref(), Some("4waSgw=="));
        assert_eq!(of(Checksum::Crc32).crc32.as_deref(), Some("y/Q5Jg=="));
        assert_eq!(of(Checksum::Md5).md5.as_deref(), Some("JfnnlDI7RTiF9RgfG2JNCw=="));
        assert_eq!(
            of(Checksum::Sha256).sha256.as_deref(),
            Some("FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=")
        );
        assert_eq!(of(Checksum::Signature), Headers::default());
    }
}
