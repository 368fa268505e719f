//! What is read in a certificate besides what rustls reads.

use std::time::Duration;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{SubjectPublicKeyInfoDer, UnixTime};
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::certificate::Version;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// A certificate.
pub struct Certificate(x509_cert::Certificate);

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    Dns(String),
    /// Four bytes or sixteen.
    Ip(Vec<u8>),
}

impl Certificate {
    /// Reads it.
    pub fn parse(der: &[u8]) -> Result<Self, String> {
        let parsed = x509_cert::Certificate::from_der(der);
        parsed.map(Certificate).map_err(|error| format!("it cannot be read: {error}"))
    }

    /// Whether it is one without extensions, as `openssl x509 -req` makes them.
    pub fn is_version_1(&self) -> bool {
        self.0.tbs_certificate().version() == Version::V1
    }

    /// Its key, with what says of which kind it is.
    pub fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'static>> {
        let key = self.0.tbs_certificate().subject_public_key_info().to_der().ok()?;
        Some(SubjectPublicKeyInfoDer::from(key))
    }

    /// Whether `now` is within its time.
    pub fn is_valid_at(&self, now: UnixTime) -> bool {
        let validity = self.0.tbs_certificate().validity();
        let now = Duration::from_secs(now.as_secs());
        let (from, to) = (validity.not_before, validity.not_after);
        from.to_unix_duration() <= now && now <= to.to_unix_duration()
    }

    /// The common name of its subject.
    pub fn common_name(&self) -> Option<String> {
        let subject = self.0.tbs_certificate().subject();
        let common = subject.iter().find(|attribute| attribute.oid == COMMON_NAME)?;
        String::from_utf8(common.value.value().to_vec()).ok()
    }

    /// Its other names, as far as they are names or addresses of hosts.
    pub fn alternative_names(&self) -> Vec<Name> {
        let names = self.0.tbs_certificate().get_extension::<SubjectAltName>();
        let names = names.ok().flatten().map(|(_, names)| names.0).unwrap_or_default();
        let of_host = |name| match name {
            GeneralName::DnsName(name) => Some(Name::Dns(name.to_string())),
            GeneralName::IpAddress(address) => Some(Name::Ip(address.as_bytes().to_vec())),
            _ => None,
        };
        names.into_iter().filter_map(of_host).collect()
    }

    /// Whether it may sign others, as OpenSSL has it (`check_ca` in crypto/x509/v3_purp.c).
    fn is_authority(&self) -> bool {
        let own = self.0.tbs_certificate();
        let (Ok(usage), Ok(constraints)) =
            (own.get_extension::<KeyUsage>(), own.get_extension::<BasicConstraints>())
        else {
            return false;
        };
        match (usage, constraints) {
            (Some((_, usage)), _) if !usage.key_cert_sign() => false,
            (_, Some((_, constraints))) => constraints.ca,
            (usage, None) => {
                usage.is_some() || (self.is_version_1() && own.subject() == own.issuer())
            }
        }
    }

    /// Whether `issuer` is an authority that has signed it.
    pub fn is_signed_by(
        &self,
        issuer: &Certificate,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> bool {
        let (own, issuer_own) = (self.0.tbs_certificate(), issuer.0.tbs_certificate());
        let (Ok(message), Ok(algorithm)) = (own.to_der(), self.0.signature_algorithm().to_der())
        else {
            return false;
        };
        own.issuer() == issuer_own.subject()
            && issuer.is_authority()
            && self.0.signature().as_bytes().is_some_and(|signature| {
                issuer.has_signed(&message, signature, algorithms, |id| content(&algorithm) == id)
            })
    }

    /// Whether a message has a signature by its key; `is_possible` says by which kinds.
    pub fn has_signed(
        &self,
        message: &[u8],
        signature: &[u8],
        algorithms: &WebPkiSupportedAlgorithms,
        is_possible: impl Fn(&[u8]) -> bool,
    ) -> bool {
        let key = self.0.tbs_certificate().subject_public_key_info();
        let (Ok(kind), Some(key)) = (key.algorithm.to_der(), key.subject_public_key.as_bytes())
        else {
            return false;
        };
        let fits = |algorithm: &&&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
            algorithm.public_key_alg_id().as_ref() == content(&kind)
                && is_possible(algorithm.signature_alg_id().as_ref())
        };
        algorithms
            .all
            .iter()
            .filter(fits)
            .any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
    }

    /// What a password is bound to: the hash that its signature uses, but none weaker than
    /// SHA-256 (RFC 5929, `tls-server-end-point`). `None` when its signature names none.
    pub fn hash_for_channel_binding(&self, der: &[u8]) -> Option<Vec<u8>> {
        match self.0.signature_algorithm().oid.to_string().as_str() {
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
}

/// What is in a short DER sequence, without its tag and length.
fn content(sequence: &[u8]) -> &[u8] {
    sequence.get(2..).unwrap_or_default()
}
