//! Which certificates of a server are accepted.
//!
//! libpq leaves that to OpenSSL, which takes some that rustls does not. Two kinds are
//! common, since PostgreSQL's documentation says how to make them: one that signed
//! itself and stands in the file of trusted certificates, and one of version 1, without
//! extensions, that an authority in that file signed.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use wal_e_core::certificate::{Certificate, CommonName};

use super::Trusted;
use super::files::Chain;

/// Why a certificate is not accepted, in words.
#[derive(Debug)]
pub struct Reason {
    /// What is wrong with it.
    pub why: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Reason {}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
    }
}

fn refused(why: impl Into<String>) -> Error {
    Reason { why: why.into(), hint: None }.into()
}

/// Verifies what an `sslmode` asks for.
pub struct Verifier {
    trusted: Trusted,
    /// The host that the certificate has to be for.
    host: Option<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Verifier {
    pub(super) fn new(
        trusted: Trusted,
        host: Option<String>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Verifier { trusted, host, algorithms }
    }

    /// Whether a certificate is trusted that rustls does not verify.
    fn is_trusted_otherwise(
        &self,
        chain: &Chain,
        der: &CertificateDer<'_>,
        certificate: &Certificate,
        now: UnixTime,
    ) -> bool {
        if chain.looks_at_revoked || certificate.check_time(now).is_err() {
            return false;
        }
        if chain.certificates.contains(der) {
            return true;
        }
        let signed_it = |root: &CertificateDer<'_>| {
            Certificate::parse(root).is_ok_and(|root| {
                root.check_time(now).is_ok() && certificate.is_signed_by(&root, &self.algorithms)
            })
        };
        certificate.is_version_1() && chain.certificates.iter().any(signed_it)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = Certificate::parse(end_entity)
            .map_err(|why| refused(format!("the server's certificate cannot be used: {why}")))?;
        if let Trusted::Chain(chain) = &self.trusted {
            let verified = chain.verifier.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            );
            match verified {
                // The name is looked at below, and only after the chain is found sound it is here.
                Ok(_)
                | Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                )) => {}
                Err(_) if self.is_trusted_otherwise(chain, end_entity, &certificate, now) => {}
                Err(error) => return Err(not_trusted(&error, certificate.is_version_1()).into()),
            }
        }
        if let Some(host) = &self.host {
            certificate.check_host(host, CommonName::WithoutOthersOfItsKind).map_err(refused)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = Certificate::parse(der).map_err(refused)?;
        match certificate.is_version_1() {
            true => certificate.verify_tls12(message, signed, &self.algorithms),
            false => verify_tls12_signature(message, der, signed, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = Certificate::parse(der).map_err(refused)?;
        match certificate.is_version_1() {
            true => certificate.verify_tls13(message, signed, &self.algorithms),
            false => verify_tls13_signature(message, der, signed, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn not_trusted(error: &Error, is_version_1: bool) -> Reason {
    const NO_AUTHORITY: &str = "no trusted authority has signed the server's certificate";
    let Error::InvalidCertificate(error) = error else {
        let why = format!("the server's certificate cannot be verified: {error}");
        return Reason { why, hint: None };
    };
    let why = match error {
        CertificateError::UnknownIssuer => NO_AUTHORITY.to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet".to_owned()
        }
        CertificateError::Revoked => "the server's certificate was revoked".to_owned(),
        CertificateError::UnknownRevocationStatus => {
            "no list says whether the server's certificate was revoked".to_owned()
        }
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => {
            "the list of revoked certificates has expired".to_owned()
        }
        // One that has no extensions, or that says it is an authority, has to be looked for
        // otherwise, and was not found.
        CertificateError::Other(other)
            if is_version_1 || format!("{other:?}").contains("CaUsedAsEndEntity") =>
        {
            NO_AUTHORITY.to_owned()
        }
        other => format!("the server's certificate is not trusted: {other}"),
    };
    let hint = "Put the certificate of the authority that signed it, or itself if it signed itself, into the file of PGSSLROOTCERT.";
    let hint = (why == NO_AUTHORITY).then_some(hint);
    Reason { why, hint }
}
