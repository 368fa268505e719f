//! The SDK's chain of places where keys may be.

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{
    ProvideCredentials, Result as Provided, SharedCredentialsProvider, future,
};

use super::CredentialSource;

/// The source whose keys never change.
pub(super) const ENVIRONMENT: &str = "the environment";

/// The SDK's chain, in its order, without SSO: a server has nobody to log in.
/// Notes in `source` where keys were found.
pub(in crate::store::s3) fn chain(
    config: &ProviderConfig,
    source: &CredentialSource,
) -> SharedCredentialsProvider {
    let chain = CredentialsProviderChain::first_try(
        "Environment",
        source.noted(ENVIRONMENT, EnvironmentVariableCredentialsProvider::new()),
    )
    .or_else(
        "Profile",
        source.noted(
            "a profile of the AWS configuration files",
            ProfileFileCredentialsProvider::builder().configure(config).build(),
        ),
    )
    .or_else(
        "WebIdentityToken",
        source.noted(
            "a web identity token",
            WebIdentityTokenCredentialsProvider::builder().configure(config).build(),
        ),
    )
    .or_else(
        "EcsContainer",
        source.noted(
            "the container's credential endpoint",
            EcsCredentialsProvider::builder().configure(config).build(),
        ),
    )
    .or_else(
        "Ec2InstanceMetadata",
        source.noted(
            "instance metadata",
            ImdsCredentialsProvider::builder().configure(config).build(),
        ),
    );
    SharedCredentialsProvider::new(chain)
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
