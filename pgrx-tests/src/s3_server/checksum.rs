//! Checksums that came with a body, and whether they fit it.

use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::Checksum;
use s3s::{S3ErrorCode, S3Result, TrailingHeaders, s3_error};

/// What a request declares of its body.
#[derive(Default)]
pub(super) struct Declared {
    /// `Content-MD5`, base64.
    pub(super) md5: Option<String>,
    /// `x-amz-checksum-*`, base64, from the headers.
    pub(super) checksum: Checksum,
}

impl Declared {
    /// Adds what was sent after the body, for bodies in `aws-chunked` encoding.
    pub(super) fn add_trailers(&mut self, trailers: Option<&TrailingHeaders>) {
        let Some(headers) = trailers.and_then(TrailingHeaders::take) else { return };
        let take = |field: &mut Option<String>, name: &str| {
            if let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) {
                *field = Some(value.to_owned());
            }
        };
        take(&mut self.checksum.checksum_crc32, "x-amz-checksum-crc32");
        take(&mut self.checksum.checksum_crc32c, "x-amz-checksum-crc32c");
        take(&mut self.checksum.checksum_crc64nvme, "x-amz-checksum-crc64nvme");
        take(&mut self.checksum.checksum_sha1, "x-amz-checksum-sha1");
        take(&mut self.checksum.checksum_sha256, "x-amz-checksum-sha256");
    }

    /// Compares with the body that arrived, and returns the checksums to keep.
    ///
    /// # Errors
    /// `BadDigest` when one of them does not fit.
    pub(super) fn verify(self, body: &[u8]) -> S3Result<Checksum> {
        if let Some(declared) = &self.md5
            && *declared != base64(&Md5::checksum(body))
        {
            return Err(s3_error!(
                BadDigest,
                "The Content-MD5 you specified did not match what we received."
            ));
        }
        let mut hasher = ChecksumHasher {
            crc32: self.checksum.checksum_crc32.as_ref().map(|_| Crc32::new()),
            crc32c: self.checksum.checksum_crc32c.as_ref().map(|_| Crc32c::new()),
            crc64nvme: self.checksum.checksum_crc64nvme.as_ref().map(|_| Crc64Nvme::new()),
            sha1: self.checksum.checksum_sha1.as_ref().map(|_| Sha1::new()),
            sha256: self.checksum.checksum_sha256.as_ref().map(|_| Sha256::new()),
        };
        hasher.update(body);
        if differ(&hasher.finalize(), &self.checksum) {
            return Err(s3_error!(
                BadDigest,
                "The checksum you specified did not match the calculated checksum."
            ));
        }
        Ok(self.checksum)
    }
}

/// Gives `$into` the checksums of `$from`: many types of the protocol have the same fields.
macro_rules! copy_checksums {
    ($from:expr => $into:expr) => {
        $into.checksum_crc32 = $from.checksum_crc32.clone();
        $into.checksum_crc32c = $from.checksum_crc32c.clone();
        $into.checksum_crc64nvme = $from.checksum_crc64nvme.clone();
        $into.checksum_sha1 = $from.checksum_sha1.clone();
        $into.checksum_sha256 = $from.checksum_sha256.clone();
    };
}
pub(super) use copy_checksums;

/// Whether a checksum that both know differs.
pub(super) fn differ(left: &Checksum, right: &Checksum) -> bool {
    let pairs = [
        (&left.checksum_crc32, &right.checksum_crc32),
        (&left.checksum_crc32c, &right.checksum_crc32c),
        (&left.checksum_crc64nvme, &right.checksum_crc64nvme),
        (&left.checksum_sha1, &right.checksum_sha1),
        (&left.checksum_sha256, &right.checksum_sha256),
    ];
    pairs.iter().any(|(left, right)| left.is_some() && right.is_some() && left != right)
}

/// The etag of a body that came in one request: its MD5 in hex.
pub(super) fn etag_of(body: &[u8]) -> String {
    hex(&Md5::checksum(body))
}

/// The etag of an object made of parts: the MD5 of the parts' MD5s, and their count.
pub(super) fn etag_of_parts<'a>(part_etags: impl Iterator<Item = &'a str>) -> S3Result<String> {
    let mut md5 = Md5::new();
    let mut count = 0_usize;
    for etag in part_etags {
        md5.update(&unhex(etag).ok_or_else(|| s3_error!(InvalidPart))?);
        count += 1;
    }
    Ok(format!("{}-{count}", hex(&md5.finalize())))
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that hex digits stand for; `None` when they are not hex digits.
pub(super) fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}

/// Base64 as HTTP headers carry it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for digit in 0..4 {
            text.push(match digit <= group.len() {
                true => char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]),
                false => '=',
            });
        }
    }
    text
}

/// The error of a body that did not arrive as it was signed.
pub(super) fn body_error(source: s3s::StdError) -> s3s::S3Error {
    // The adapter's own error types are private; their names are all there is.
    if source.to_string().contains("Sha256Mismatch") {
        let code = S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into());
        let mut error = s3s::S3Error::with_message(
            code,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        );
        error.set_status_code(hyper::StatusCode::BAD_REQUEST);
        return error;
    }
    s3s::S3Error::with_source(S3ErrorCode::IncompleteBody, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_the_rfc_says() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn hex_digits_are_read_back() {
        assert_eq!(unhex(&hex(&[0, 15, 255])), Some(vec![0, 15, 255]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("zz"), None);
    }
}
