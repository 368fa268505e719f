//! What the AWS command line takes from its environment and wal_e has no setting for: where
//! keys are, and whom to trust.

use std::collections::BTreeMap;
use std::fmt;

use super::Variables;

impl AwsVariables {
    /// Names that the AWS command line knows, and OpenSSL's two.
    pub(super) const NAMES: &[&str] = &[
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_DEFAULT_PROFILE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_PROFILE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
    ];
}

/// Those that are set. Values are never printed: one can be a token.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct AwsVariables(BTreeMap<&'static str, String>);

impl AwsVariables {
    /// Those of the first place that has each.
    pub fn find(variables: &Variables) -> AwsVariables {
        let find = |name: &&'static str| Some((*name, variables.find_name(name)?.value));
        AwsVariables(Self::NAMES.iter().filter_map(find).collect())
    }

    /// The value of one, when it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(Self::NAMES.contains(&name), "{name} is not looked for");
        self.0.get(name).map(String::as_str)
    }

    /// Whether one is set to "true", in any case.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

impl fmt::Debug for AwsVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
