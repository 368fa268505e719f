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
use crate::config::{Credentials, Endpoint, S3Config, Setting};
use crate::error::{Error, ErrorKind, Result};

/// How long an idle connection is kept; servers close theirs after little more.
const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// A client and what it was built from.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) region: String,
    /// The server that is not AWS, with its scheme.
    pub(super) endpoint: Option<String>,
    /// Whether buckets are named in the path.
    pub(super) path_style: bool,
    pub(super) keys: Keys,
}

/// Builds a client. Only the search for a region may use the network.
pub(super) async fn connect(config: &S3Config, limits: Limits) -> Result<Connection> {
    let endpoint = config.endpoint.as_deref().map(check_endpoint).transpose()?;
    let endpoint = endpoint.as_deref();
    let path_style = uses_path_style(config);
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
        // The region that stands in the name of an access point counts.
        .use_arn_region(true)
        .force_path_style(path_style);
    if let Some(endpoint) = endpoint {
        // The SDK puts the bucket right after it, also where it has a path.
        builder = builder.endpoint_url(format!("{endpoint}/"));
    }
    let (client, endpoint) = (Client::from_conf(builder.build()), endpoint.map(str::to_owned));
    Ok(Connection { client, region, endpoint, path_style, keys })
}

fn is_plain(endpoint: &str) -> bool {
    endpoint.starts_with("http://")
}

/// Whether the bucket is named in the path of a request. Amazon's certificates are for
/// `*.s3.REGION.amazonaws.com`, which no bucket with a dot in its name is; and what cannot
/// be part of a host name at all is in the path wherever that is possible.
fn uses_path_style(config: &S3Config) -> bool {
    let bucket = &config.bucket;
    // Only as a host name.
    if is_arn(bucket) {
        return false;
    }
    let is_host_label = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    !is_host_label || config.force_path_style.unwrap_or(config.endpoint.is_some())
}

/// Whether it is the name of an access point and not of a bucket.
fn is_arn(bucket: &str) -> bool {
    bucket.starts_with("arn:")
}

/// The region of an access point, which stands in its name.
fn region_of_arn(bucket: &str) -> Option<&str> {
    let region = bucket.strip_prefix("arn:")?.split(':').nth(2)?;
    (!region.is_empty()).then_some(region)
}

/// The endpoint with its scheme.
fn check_endpoint(endpoint: &str) -> Result<String> {
    endpoint.parse::<Endpoint>().map(|endpoint| endpoint.url)
}

async fn region(config: &S3Config, providers: &ProviderConfig, limit: Duration) -> Result<String> {
    if let Some(region) = region_of_arn(&config.bucket) {
        return Ok(region.to_owned());
    }
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
    use aws_sdk_s3::presigning::PresigningConfig;

    use super::*;
    use crate::config::{Secret, StaticCredentials};

    #[test]
    fn an_endpoint_without_a_scheme_is_taken_for_https() {
        for (given, url) in [
            ("http://localhost:9000", "http://localhost:9000"),
            ("https://s3.example.com/", "https://s3.example.com"),
            ("minio.local:9000", "https://minio.local:9000"),
        ] {
            assert_eq!(check_endpoint(given).unwrap(), url);
        }
        for bad in ["", "http://", "https:///x", "ftp://h", "s3://bucket"] {
            let error = check_endpoint(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            assert!(error.hint().is_some());
        }
        let error = check_endpoint("https://user:hunter2@host").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    /// The URL that an object is asked for at.
    async fn url(bucket: &str, endpoint: Option<&str>, force_path_style: Option<bool>) -> String {
        let keys = StaticCredentials {
            access_key_id: "AKID".into(),
            secret_access_key: Secret::new("hunter2"),
            session_token: None,
            source: "a test".into(),
        };
        let config = S3Config {
            endpoint: endpoint.map(str::to_owned),
            region: Some("eu-west-1".into()),
            force_path_style,
            credentials: Some(Credentials::Given(keys)),
            ..S3Config::new(bucket, "")
        };
        let connection = connect(&config, Limits::from_timeout(None)).await.unwrap();
        let presigning = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
        let request = connection.client.get_object().bucket(bucket).key("a/b c");
        let presigned = request.presigned(presigning).await.unwrap();
        let (url, _) = presigned.uri().split_once('?').unwrap();
        url.strip_suffix("/a/b%20c").unwrap_or_else(|| panic!("{url}")).to_owned()
    }

    #[tokio::test]
    async fn buckets_are_named_where_they_can_be() {
        let host = Some("https://s3.example.com:9000/");
        for (bucket, endpoint, force_path_style, expected) in [
            ("bucket", None, None, "https://bucket.s3.eu-west-1.amazonaws.com"),
            ("bucket", None, Some(true), "https://s3.eu-west-1.amazonaws.com/bucket"),
            ("bucket", host, None, "https://s3.example.com:9000/bucket"),
            ("bucket", host, Some(false), "https://bucket.s3.example.com:9000"),
            // No certificate is for a name with one label more.
            ("db.example.com", None, None, "https://s3.eu-west-1.amazonaws.com/db.example.com"),
            ("db.example.com", host, Some(false), "https://s3.example.com:9000/db.example.com"),
            ("db.example.com", Some("http://h:1"), Some(false), "http://h:1/db.example.com"),
            // Names from before there were rules.
            ("Old_Bucket", None, None, "https://s3.eu-west-1.amazonaws.com/Old_Bucket"),
            ("Old_Bucket", host, Some(false), "https://s3.example.com:9000/Old_Bucket"),
            // A tenant of Ceph.
            ("tenant:bucket", host, None, "https://s3.example.com:9000/tenant%3Abucket"),
            ("tenant:bucket", host, Some(false), "https://s3.example.com:9000/tenant%3Abucket"),
            // An endpoint with a path.
            ("bucket", Some("https://h/storage/s3/"), None, "https://h/storage/s3/bucket"),
            ("bucket", Some("https://h/s3"), Some(false), "https://bucket.h/s3"),
            ("bucket", Some("minio.local:9000"), None, "https://minio.local:9000/bucket"),
            ("bucket", Some("http://[::1]:9000"), None, "http://[::1]:9000/bucket"),
            (
                "arn:aws:s3:us-west-2:123456789012:accesspoint/wal",
                None,
                None,
                "https://wal-123456789012.s3-accesspoint.us-west-2.amazonaws.com",
            ),
            (
                "arn:aws:s3:us-west-2:123456789012:accesspoint/wal",
                None,
                Some(true),
                "https://wal-123456789012.s3-accesspoint.us-west-2.amazonaws.com",
            ),
            (
                "wal-metadata-abc123-s3alias",
                None,
                None,
                "https://wal-metadata-abc123-s3alias.s3.eu-west-1.amazonaws.com",
            ),
        ] {
            let url = url(bucket, endpoint, force_path_style).await;
            assert_eq!(url, expected, "{bucket} {endpoint:?} {force_path_style:?}");
        }
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
