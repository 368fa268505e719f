//! What a source of keys said, in words for a person.

use std::error::Error as _;

use aws_credential_types::provider::error::CredentialsError;

use crate::store::s3::errors::chain;

/// One sentence without its full stop.
pub(super) fn of(error: &CredentialsError) -> String {
    let text = match error.source() {
        Some(cause) => chain(cause),
        None => chain(error),
    };
    // The SDK names parts of itself that were left out when it was built.
    match text {
        text if !text.contains("cargo feature") => text,
        text if text.contains("sso") => {
            "it signs in through IAM Identity Center (SSO), which needs a person at a browser and \
             is not supported; \"credential_process\" in a profile of its own can run \"aws \
             configure export-credentials\" for its keys"
                .to_owned()
        }
        _ => "it signs in by \"aws login\", which needs a person at a browser and is not supported"
            .to_owned(),
    }
}
