//! Which profile of the AWS configuration files is meant, and where the files are.

use std::path::Path;

use aws_config::{BehaviorVersion, Region};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::config::SharedHttpClient;
use aws_types::service_config::ServiceConfigKey;

use crate::config::{AwsVariables, Endpoint};
use crate::error::Result;

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::s3) struct Profile {
    /// Nothing means "default".
    pub(in crate::store::s3) name: Option<String>,
    config_file: Option<String>,
    credentials_file: Option<String>,
    endpoints_ignored: bool,
}

impl Profile {
    pub(in crate::store::s3) fn of(aws: &AwsVariables) -> Profile {
        let owned = |name| aws.get(name).map(str::to_owned);
        Profile {
            name: owned("AWS_PROFILE").or_else(|| owned("AWS_DEFAULT_PROFILE")),
            config_file: owned("AWS_CONFIG_FILE"),
            credentials_file: owned("AWS_SHARED_CREDENTIALS_FILE"),
            endpoints_ignored: aws.is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"),
        }
    }

    pub(super) fn shown_name(&self) -> &str {
        self.name.as_deref().unwrap_or("default")
    }

    /// A file that is named and is not there is empty, as for the AWS command line.
    pub(in crate::store::s3) fn files(&self) -> EnvConfigFiles {
        let mut files = EnvConfigFiles::builder()
            .include_default_config_file(self.config_file.is_none())
            .include_default_credentials_file(self.credentials_file.is_none());
        for (kind, file) in [
            (EnvConfigFileKind::Config, &self.config_file),
            (EnvConfigFileKind::Credentials, &self.credentials_file),
        ] {
            files = match file {
                Some(file) if Path::new(file).exists() => files.with_file(kind, file),
                // The SDK wants at least one.
                Some(_) => files.with_contents(kind, ""),
                None => files,
            };
        }
        files.build()
    }

    /// The server that the profile names for S3, or for all services.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] when it names none that can be used.
    pub(in crate::store::s3) async fn endpoint(
        &self,
        client: &SharedHttpClient,
    ) -> Result<Option<String>> {
        if self.endpoints_ignored {
            return Ok(None);
        }
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(client.clone())
            .no_credentials()
            // It is not looked for, then.
            .region(Region::new("us-east-1"))
            .profile_files(self.files());
        if let Some(name) = &self.name {
            loader = loader.profile_name(name);
        }
        let config = loader.load().await;
        let key = ServiceConfigKey::builder()
            .service_id("S3")
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build();
        let of_s3 = key.ok().and_then(|key| config.service_config()?.load_config(key));
        let found = of_s3.or_else(|| config.endpoint_url().map(str::to_owned));
        found.map(|url| url.parse::<Endpoint>().map(|endpoint| endpoint.url)).transpose()
    }
}
