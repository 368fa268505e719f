use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::{Place, Proxies, Variables};
use crate::store::s3::causes::causes;
use crate::store::s3::http::{self, Tls};

fn services() -> Services {
    let tls = Arc::new(Tls::new(None, &AwsVariables::default()));
    let client = http::client(&tls, &Proxies::default());
    let limit = Some(Duration::from_secs(5));
    Services {
        through_proxies: client.clone(),
        direct: client,
        container: http::connector(&tls, &Proxies::default(), (limit, limit)),
    }
}

/// Where keys are found with these variables and no others, and what is said without.
async fn found(variables: &[(&str, &str)]) -> Result<(String, Credentials), String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let nothing = [
        ("AWS_CONFIG_FILE", "/nonexistent"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let set = nothing.iter().chain(variables).map(owned).collect();
    let variables = Variables { places: vec![Place::Environment(set)] };
    let source = CredentialSource::default();
    let aws = AwsVariables::find(&variables);
    let chain = chain(&aws, &services(), &Region::new("eu-west-1"), &source);
    match chain.provide_credentials().await {
        Ok(credentials) => Ok((source.get().unwrap(), credentials)),
        Err(error) => {
            let said: Vec<String> = causes(&error).map(ToString::to_string).collect();
            Err(said.join(": "))
        }
    }
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

#[tokio::test]
async fn a_profile_is_found_in_files_that_variables_name() {
    let keys = |id| format!("aws_access_key_id={id}\naws_secret_access_key=hunter2\n");
    let credentials = file(&format!("[default]\n{}[other]\n{}", keys("ONE"), keys("TWO")));
    let path = credentials.path().to_str().unwrap();
    let place = ("AWS_SHARED_CREDENTIALS_FILE", path);
    let (source, found_keys) = found(&[place]).await.unwrap();
    assert_eq!(source, "a profile of the AWS configuration files");
    assert_eq!(found_keys.access_key_id(), "ONE");
    let (_, other) = found(&[place, ("AWS_PROFILE", "other")]).await.unwrap();
    assert_eq!(other.access_key_id(), "TWO");
    let said = found(&[place, ("AWS_PROFILE", "third")]).await.unwrap_err();
    assert!(said.contains("third") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_program_of_a_profile_gives_keys() {
    let give = r#"echo {\"Version\":1,\"AccessKeyId\":\"GIVEN\",\"SecretAccessKey\":\"hunter2\"}"#;
    let program = file(give);
    let config = file(&format!("[default]\ncredential_process=sh {}\n", program.path().display()));
    let place = ("AWS_CONFIG_FILE", config.path().to_str().unwrap());
    assert_eq!(found(&[place]).await.unwrap().1.access_key_id(), "GIVEN");
    let failing = file("[default]\ncredential_process=sh -c 'echo no certificate >&2; exit 3'\n");
    let place = ("AWS_CONFIG_FILE", failing.path().to_str().unwrap());
    let said = found(&[place]).await.unwrap_err();
    assert!(said.contains("no certificate") && said.contains("configuration files"), "{said}");
}

#[tokio::test]
async fn each_source_says_why_it_has_nothing() {
    let said = found(&[]).await.unwrap_err();
    for words in [
        "the environment: AWS_ACCESS_KEY_ID",
        "there are no keys in profile \"default\"",
        "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are not both set",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI are not set",
        "instance metadata: AWS_EC2_METADATA_DISABLED is true",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[tokio::test]
async fn a_way_to_sign_in_that_needs_a_person_is_named_and_passed_over() {
    let config = file(
        "[default]\nsso_start_url=https://x\nsso_region=eu-west-1\nsso_account_id=1\n\
         sso_role_name=r\n",
    );
    let place = ("AWS_CONFIG_FILE", config.path().to_str().unwrap());
    let said = found(&[place]).await.unwrap_err();
    assert!(said.contains("IAM Identity Center (SSO)"), "{said}");
    assert!(said.contains("AWS_EC2_METADATA_DISABLED"), "the chain went on: {said}");
    assert!(!said.contains("cargo"), "{said}");
}
