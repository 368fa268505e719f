//! TLS to a PostgreSQL server, by rustls, with what libpq verifies in each `sslmode`.

mod channel_binding;
mod files;
mod verifier;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wal_e_core::{Error, ErrorKind, Result};

use super::libpq::{CertificateUse, TlsMode, TlsOptions, TlsVersion};
use super::stream::Transport;
use verifier::{Reason, Verifier};

/// What a client sends first to ask for TLS: the length, and `NEGOTIATE_SSL_CODE`
/// (src/include/libpq/pqcomm.h).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The name of the protocol within TLS, as servers since PostgreSQL 17 know it.
const PROTOCOL: &[u8] = b"postgresql";

/// What is needed for TLS to one server.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    direct: bool,
    certificate_required: bool,
    /// Whether the server asked for a certificate of ours.
    asked: Arc<AtomicBool>,
}

/// An encrypted connection.
pub struct Encrypted {
    pub transport: Box<dyn Transport>,
    /// The hash of the server's certificate, which a password can be bound to.
    pub certificate_hash: Option<Vec<u8>>,
}

/// What came of asking for TLS.
pub enum Outcome {
    Encrypted(Encrypted),
    /// The server does not do it; the connection is as it was.
    Declined(TcpStream),
}

impl Tls {
    /// Reads certificates and keys. `host` is what was named, for `verify-full`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a file cannot be used.
    pub fn new(options: &TlsOptions, host: Option<&str>) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let trusted = files::trusted(options, &provider)?;
        let host = match options.mode {
            TlsMode::VerifyFull => Some(host.map(str::to_owned).ok_or_else(|| {
                Error::new(ErrorKind::Config, "a host must be named for a verified connection")
                    .with_hint("Set PGHOST to the name in the server's certificate.")
            })?),
            _ => None,
        };
        let versions: Vec<_> = [
            (TlsVersion::V1_2, &rustls::version::TLS12),
            (TlsVersion::V1_3, &rustls::version::TLS13),
        ]
        .into_iter()
        .filter(|(version, _)| options.versions.0 <= *version && *version <= options.versions.1)
        .map(|(_, version)| version)
        .collect();
        let asked = Arc::new(AtomicBool::new(false));
        let own = match (&options.certificate, options.certificate_use) {
            (_, CertificateUse::Disable) | (None, _) => None,
            (Some((certificate, key)), _) => Some(files::own(certificate, key, &provider)?),
        };
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| unusable(&error))?;
        let mut config = config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::new(trusted, host, algorithms)))
            .with_client_cert_resolver(Arc::new(OwnCertificate { own, asked: Arc::clone(&asked) }));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.enable_sni = options.server_name;
        Ok(Tls {
            config: Arc::new(config),
            direct: options.direct,
            certificate_required: options.certificate_use == CertificateUse::Require,
            asked,
        })
    }

    /// Encrypts a connection to `host`, if the server does that.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the connection breaks, [`ErrorKind::Denied`] when
    /// one side does not accept the other.
    pub async fn begin(&self, mut stream: TcpStream, host: Option<&str>) -> Result<Outcome> {
        if !self.direct {
            let mut answer = [0];
            let asking = async {
                stream.write_all(&SSL_REQUEST).await?;
                stream.read_exact(&mut answer).await
            };
            asking.await.map_err(|error| Error::io("could not ask for TLS", &error))?;
            match answer[0] {
                b'S' => {}
                b'N' => return Ok(Outcome::Declined(stream)),
                _ => return Err(failed("the server does not know what TLS is".to_owned())),
            }
        }
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector
            .connect(server_name(host), stream)
            .await
            .map_err(|error| not_shaken(&error))?;
        let (_, session) = stream.get_ref();
        if self.direct && session.alpn_protocol() != Some(PROTOCOL) {
            return Err(failed(
                "the server did not agree on the protocol \"postgresql\"".to_owned(),
            ));
        }
        if self.certificate_required && !self.asked.load(Ordering::Relaxed) {
            return Err(failed(
                "the server did not ask for a certificate, and sslcertmode (PGSSLCERTMODE) is require"
                    .to_owned(),
            ));
        }
        let hash = session
            .peer_certificates()
            .and_then(<[_]>::first)
            .and_then(|der| channel_binding::certificate_hash(der));
        Ok(Outcome::Encrypted(Encrypted { transport: Box::new(stream), certificate_hash: hash }))
    }
}

/// The name that the server is called by. What is no name of a host is not sent; the
/// verifier has the name that counts.
fn server_name(host: Option<&str>) -> ServerName<'static> {
    let name = host.and_then(|host| ServerName::try_from(host.to_owned()).ok());
    name.unwrap_or(ServerName::IpAddress(IpAddr::from([0, 0, 0, 0]).into()))
}

fn failed(why: String) -> Error {
    Error::new(ErrorKind::Denied, format!("TLS failed: {why}"))
}

fn unusable(error: &rustls::Error) -> Error {
    Error::new(ErrorKind::Config, format!("TLS cannot be used: {error}"))
}

/// Why the handshake failed, in words.
fn not_shaken(error: &std::io::Error) -> Error {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
    else {
        let text = error.to_string();
        return failed(text.split(" (os error ").next().unwrap_or_default().to_owned());
    };
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            match other.0.downcast_ref::<Reason>() {
                Some(Reason { why, hint: Some(hint) }) => failed(why.clone()).with_hint(*hint),
                Some(Reason { why, hint: None }) => failed(why.clone()),
                None => failed(error.to_string()),
            }
        }
        rustls::Error::AlertReceived(alert) => failed(format!("the server said {alert:?}")),
        _ => failed(error.to_string()),
    }
}

/// Our own certificate, and whether it was asked for.
#[derive(Debug)]
struct OwnCertificate {
    own: Option<Arc<CertifiedKey>>,
    asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.own.clone()
    }

    /// Also without one, whether it is asked for is to be seen.
    fn has_certs(&self) -> bool {
        true
    }
}

/// Which certificates are trusted.
enum Trusted {
    /// Every one: nothing is verified.
    All,
    /// What a verifier says.
    Chain(Arc<files::Chain>),
}
