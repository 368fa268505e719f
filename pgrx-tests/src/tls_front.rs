//! TLS in front of a server that does not speak it, with certificates that openssl makes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::process::run;
use crate::scratch::Scratch;
use crate::server_thread::ServerThread;

/// A certificate, and its key.
pub struct Certificate {
    scratch: Scratch,
}

impl Certificate {
    /// As most recipes have it, `openssl req -x509`, with more of its arguments.
    pub fn self_made(subject: &str, arguments: &[&str]) -> Certificate {
        let certificate = Certificate { scratch: Scratch::new() };
        let common = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem"];
        let last = ["-out", "cert.pem", "-subj", subject];
        certificate.openssl(&[&common[..], &last, arguments].concat());
        certificate
    }

    /// Of X.509 version 1, as `openssl x509 -req` makes it without extensions.
    pub fn of_version_one(subject: &str) -> Certificate {
        Certificate::old(subject, "30")
    }

    /// The same, and its time was over yesterday.
    pub fn expired(subject: &str) -> Certificate {
        Certificate::old(subject, "-1")
    }

    fn old(subject: &str, days: &str) -> Certificate {
        let certificate = Certificate { scratch: Scratch::new() };
        let request = ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem"];
        certificate.openssl(&[&request[..], &["-out", "request.pem", "-subj", subject]].concat());
        let sign = ["x509", "-req", "-in", "request.pem", "-signkey", "key.pem", "-days", days];
        certificate.openssl(&[&sign[..], &["-out", "cert.pem"]].concat());
        certificate
    }

    /// The certificate in PEM form.
    pub fn path(&self) -> PathBuf {
        self.scratch.path().join("cert.pem")
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        run(command.args(arguments).current_dir(self.scratch.path())).success();
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        for entry in std::fs::read_dir(self.scratch.path()).expect("the directory is there") {
            let path = entry.expect("the directory is there").path();
            std::fs::set_permissions(&path, std::fs::Permissions::clone(&readable))
                .expect("a file just made can be given a mode");
        }
    }
}

/// Shows a certificate whatever its version.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A socket on a port of 127.0.0.1 that speaks TLS.
pub struct TlsFront {
    thread: ServerThread,
}

impl TlsFront {
    /// In front of the server at `endpoint`.
    pub fn start(endpoint: &str, certificate: &Certificate) -> TlsFront {
        let (_, address) = endpoint.split_once("://").expect("an endpoint has a scheme");
        let upstream: SocketAddr = address.parse().expect("an address and a port");
        let acceptor = TlsAcceptor::from(Arc::new(config(certificate.scratch.path())));
        let thread = ServerThread::start("tls-front", async move |listener| {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust the certificate is part of the tests.
                    let mut client = acceptor.accept(client).await?;
                    let mut server = TcpStream::connect(upstream).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        })
        .expect("could not start the TLS of the tests");
        TlsFront { thread }
    }

    /// `https://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.thread.address())
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.thread.address().port()
    }
}

fn config(directory: &Path) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = CertificateDer::from_pem_file(directory.join("cert.pem"));
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).expect("a key");
    let key = provider.key_provider.load_private_key(key).expect("a key of a known kind");
    let certified = CertifiedKey::new(vec![certificate.expect("a certificate")], key);
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows all versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(Arc::new(certified))))
}
