//! Whom TLS trusts.
//!
//! A certificate that stands itself, byte for byte, in the CA file is the server's, however it
//! was made: as an authority's, in the old version, or without the names that are asked of
//! certificates today. rustls has no such notion. All others are verified as rustls does it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::certificate::{Certificate, CommonName};
use crate::config::{AwsVariables, Setting};
use crate::error::{Error, ErrorKind, Result};

/// Which certificates are trusted. They are read when the first connection needs them.
#[derive(Debug)]
pub(in crate::store::s3) struct Tls {
    source: Source,
    made: OnceLock<Result<Made>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// Those of a PEM file alone.
    File(PathBuf),
    /// Those of the system, or of the file and directory that variables name.
    System(Option<PathBuf>, Option<PathBuf>),
}

#[derive(Debug, Clone)]
struct Made {
    config: Arc<ClientConfig>,
    roots: usize,
}

impl Tls {
    /// Trusts what `file` holds; without one, what the system does.
    pub(in crate::store::s3) fn new(file: Option<&Path>, variables: &AwsVariables) -> Tls {
        let path = |name| variables.get(name).map(PathBuf::from);
        let source = match file {
            Some(file) => Source::File(file.to_owned()),
            None => Source::System(path("SSL_CERT_FILE"), path("SSL_CERT_DIR")),
        };
        Tls { source, made: OnceLock::new() }
    }

    /// For connections.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there is nothing to trust.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>> {
        self.made().map(|made| made.config)
    }

    /// How many authorities are trusted, or certificates of servers.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there are none.
    pub(in crate::store::s3) fn trusted(&self) -> Result<usize> {
        self.made().map(|made| made.roots)
    }

    fn made(&self) -> Result<Made> {
        self.made.get_or_init(|| self.source.make()).clone()
    }
}

impl Source {
    fn make(&self) -> Result<Made> {
        let (roots, own) = match self {
            Source::File(path) => read_ca_file(path)?,
            Source::System(file, directory) => (of_system(file, directory)?, Vec::new()),
        };
        let unusable = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Config, format!("could not prepare TLS: {error}"))
        };
        let count = roots.len();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(roots, own, &provider).map_err(|error| unusable(&error))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Made { config: Arc::new(config), roots: count })
    }
}

/// The certificates of a CA file: as authorities, and as they are.
fn read_ca_file(path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>)> {
    let hint = || {
        format!(
            "{} names a file with certificates in PEM form, each of which begins with \
             \"-----BEGIN CERTIFICATE-----\".",
            Setting::S3CaFile
        )
    };
    let pem = std::fs::read(path).map_err(|source| {
        let error = Error::file("read CA file", path, &source);
        Error::new(ErrorKind::Config, error.message()).with_hint(hint())
    })?;
    let unusable = |detail: String| {
        let message = format!("CA file \"{}\" is not usable", path.display());
        Error::new(ErrorKind::Config, message).with_detail(detail).with_hint(hint())
    };
    let (mut roots, mut own) = (RootCertStore::empty(), Vec::new());
    // With a mark of the encoding before it the first certificate would be passed over.
    let pem = pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&pem);
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate
            .map_err(|error| unusable(format!("A certificate in it cannot be read: {error}.")))?;
        roots.add(certificate.clone()).map_err(|error| {
            unusable(format!("A certificate in it cannot be trusted: {error}."))
        })?;
        own.push(certificate);
    }
    if roots.is_empty() {
        return Err(unusable("There is no certificate in it.".to_owned()));
    }
    Ok((roots, own))
}

fn of_system(file: &Option<PathBuf>, directory: &Option<PathBuf>) -> Result<RootCertStore> {
    let found = match (file, directory) {
        (None, None) => rustls_native_certs::load_native_certs(),
        (file, directory) => {
            rustls_native_certs::load_certs_from_paths(file.as_deref(), directory.as_deref())
        }
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let (message, fix) = match file.as_ref().or(directory.as_ref()) {
        None => (
            "this system has no certificates of authorities".to_owned(),
            "Install the package ca-certificates",
        ),
        Some(path) => (
            format!("there are no certificates of authorities in \"{}\"", path.display()),
            "Correct or remove SSL_CERT_FILE and SSL_CERT_DIR, install the package ca-certificates",
        ),
    };
    Err(Error::new(ErrorKind::Config, message)
        .with_detail("Without them no server can prove over TLS who it is.")
        .with_hint(format!(
            "{fix}, or set {} to the PEM file of the authority that signed the server's \
             certificate.",
            Setting::S3CaFile
        )))
}

/// rustls's verifier, and certificates that need none.
#[derive(Debug)]
struct Verifier {
    authorities: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(
        roots: RootCertStore,
        own: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> std::result::Result<Verifier, rustls::client::VerifierBuilderError> {
        let roots = Arc::new(roots);
        let authorities =
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build()?;
        let algorithms = provider.signature_verification_algorithms;
        Ok(Verifier { authorities, own, algorithms })
    }

    fn stands_in_file(&self, certificate: &CertificateDer<'_>) -> bool {
        self.own.iter().any(|own| own == certificate)
    }
}

fn parsed(certificate: &CertificateDer<'_>) -> std::result::Result<Certificate, rustls::Error> {
    Certificate::parse(certificate).map_err(|_| CertificateError::BadEncoding.into())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if !self.stands_in_file(certificate) {
            return self.authorities.verify_server_cert(
                certificate,
                intermediates,
                name,
                ocsp,
                now,
            );
        }
        let parsed = parsed(certificate)?;
        parsed.check_time(now)?;
        parsed
            .check_host(&name.to_str(), CommonName::WithoutOthers)
            .map_err(|_| CertificateError::NotValidForName)?;
        Ok(ServerCertVerified::assertion())
    }

    // That a certificate is trusted is not enough: the other side has to prove that it holds
    // the key.

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        if !self.stands_in_file(certificate) {
            return self.authorities.verify_tls12_signature(message, certificate, signed);
        }
        parsed(certificate)?.verify_tls12(message, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        if !self.stands_in_file(certificate) {
            return self.authorities.verify_tls13_signature(message, certificate, signed);
        }
        parsed(certificate)?.verify_tls13(message, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
