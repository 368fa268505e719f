//! Where the keys come from: given by the caller, or found by the SDK's chain.

use std::sync::{Arc, Mutex, PoisonError};

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

use crate::config::StaticCredentials;

/// Names the place where the keys in use were found, for error messages. Clones
/// share what they know.
#[derive(Debug, Clone, Default)]
pub(super) struct CredentialSource {
    found: Arc<Mutex<Option<String>>>,
}

impl CredentialSource {
    fn set(&self, source: &str) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.as_deref() != Some(source) {
            *found = Some(source.to_owned());
        }
    }

    /// A phrase that fits after "from"; `None` before any were found.
    pub(super) fn get(&self) -> Option<String> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A source that is known from the start.
    pub(super) fn known(source: &str) -> Self {
        let known = CredentialSource::default();
        known.set(source);
        known
    }
}

/// The keys that the caller found.
pub(super) fn given(
    credentials: &StaticCredentials,
) -> (SharedCredentialsProvider, CredentialSource) {
    let keys = Credentials::new(
        &credentials.access_key_id,
        credentials.secret_access_key.expose(),
        credentials.session_token.as_ref().map(|token| token.expose().to_owned()),
        None,
        "wal_e",
    );
    (SharedCredentialsProvider::new(keys), CredentialSource::known(&credentials.source))
}

/// The SDK's chain, in its order, without SSO: a server has nobody to log in.
pub(super) fn chain(config: &ProviderConfig) -> (SharedCredentialsProvider, CredentialSource) {
    let source = CredentialSource::default();
    let chain = CredentialsProviderChain::first_try(
        "Environment",
        source.noted("the environment", EnvironmentVariableCredentialsProvider::new()),
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
    (SharedCredentialsProvider::new(chain), source)
}

impl CredentialSource {
    fn noted<P>(&self, name: &'static str, provider: P) -> Noted<P> {
        Noted { provider, name, source: self.clone() }
    }
}

/// A provider that notes its name when it provides.
#[derive(Debug)]
struct Noted<P> {
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
mod tests {
    use super::*;
    use crate::config::Secret;

    #[tokio::test]
    async fn given_keys_are_used_and_their_source_is_known() {
        let (provider, source) = given(&StaticCredentials {
            access_key_id: "AKID".into(),
            secret_access_key: Secret::new("secret"),
            session_token: Some(Secret::new("token")),
            source: "env_dir \"/etc/wal-e.d/env\"".into(),
        });
        let keys = provider.provide_credentials().await.unwrap();
        assert_eq!(keys.access_key_id(), "AKID");
        assert_eq!(keys.secret_access_key(), "secret");
        assert_eq!(keys.session_token(), Some("token"));
        assert_eq!(source.get().unwrap(), "env_dir \"/etc/wal-e.d/env\"");
    }

    #[tokio::test]
    async fn a_provider_is_noted_once_it_provides() {
        let source = CredentialSource::default();
        let empty = CredentialsProviderChain::first_try("nothing", Unwilling);
        assert!(source.noted("nowhere", empty).provide_credentials().await.is_err());
        assert_eq!(source.get(), None);
        let keys = Credentials::new("AKID", "secret", None, None, "test");
        assert!(source.noted("somewhere", keys).provide_credentials().await.is_ok());
        assert_eq!(source.get().unwrap(), "somewhere");
    }

    #[derive(Debug)]
    struct Unwilling;

    impl ProvideCredentials for Unwilling {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            use aws_credential_types::provider::error::CredentialsError;
            future::ProvideCredentials::ready(Err(CredentialsError::not_loaded_no_source()))
        }
    }
}
