//! The SDK's client from our settings.

use std::sync::Arc;
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
    StalledStreamProtectionConfig,
};

use super::credentials::{self, CredentialSource, Keys, Profile, Services};
use super::http::{self, Tls};
use super::limits::Limits;
use super::way::Way;
use crate::config::{Credentials, Endpoint, Proxies, S3Config, Setting};
use crate::error::{Error, ErrorKind, Result};

/// For a connection and an answer of the service next to a container.
const CONTAINER_LIMITS: (Option<Duration>, Option<Duration>) =
    (Some(Duration::from_secs(2)), Some(Duration::from_secs(5)));

/// A client and what it was built from.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) region: String,
    /// The server that is not AWS, with its scheme.
    pub(super) endpoint: Option<String>,
    /// Whether buckets are named in the path.
    pub(super) path_style: bool,
    pub(super) keys: Keys,
    pub(super) way: Way,
}

/// Builds a client. Only the search for a region may use the network.
pub(super) async fn connect(config: &S3Config, limits: Limits) -> Result<Connection> {
    let tls = Arc::new(Tls::new(config.ca_file.as_deref(), &config.aws));
    let services = services(config, &tls);
    let profile = Profile::of(&config.aws);
    let endpoint = match &config.endpoint {
        Some(endpoint) => Some(check_endpoint(endpoint)?),
        None => profile.endpoint(&services.through_proxies).await?,
    };
    let config = &S3Config { endpoint, ..config.clone() };
    let endpoint = config.endpoint.as_deref();
    let path_style = uses_path_style(config);
    let way = Way::find(config, &tls)?;
    let region = region(config, &services, &profile, limits.lookup).await?;
    let keys = match &config.credentials {
        Some(Credentials::Given(given)) => Keys::given(given),
        Some(Credentials::EnvDir(directory)) => Keys::env_dir(directory, limits.lookup),
        None => {
            let (source, region) = (CredentialSource::default(), Region::new(region.clone()));
            let (noted, aws) = (source.clone(), config.aws.clone());
            let chain = move || credentials::chain(&aws, &services, &region, &noted);
            Keys::chain(chain, source, limits.lookup)
        }
    };
    let mut builder = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http::client(&tls, &config.proxies))
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
    Ok(Connection { client, region, endpoint, path_style, keys, way })
}

/// How other services are reached that hand out keys. They are Amazon's, with certificates
/// that the system trusts, or `AWS_CA_BUNDLE`, which is not for S3 alone.
fn services(config: &S3Config, tls: &Arc<Tls>) -> Services {
    let bundle = config.aws.get("AWS_CA_BUNDLE").map(std::path::Path::new);
    let tls = match (&config.ca_file, bundle) {
        (None, None) => Arc::clone(tls),
        (_, bundle) => Arc::new(Tls::new(bundle, &config.aws)),
    };
    Services {
        through_proxies: http::client(&tls, &config.proxies),
        direct: http::client(&tls, &Proxies::default()),
        container: http::connector(&tls, &Proxies::default(), CONTAINER_LIMITS),
    }
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
    !is_host_label(bucket) || config.force_path_style.unwrap_or(config.endpoint.is_some())
}

/// Whether a bucket can be one part of the name of a host.
pub(super) fn is_host_label(bucket: &str) -> bool {
    (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
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

async fn region(
    config: &S3Config,
    services: &Services,
    profile: &Profile,
    limit: Duration,
) -> Result<String> {
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
    let providers =
        ProviderConfig::without_region().with_http_client(services.through_proxies.clone());
    let mut of_profile =
        ProfileFileRegionProvider::builder().configure(&providers).profile_files(profile.files());
    if let Some(name) = &profile.name {
        of_profile = of_profile.profile_name(name);
    }
    let mut chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(of_profile.build());
    if let Ok(instance) = credentials::instance_metadata(&config.aws, services) {
        chain = chain.or_else(ImdsRegionProvider::builder().imds_client(instance).build());
    }
    let found = tokio::time::timeout(limit, chain.region()).await.ok().flatten();
    found.map(|region| region.as_ref().to_owned()).ok_or_else(|| {
        Error::new(ErrorKind::Config, "no S3 region is configured").with_hint(format!(
            "Set {} or AWS_REGION to the region of the bucket, for example \"eu-central-1\".",
            Setting::S3Region
        ))
    })
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
