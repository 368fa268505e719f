//! What a source of keys said, in words for a person.

use aws_credential_types::provider::error::CredentialsError;

use crate::store::s3::causes::error_text;

/// One sentence without its full stop.
pub(super) fn of(error: &CredentialsError) -> String {
    // The SDK names parts of itself that were left out when it was built.
    match error_text(error) {
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
