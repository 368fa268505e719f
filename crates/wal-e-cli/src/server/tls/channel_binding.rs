//! What binds a password to an encrypted connection.

use sha2::{Digest, Sha256, Sha384, Sha512};
use wal_e_core::certificate::Certificate;

/// The hash of a certificate by the algorithm that its signature uses, but none weaker than
/// SHA-256 (RFC 5929, `tls-server-end-point`). `None` when its signature names none.
pub fn certificate_hash(der: &[u8]) -> Option<Vec<u8>> {
    match Certificate::parse(der).ok()?.signature_algorithm().as_str() {
        // MD5, SHA-1, SHA-256; with RSA and with ECDSA.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Some(Sha256::digest(der).to_vec()),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(Sha384::digest(der).to_vec()),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(Sha512::digest(der).to_vec()),
        _ => None,
    }
}
