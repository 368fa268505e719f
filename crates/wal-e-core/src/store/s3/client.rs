//! The SDK's client from our settings.

use std::path::Path;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::credentials::{self, CredentialSource, Keys};
use super::limits::Limits;
use crate::config::{Credentials, S3Config, Setting};
use crate::error::{Error, ErrorKind, Result};

/// How long an idle connection is kept; servers close theirs after little more.
const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// A client and what it was built from.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) region: String,
    pub(super) keys: Keys,
}

/// Builds a client. Only the search for a region may use the network.
pub(super) async fn connect(config: &S3Config, limits: Limits) -> Result<Connection> {
    let endpoint = config.endpoint.as_deref().map(check_endpoint).transpose()?;
    let trust = match &config.ca_file {
        Some(path) => TrustStore::empty().with_pem_certificate(read_ca_file(path)?),
        // Reading all certificates of the system is not for nothing.
        None => TrustStore::empty().with_native_roots(!endpoint.is_some_and(is_plain)),
    };
    // Other services that hand out keys are Amazon's, with certificates that
    // the system trusts.
    let providers_client = http_client(TrustStore::default())?;
    let providers =
        move || ProviderConfig::without_region().with_http_client(providers_client.clone());
    let region = region(config, &providers(), limits.lookup).await?;
    let keys = match &config.credentials {
        Some(Credentials::Given(given)) => Keys::given(given),
        Some(Credentials::EnvDir(directory)) => Keys::env_dir(directory, limits.lookup),
        None => {
            let (source, region) = (CredentialSource::default(), Region::new(region.clone()));
            let noted = source.clone();
            let chain =
                move || credentials::chain(&providers().with_region(Some(region.clone())), &noted);
            Keys::chain(chain, source, limits.lookup)
        }
    };
    let mut builder = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http_client(trust)?)
        .region(Region::new(region.clone()))
        .credentials_provider(keys.clone())
        // `Keys` is a cache, and one that can be told of a refusal.
        .identity_cache(IdentityCache::no_cache())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(limits.connect).build())
        // Uploads and downloads are watched here; the SDK's watch does not see
        // all of them.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // Checksums are sent by us, in headers; on the way back we compare our own.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(config.force_path_style.unwrap_or(endpoint.is_some()));
    if let Some(endpoint) = endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    Ok(Connection { client: Client::from_conf(builder.build()), region, keys })
}

fn is_plain(endpoint: &str) -> bool {
    endpoint.starts_with("http://")
}

fn check_endpoint(endpoint: &str) -> Result<&str> {
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    match rest {
        Some(host) if !host.is_empty() && !host.starts_with('/') && !host.contains('@') => {
            Ok(endpoint)
        }
        // It is not repeated when it might hold a password.
        Some(host) if host.contains('@') => {
            Err(Error::new(ErrorKind::Config, "the S3 endpoint has a user name or password in it")
                .with_hint("Leave it out: S3 knows only access keys."))
        }
        _ => Err(Error::new(ErrorKind::Config, format!("invalid S3 endpoint \"{endpoint}\""))
            .with_hint("An endpoint looks like \"https://minio.example.com:9000\".")),
    }
}

async fn region(config: &S3Config, providers: &ProviderConfig, limit: Duration) -> Result<String> {
    if let Some(region) = &config.region {
        return Ok(region.clone());
    }
    if config.endpoint.is_some() {
        // Most servers that are not Amazon's have no other.
        return Ok("us-east-1".to_owned());
    }
    let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::builder().configure(providers).build())
        .or_else(ImdsRegionProvider::builder().configure(providers).build());
    let found = tokio::time::timeout(limit, chain.region()).await.ok().flatten();
    found.map(|region| region.as_ref().to_owned()).ok_or_else(|| {
        Error::new(ErrorKind::Config, "no S3 region is configured").with_hint(format!(
            "Set {} or AWS_REGION to the region of the bucket, for example \"eu-central-1\".",
            Setting::S3Region
        ))
    })
}

fn http_client(trust: TrustStore) -> Result<SharedHttpClient> {
    let context = TlsContext::builder().with_trust_store(trust).build().map_err(|error| {
        Error::new(ErrorKind::Config, format!("could not prepare TLS: {error}"))
    })?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::rustls(CryptoMode::Ring))
        .tls_context(context)
        .pool_idle_timeout(IDLE_LIMIT)
        .build_https())
}

/// The certificates of a CA file. They are looked at here because the SDK ends
/// in a panic, at the first request, over one that it cannot use.
fn read_ca_file(path: &Path) -> Result<Vec<u8>> {
    let hint = || format!("{} names a file with certificates in PEM form.", Setting::S3CaFile);
    let pem = std::fs::read(path).map_err(|source| {
        let error = Error::file("read CA file", path, &source);
        Error::new(ErrorKind::Config, error.message()).with_hint(hint())
    })?;
    let unusable = |detail: String| {
        let message = format!("CA file \"{}\" is not usable", path.display());
        Error::new(ErrorKind::Config, message).with_detail(detail).with_hint(hint())
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate
            .map_err(|error| unusable(format!("A certificate in it cannot be read: {error}.")))?;
        roots.add(certificate).map_err(|error| {
            unusable(format!("A certificate in it cannot be trusted: {error}."))
        })?;
    }
    if roots.is_empty() {
        return Err(unusable("There is no certificate in it.".to_owned()));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_need_a_scheme_and_no_password() {
        for good in ["http://localhost:9000", "https://s3.example.com", "https://h/"] {
            assert_eq!(check_endpoint(good).unwrap(), good);
        }
        for bad in ["", "localhost:9000", "http://", "https:///x", "ftp://h", "s3://bucket"] {
            let error = check_endpoint(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            assert!(error.hint().is_some());
        }
        let error = check_endpoint("https://user:hunter2@host").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn a_ca_file_is_checked_before_it_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let error = read_ca_file(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().starts_with("could not read CA file"), "{error}");
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let broken = "-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n";
        for content in ["", "no certificate", garbage, broken] {
            std::fs::write(&path, content).unwrap();
            let error = read_ca_file(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.detail().is_some() && error.hint().is_some(), "{content}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_needs_no_region() {
        let config = S3Config::new("bucket", "");
        let config = S3Config { endpoint: Some("http://127.0.0.1:1".into()), ..config };
        let limits = Limits::from_timeout(None);
        assert_eq!(connect(&config, limits).await.unwrap().region, "us-east-1");
        let config = S3Config { region: Some("garage".into()), ..config };
        assert_eq!(connect(&config, limits).await.unwrap().region, "garage");
    }
}
