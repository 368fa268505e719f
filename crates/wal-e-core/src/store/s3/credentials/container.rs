//! Keys that a container is given: at an address of the container service, or of a helper
//! next to the container.

use std::net::IpAddr;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result as Provided, future};
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use http::Uri;
use http::header::{ACCEPT, AUTHORIZATION};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::services::Services;
use crate::config::AwsVariables;

/// Where ECS answers.
const ECS: &str = "http://169.254.170.2";
/// Addresses that may be asked without TLS, besides this machine's own: those of ECS and EKS.
const PLAIN: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// Asks where variables say.
#[derive(Debug)]
pub(super) struct Container {
    url: Option<String>,
    token: Option<String>,
    token_file: Option<String>,
    connector: SharedHttpConnector,
}

impl Container {
    pub(super) fn new(aws: &AwsVariables, services: &Services) -> Container {
        let owned = |name| aws.get(name).map(str::to_owned);
        let relative = owned("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        Container {
            url: relative
                .map(|path| format!("{ECS}/{}", path.trim_start_matches('/')))
                .or_else(|| owned("AWS_CONTAINER_CREDENTIALS_FULL_URI")),
            token: owned("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
            token_file: owned("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            connector: services.container.clone(),
        }
    }

    async fn provide(&self) -> Provided {
        let Some(url) = &self.url else { return Err(CredentialsError::not_loaded_no_source()) };
        check_url(url).map_err(CredentialsError::invalid_configuration)?;
        let mut request = http::Request::get(url.as_str()).header(ACCEPT, "application/json");
        if let Some(token) = self.token().await? {
            request = request.header(AUTHORIZATION, token);
        }
        let unusable =
            |_| CredentialsError::invalid_configuration(format!("invalid request to {url}"));
        let request = request.body(SdkBody::empty()).map_err(unusable)?;
        let request = HttpRequest::try_from(request)
            .map_err(|error| CredentialsError::invalid_configuration(error.to_string()))?;
        let answer = self.connector.call(request).await;
        let answer = answer.map_err(CredentialsError::provider_error)?;
        let status = answer.status().as_u16();
        let body = ByteStream::new(answer.into_body()).collect().await;
        let body = body.map_err(CredentialsError::provider_error)?.into_bytes();
        if status != 200 {
            return Err(CredentialsError::provider_error(format!("{url} answered {status}")));
        }
        keys(&body).ok_or_else(|| {
            CredentialsError::provider_error(format!("the answer of {url} has no keys"))
        })
    }

    async fn token(&self) -> Result<Option<String>, CredentialsError> {
        let Some(file) = &self.token_file else { return Ok(self.token.clone()) };
        let token = tokio::fs::read_to_string(file).await.map_err(|error| {
            CredentialsError::provider_error(format!("could not read \"{file}\": {error}"))
        })?;
        Ok(Some(token.trim_end().to_owned()))
    }
}

impl ProvideCredentials for Container {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.provide())
    }
}

/// A token goes there: without TLS only to a neighbour.
fn check_url(url: &str) -> Result<(), String> {
    let invalid = || "AWS_CONTAINER_CREDENTIALS_FULL_URI is not an address".to_owned();
    let uri: Uri = url.parse().map_err(|_| invalid())?;
    let host = uri.host().ok_or_else(invalid)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_near = host == "localhost"
        || PLAIN.contains(&host)
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_near => Ok(()),
        _ => Err("AWS_CONTAINER_CREDENTIALS_FULL_URI must begin with \"https://\", or be an \
                  address of this machine"
            .to_owned()),
    }
}

/// What is answered.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

fn keys(body: &[u8]) -> Option<Credentials> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let expiry = match answer.expiration {
        Some(expiration) => {
            Some(SystemTime::from(OffsetDateTime::parse(&expiration, &Rfc3339).ok()?))
        }
        None => None,
    };
    let (key, secret) = (answer.access_key_id, answer.secret_access_key);
    Some(Credentials::new(key, secret, answer.token, expiry, "container"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_asked_for_without_tls_only_beside_the_container() {
        for (url, is_fine) in [
            ("http://169.254.170.2/v2/credentials/x", true),
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("http://localhost:8080/x", true),
            ("http://127.0.0.1:8080", true),
            ("https://keys.example.com/x", true),
            ("http://keys.example.com/x", false),
            ("http://10.0.0.1/x", false),
            ("/x", false),
            ("", false),
        ] {
            assert_eq!(check_url(url).is_ok(), is_fine, "{url}");
        }
    }

    #[test]
    fn the_answer_is_read() {
        let body = br#"{"AccessKeyId":"AKID","SecretAccessKey":"hunter2","Token":"token",
            "Expiration":"2030-01-02T03:04:05Z","RoleArn":"arn"}"#;
        let keys = keys(body).unwrap();
        assert_eq!(keys.access_key_id(), "AKID");
        assert_eq!(keys.session_token(), Some("token"));
        let expiry = keys.expiry().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(expiry.as_secs(), 1_893_553_445);
        for none in [&b""[..], b"{}", b"{\"AccessKeyId\":\"x\"}"] {
            assert!(super::keys(none).is_none());
        }
    }
}
