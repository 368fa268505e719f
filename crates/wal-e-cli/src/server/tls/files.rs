//! Certificates and keys, from files.

use std::fs;
use std::io::ErrorKind::NotFound;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use wal_e_core::{Error, ErrorKind, Result};

use super::Trusted;
use crate::server::libpq::{Roots, TlsOptions};

/// Certificates of authorities, and what verifies with them.
pub struct Chain {
    /// As they stand in the file.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Verifies that a certificate leads to one of them, and a name as well.
    pub verifier: Arc<WebPkiServerVerifier>,
    /// Whether it also looks at lists of revoked certificates.
    pub looks_at_revoked: bool,
}

/// Which certificates are trusted.
///
/// # Errors
/// [`ErrorKind::Config`] when a file cannot be used.
pub fn trusted(options: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Trusted> {
    let (certificates, place) = match &options.roots {
        Roots::None => return Ok(Trusted::All),
        Roots::System => (rustls_native_certs::load_native_certs().certs, None),
        Roots::File(file) => (certificates(file)?, Some(file)),
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    if roots.is_empty() {
        return Err(match place {
            Some(file) => unusable(file, "it has no certificate that can be used"),
            None => Error::new(ErrorKind::Config, "this system has no certificates of authorities")
                .with_hint(
                    "Install the package ca-certificates, or name a file with PGSSLROOTCERT.",
                ),
        });
    }
    let revoked = revoked(options)?;
    let looks_at_revoked = !revoked.is_empty();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .with_crls(revoked)
            .enforce_revocation_expiration()
            .build()
            .map_err(|error| {
                let message = format!("the lists of revoked certificates cannot be used: {error}");
                Error::new(ErrorKind::Config, message)
            })?;
    Ok(Trusted::Chain(Arc::new(Chain { certificates, verifier, looks_at_revoked })))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    read_pem(file)
}

/// The lists of a file, and of a directory in which each file is called by a hash, as
/// `openssl rehash` calls them.
fn revoked(options: &TlsOptions) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    let (file, directory) = &options.revoked;
    let mut lists = match file {
        Some(file) => read_pem(file)?,
        None => Vec::new(),
    };
    let Some(directory) = directory else { return Ok(lists) };
    let entries = fs::read_dir(directory)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .map_err(|error| Error::file("read directory", directory, &error))?;
    for entry in entries {
        let name = entry.file_name();
        let is_list =
            name.to_str().and_then(|name| name.split_once(".r")).is_some_and(|(hash, number)| {
                hash.len() == 8
                    && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
                    && number.parse::<u32>().is_ok()
            });
        if is_list {
            lists.extend(read_pem::<CertificateRevocationListDer<'static>>(&entry.path())?);
        }
    }
    if lists.is_empty() {
        return Err(unusable(directory, "it has no list of revoked certificates"));
    }
    Ok(lists)
}

/// What a PEM file has of one kind, at least one.
fn read_pem<T: PemObject>(file: &Path) -> Result<Vec<T>> {
    let content = fs::read(file).map_err(|error| Error::file("read file", file, &error))?;
    let read: std::result::Result<Vec<T>, pem::Error> = T::pem_slice_iter(&content).collect();
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => {
            Err(unusable(file, "it has nothing of the kind that is needed, in the format PEM"))
        }
        Err(error) => Err(unusable(file, &error.to_string())),
    }
}

/// Our own certificate and its key. The key must be secret.
///
/// PostgreSQL 18, `src/interfaces/libpq/fe-secure-openssl.c`, `initialize_SSL`.
///
/// # Errors
/// [`ErrorKind::Config`] when they cannot be used.
pub fn own(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>> {
    let chain = certificates(certificate)?;
    let metadata = fs::metadata(key).map_err(|error| match error.kind() {
        NotFound => unusable(certificate, &format!("its key \"{}\" does not exist", key.display()))
            .with_hint("Name the file of the key with PGSSLKEY."),
        _ => Error::file("read file", key, &error),
    })?;
    if !metadata.is_file() {
        return Err(unusable(key, "it is not a regular file"));
    }
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(unusable(key, "it has group or world access").with_hint(
            "File must have permissions u=rw (0600) or less if owned by the current user, or permissions u=rw,g=r (0640) or less if owned by root.",
        ));
    }
    let content = fs::read(key).map_err(|error| Error::file("read file", key, &error))?;
    let parsed = PrivateKeyDer::from_pem_slice(&content).map_err(|error| {
        let text = String::from_utf8_lossy(&content);
        match text.contains("ENCRYPTED") {
            true => unusable(key, "it is encrypted")
                .with_hint("Keep the key without a passphrase, readable by its user alone."),
            false => unusable(key, &error.to_string()),
        }
    })?;
    let parsed = provider
        .key_provider
        .load_private_key(parsed)
        .map_err(|error| unusable(key, &error.to_string()))?;
    Ok(Arc::new(CertifiedKey::new(chain, parsed)))
}

fn unusable(file: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("file \"{}\" cannot be used: {why}", file.display()))
}
