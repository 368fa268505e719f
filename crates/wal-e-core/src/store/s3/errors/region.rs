//! The region that a server names when it is asked in another one.

use super::Failure;

/// No region has a longer name.
const LONGEST_NAME: usize = 40;

/// The region that a request should be signed for, where the server refuses it because it
/// was signed for another one and says which is right.
pub(in super::super) fn named_region(failure: &Failure) -> Option<&str> {
    let Failure::Answered(answer) = failure else { return None };
    let elsewhere = match answer.code.as_deref() {
        Some(
            "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"
            | "IncorrectEndpoint"
            | "InvalidRegion"
            | "PermanentRedirect"
            | "Redirect"
            | "TemporaryRedirect",
        ) => true,
        Some(_) => false,
        // An answer to HEAD has no body, and so no code.
        None => matches!(answer.status, 301 | 307 | 308 | 400),
    };
    if !elsewhere {
        return None;
    }
    let expected = || expected_region(answer.message.as_deref()?);
    let of_host = || region_of_host(answer.redirect_host.as_deref()?);
    answer.bucket_region.as_deref().or_else(expected).or_else(of_host).filter(|name| is_name(name))
}

/// What may stand in a host name: it comes from outside.
fn is_name(region: &str) -> bool {
    !region.is_empty()
        && region.len() <= LONGEST_NAME
        && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The region in "the region 'A' is wrong; expecting 'B'", or in "The B location constraint is
/// incompatible".
fn expected_region(message: &str) -> Option<&str> {
    if let Some((_, rest)) = message.split_once("expecting '") {
        return rest.split_once('\'').map(|(region, _)| region);
    }
    let (region, _) = message.strip_prefix("The ")?.split_once(" location constraint is")?;
    // Of a bucket that was created without one.
    (region != "unspecified").then_some(region)
}

/// The region in a name of Amazon's: `bucket.s3.REGION.amazonaws.com`, `s3-REGION.amazonaws.com`.
fn region_of_host(host: &str) -> Option<&str> {
    let name = host.strip_suffix(".amazonaws.com")?;
    let (_, last) = name.rsplit_once('.').unwrap_or(("", name));
    match last.strip_prefix("s3-") {
        Some(region) => Some(region),
        None if name.ends_with(&format!("s3.{last}")) => Some(last),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::s3::errors::Answer;

    #[test]
    fn the_region_is_found_wherever_the_server_names_it() {
        let some = |text: &str| Some(text.to_owned());
        for (answer, region) in [
            (
                Answer {
                    code: some("AuthorizationHeaderMalformed"),
                    message: some("the region 'a-1' is wrong; expecting 'b-1'"),
                    ..Answer::default()
                },
                Some("b-1"),
            ),
            (
                Answer {
                    code: some("IllegalLocationConstraintException"),
                    message: some("The c-1 location constraint is incompatible for the region."),
                    ..Answer::default()
                },
                Some("c-1"),
            ),
            (
                Answer {
                    code: some("IllegalLocationConstraintException"),
                    message: some("The unspecified location constraint is incompatible."),
                    ..Answer::default()
                },
                None,
            ),
            (
                Answer {
                    code: some("PermanentRedirect"),
                    redirect_host: some("bucket.s3.eu-west-1.amazonaws.com"),
                    ..Answer::default()
                },
                Some("eu-west-1"),
            ),
            (
                Answer {
                    code: some("TemporaryRedirect"),
                    redirect_host: some("s3-us-west-2.amazonaws.com"),
                    ..Answer::default()
                },
                Some("us-west-2"),
            ),
            (
                Answer { status: 400, bucket_region: some("garage"), ..Answer::default() },
                Some("garage"),
            ),
            (
                Answer {
                    status: 301,
                    redirect_host: some("minio.local:9000"),
                    ..Answer::default()
                },
                None,
            ),
            (
                Answer {
                    status: 301,
                    redirect_host: some("s3.amazonaws.com"),
                    ..Answer::default()
                },
                None,
            ),
            (
                Answer { status: 301, bucket_region: some("evil.example/"), ..Answer::default() },
                None,
            ),
            // Amazon's servers say it in each answer.
            (
                Answer {
                    status: 403,
                    code: some("AccessDenied"),
                    bucket_region: some("eu-1"),
                    ..Answer::default()
                },
                None,
            ),
            (Answer { status: 403, bucket_region: some("eu-1"), ..Answer::default() }, None),
        ] {
            let failure = Failure::Answered(answer);
            assert_eq!(named_region(&failure), region, "{failure:?}");
        }
    }
}
