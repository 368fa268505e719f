use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tempfile::TempDir;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::error::ErrorKind;

/// Runs openssl in `directory`.
fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .output()
        .expect("the tests need the program openssl");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {said}");
}

/// A certificate that `arguments` make, and its key.
fn made(arguments: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let begin = "req -newkey rsa:2048 -nodes -keyout key.pem";
    openssl(directory.path(), &format!("{begin} {arguments}"));
    directory
}

/// As most recipes have it: an authority's certificate.
fn authority_s(names: &str) -> TempDir {
    made(&format!("-x509 -days 30 -out cert.pem -subj /CN=s3.test {names}"))
}

/// Of version 1, which has no extensions.
fn of_version_one(name: &str) -> TempDir {
    let directory = made(&format!("-out request.pem -subj /CN={name}"));
    let sign = "x509 -req -in request.pem -signkey key.pem -days 30 -out cert.pem";
    openssl(directory.path(), sign);
    let der = certificate(directory.path());
    // The first in a certificate of version 3 says so.
    assert!(!der.windows(5).any(|bytes| bytes == [0xA0, 3, 2, 1, 2]), "it is not of version 1");
    directory
}

fn certificate(directory: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(directory.join("cert.pem")).unwrap()
}

/// Answers with a certificate as it is.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// What comes of TLS with a server that shows the certificate of `shown` and has the key of
/// `key`, for a client that trusts the one of `trusted`.
async fn greeted(
    (shown, key): (&Path, &Path),
    trusted: &Path,
    name: &str,
    version: &'static rustls::SupportedProtocolVersion,
) -> std::result::Result<(), String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from_pem_file(key.join("key.pem")).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let certified = Arc::new(CertifiedKey::new(vec![certificate(shown)], key));
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(certified)));
    let file = trusted.join("cert.pem");
    let client = Tls::new(Some(&file), &AwsVariables::default()).config().unwrap();

    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let accept = TlsAcceptor::from(Arc::new(server)).accept(theirs);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connect = TlsConnector::from(client).connect(name, ours);
    let both = async { tokio::join!(accept, connect) };
    let (_, connected) = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
    connected.map(|_| ()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_certificate_that_stands_in_the_file_is_trusted_however_it_was_made() {
    for (made, names, others) in [
        (authority_s("-addext subjectAltName=DNS:s3.test,IP:127.0.0.1"), "s3.test", "s4.test"),
        (authority_s("-addext subjectAltName=DNS:s3.test,IP:127.0.0.1"), "127.0.0.1", "127.0.0.2"),
        (authority_s(""), "s3.test", "s4.test"),
        (of_version_one("s3.test"), "S3.test", "s4.test"),
        (of_version_one("*.test"), "s3.test", "s3.other.test"),
        (of_version_one("127.0.0.1"), "127.0.0.1", "127.0.0.2"),
    ] {
        let path = made.path();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            greeted((path, path), path, names, version).await.unwrap();
            let refused = greeted((path, path), path, others, version).await.unwrap_err();
            assert!(
                refused.to_lowercase().contains("not valid for")
                    || refused.contains("NotValidForName"),
                "{others}: {refused}"
            );
        }
    }
}

#[tokio::test]
async fn the_server_has_to_hold_the_key() {
    for make in [|| authority_s("-addext subjectAltName=DNS:s3.test"), || of_version_one("s3.test")]
    {
        let (shown, other) = (make(), make());
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let parties = (shown.path(), other.path());
            let refused = greeted(parties, shown.path(), "s3.test", version).await.unwrap_err();
            assert!(refused.contains("BadSignature"), "{refused}");
        }
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_stand_in_the_file_is_verified() {
    let version = &rustls::version::TLS13;
    let (shown, other) = (authority_s(""), authority_s("-addext subjectAltName=DNS:s3.test"));
    let parties = (shown.path(), shown.path());
    let refused = greeted(parties, other.path(), "s3.test", version).await.unwrap_err();
    assert!(refused.contains("invalid peer certificate"), "{refused}");
    // One that an authority in the file has signed is taken as ever.
    let signed = made("-out request.pem -subj /CN=s3.test");
    std::fs::write(signed.path().join("names"), "subjectAltName=DNS:s3.test\n").unwrap();
    let ca = other.path().display();
    openssl(
        signed.path(),
        &format!(
            "x509 -req -in request.pem -CA {ca}/cert.pem -CAkey {ca}/key.pem -CAcreateserial \
             -days 30 -extfile names -out cert.pem"
        ),
    );
    let parties = (signed.path(), signed.path());
    greeted(parties, other.path(), "s3.test", version).await.unwrap();
}

#[test]
fn a_ca_file_is_checked_before_it_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let trusted = || Tls::new(Some(&path), &AwsVariables::default()).trusted();
    let error = trusted().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().starts_with("could not read CA file"), "{error}");
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n";
    for content in ["", "no certificate", garbage, broken] {
        std::fs::write(&path, content).unwrap();
        let error = trusted().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.detail().is_some() && error.hint().is_some(), "{content}");
    }
}

#[test]
fn a_system_without_authorities_is_told_so() {
    let nowhere = Some("/nonexistent/certs".into());
    let error = of_system(&Some("/dev/null".into()), &nowhere).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("no certificates of authorities"), "{error}");
    assert!(error.hint().unwrap().contains("ca-certificates"), "{error:?}");
    let made = authority_s("");
    assert_eq!(of_system(&Some(made.path().join("cert.pem")), &None).unwrap().len(), 1);
}
