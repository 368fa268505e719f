//! The places where the AWS command line looks for keys, one after another.

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::{StaticConfiguration, WebIdentityTokenCredentialsProvider};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{
    ProvideCredentials, Result as Provided, SharedCredentialsProvider, future,
};
use aws_sdk_s3::config::{Region, SharedHttpClient};

use super::container::Container;
use super::profile::Profile;
use super::services::Services;
use super::{CredentialSource, words};
use crate::config::AwsVariables;

/// The source whose keys never change.
pub(super) const ENVIRONMENT: &str = "the environment";

/// In the order of the AWS command line. Notes in `source` where keys were found.
pub(in crate::store::s3) fn chain(
    aws: &AwsVariables,
    services: &Services,
    region: &Region,
    source: &CredentialSource,
) -> SharedCredentialsProvider {
    let config = |client: &SharedHttpClient| {
        let config = ProviderConfig::without_region().with_http_client(client.clone());
        config.with_region(Some(region.clone()))
    };
    let mut chain = Chain { links: Vec::new(), source: source.clone() };
    chain.push(
        ENVIRONMENT,
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both set",
        EnvironmentVariableCredentialsProvider::new(),
    );

    let profile = Profile::of(aws);
    let mut profiles = ProfileFileCredentialsProvider::builder()
        .configure(&config(&services.through_proxies))
        .profile_files(profile.files());
    if let Some(name) = &profile.name {
        profiles = profiles.profile_name(name);
    }
    let instance = instance_metadata(aws, services);
    let of_instance = |client: imds::Client| {
        let config = config(&services.direct);
        ImdsCredentialsProvider::builder().configure(&config).imds_client(client).build()
    };
    if let Ok(client) = &instance {
        // For profiles that name one of these as their source.
        profiles = profiles
            .with_custom_provider("Ec2InstanceMetadata", of_instance(client.clone()))
            .with_custom_provider("EcsContainer", Container::new(aws, services));
    }
    chain.push(
        "a profile of the AWS configuration files",
        format!("there are no keys in profile \"{}\"", profile.shown_name()),
        profiles.build(),
    );

    let web_identity = WebIdentityTokenCredentialsProvider::builder()
        .configure(&config(&services.through_proxies));
    let web_identity = match (aws.get("AWS_WEB_IDENTITY_TOKEN_FILE"), aws.get("AWS_ROLE_ARN")) {
        (Some(file), Some(role)) => web_identity.static_configuration(StaticConfiguration {
            web_identity_token_file: file.into(),
            role_arn: role.to_owned(),
            session_name: aws.get("AWS_ROLE_SESSION_NAME").unwrap_or("wal_e").to_owned(),
        }),
        _ => web_identity,
    };
    chain.push(
        "a web identity token",
        "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are not both set",
        web_identity.build(),
    );
    chain.push(
        "the container's credential endpoint",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and AWS_CONTAINER_CREDENTIALS_FULL_URI are not set",
        Container::new(aws, services),
    );
    let no_instance = match &instance {
        Ok(_) => "no answer, so this machine has no role".to_owned(),
        Err(error) => error.to_string(),
    };
    match instance {
        Ok(client) => chain.push("instance metadata", no_instance, of_instance(client)),
        Err(error) => chain.push("instance metadata", no_instance, Without(error.to_string())),
    }
    SharedCredentialsProvider::new(chain)
}

/// A client of the service that a machine in EC2 asks for what it is.
///
/// # Errors
/// When variables forbid it, or name what is not an address.
pub(in crate::store::s3) fn instance_metadata(
    aws: &AwsVariables,
    services: &Services,
) -> Result<imds::Client, String> {
    if aws.is_true("AWS_EC2_METADATA_DISABLED") {
        return Err("AWS_EC2_METADATA_DISABLED is true".to_owned());
    }
    let config = ProviderConfig::without_region().with_http_client(services.direct.clone());
    let mut client = imds::Client::builder().configure(&config);
    if let Some(endpoint) = aws.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
        client = client
            .endpoint(endpoint)
            .map_err(|_| "AWS_EC2_METADATA_SERVICE_ENDPOINT is not an address".to_owned())?;
    }
    if let Some(mode) = aws.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE") {
        let mode = mode.parse().map_err(|_| {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE is neither IPv4 nor IPv6".to_owned()
        })?;
        client = client.endpoint_mode(mode);
    }
    Ok(client.build())
}

/// Sources that are asked until one has keys.
#[derive(Debug)]
struct Chain {
    links: Vec<Link>,
    source: CredentialSource,
}

#[derive(Debug)]
struct Link {
    name: &'static str,
    /// What is said of it when it has nothing.
    nothing: String,
    provider: SharedCredentialsProvider,
}

impl Chain {
    fn push(
        &mut self,
        name: &'static str,
        nothing: impl Into<String>,
        provider: impl ProvideCredentials + 'static,
    ) {
        let provider = SharedCredentialsProvider::new(self.source.noted(name, provider));
        self.links.push(Link { name, nothing: nothing.into(), provider });
    }

    /// A source that has nothing, or is set up in a way that cannot work, is passed over. One
    /// that failed is not: another's keys would be of another role, and their refusal would
    /// hide what happened.
    async fn provide(&self) -> Provided {
        let mut said = Vec::new();
        for Link { name, nothing, provider } in &self.links {
            match provider.provide_credentials().await {
                Ok(credentials) => return Ok(credentials),
                Err(CredentialsError::CredentialsNotLoaded(_)) => {
                    said.push(format!("{name}: {nothing}"));
                }
                Err(error @ CredentialsError::InvalidConfiguration(_)) => {
                    said.push(format!("{name}: {}", words::of(&error)));
                }
                Err(error) => {
                    said.push(format!("{name}: {}", words::of(&error)));
                    return Err(CredentialsError::provider_error(said.join("; ")));
                }
            }
        }
        Err(CredentialsError::not_loaded(said.join("; ")))
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.provide())
    }
}

/// A source that is not asked.
#[derive(Debug)]
struct Without(String);

impl ProvideCredentials for Without {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded(self.0.clone())))
    }
}

impl CredentialSource {
    pub(super) fn noted<P>(&self, name: &'static str, provider: P) -> Noted<P> {
        Noted { provider, name, source: self.clone() }
    }
}

/// A provider that notes its name when it provides.
#[derive(Debug)]
pub(super) struct Noted<P> {
    provider: P,
    name: &'static str,
    source: CredentialSource,
}

impl<P: ProvideCredentials> Noted<P> {
    async fn provide(&self) -> Provided {
        let credentials = self.provider.provide_credentials().await?;
        self.source.set(self.name);
        Ok(credentials)
    }
}

impl<P: ProvideCredentials> ProvideCredentials for Noted<P> {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.provide())
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.provider.fallback_on_interrupt()
    }
}

#[cfg(test)]
mod tests;
