//! Certificates of servers, as far as rustls does not read them: those of version 1, the names
//! of those without `subjectAltName`, and when they are valid.

use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error};
use x509_cert::certificate::Version;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};

mod names;

pub use names::CommonName;
use names::Name;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// A certificate.
pub struct Certificate(x509_cert::Certificate);

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

    /// Whether `now` is within the time that it is for.
    ///
    /// # Errors
    /// That it is not valid yet, or not any more.
    pub fn check_time(&self, now: UnixTime) -> Result<(), CertificateError> {
        let validity = self.0.tbs_certificate().validity();
        let now = Duration::from_secs(now.as_secs());
        if now < validity.not_before.to_unix_duration() {
            return Err(CertificateError::NotValidYet);
        }
        if now > validity.not_after.to_unix_duration() {
            return Err(CertificateError::Expired);
        }
        Ok(())
    }

    /// Whether it is for `host`, a name or an address. `counts` says when its common name is asked.
    ///
    /// # Errors
    /// Which names it has instead, as the words of a message.
    pub fn check_host(&self, host: &str, counts: CommonName) -> Result<(), String> {
        names::check(&self.alternative_names(), self.common_name().as_deref(), counts, host)
    }

    /// Object identifier of the algorithm that it was signed with.
    pub fn signature_algorithm(&self) -> String {
        self.0.signature_algorithm().oid.to_string()
    }

    /// The common name of its subject.
    fn common_name(&self) -> Option<String> {
        let subject = self.0.tbs_certificate().subject();
        let common = subject.iter().find(|attribute| attribute.oid == COMMON_NAME)?;
        String::from_utf8(common.value.value().to_vec()).ok()
    }

    /// Its other names, as far as they are names or addresses of hosts.
    fn alternative_names(&self) -> Vec<Name> {
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
        let mut fitting = algorithms
            .all
            .iter()
            .filter(|one| one.signature_alg_id().as_ref() == content(&algorithm));
        own.issuer() == issuer_own.subject()
            && issuer.is_authority()
            && self
                .0
                .signature()
                .as_bytes()
                .is_some_and(|signature| issuer.has_signed(&message, signature, &mut fitting))
    }

    /// Whether the other side of TLS 1.2 has its key. rustls does the same for version 3 alone.
    ///
    /// # Errors
    /// When it has not.
    pub fn verify_tls12(
        &self,
        message: &[u8],
        signed: &DigitallySignedStruct,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<HandshakeSignatureValid, Error> {
        let of_scheme = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
        let mut of_scheme = of_scheme.flat_map(|(_, algorithms)| algorithms.iter());
        match self.has_signed(message, signed.signature(), &mut of_scheme) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    /// The same for TLS 1.3.
    ///
    /// # Errors
    /// When it has not.
    pub fn verify_tls13(
        &self,
        message: &[u8],
        signed: &DigitallySignedStruct,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = self.0.tbs_certificate().subject_public_key_info().to_der();
        let key = key.map_err(|_| CertificateError::BadEncoding)?;
        let key = SubjectPublicKeyInfoDer::from(key);
        verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
    }

    /// Whether one of `algorithms` finds that `signature` is of `message` and its key.
    fn has_signed(
        &self,
        message: &[u8],
        signature: &[u8],
        algorithms: &mut dyn Iterator<Item = &&'static dyn SignatureVerificationAlgorithm>,
    ) -> bool {
        let key = self.0.tbs_certificate().subject_public_key_info();
        let (Ok(kind), Some(key)) = (key.algorithm.to_der(), key.subject_public_key.as_bytes())
        else {
            return false;
        };
        algorithms
            .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == content(&kind))
            .any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
    }
}

/// What is in a short DER sequence, without its tag and length.
fn content(sequence: &[u8]) -> &[u8] {
    sequence.get(2..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
