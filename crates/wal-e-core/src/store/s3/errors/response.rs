//! What an answer says besides its code and message.

use std::time::{Duration, SystemTime};

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::Answer;
use crate::store::s3::causes::one_line;

/// The answer to a request that failed, as far as headers and body say it.
pub(super) fn answer(response: &HttpResponse) -> Answer {
    let header = |name| response.headers().get(name).map(one_line);
    let body = response.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
    let host =
        header("location").as_deref().and_then(host_of).or_else(|| element(&body, "Endpoint"));
    Answer {
        status: response.status().as_u16(),
        code: element(&body, "Code"),
        message: element(&body, "Message").or_else(|| plain_text(&body)),
        bucket_region: header("x-amz-bucket-region").or_else(|| element(&body, "Region")),
        redirect_host: host,
        from_proxy: is_of_proxy(response),
        is_page: header("content-type").is_some_and(|kind| kind.starts_with("text/html")),
        retry_after: header("retry-after").and_then(|value| wait(&value, SystemTime::now())),
        ..Answer::default()
    }
}

/// Whether headers say that a proxy answers, and not the server.
fn is_of_proxy(response: &HttpResponse) -> bool {
    let headers = response.headers();
    let server = headers.get("server").unwrap_or_default().to_ascii_lowercase();
    ["x-squid-error", "proxy-status", "proxy-authenticate", "proxy-connection"]
        .into_iter()
        .any(|name| headers.get(name).is_some())
        || ["squid", "tinyproxy", "privoxy", "proxy"].iter().any(|name| server.contains(name))
}

/// What stands between the tags `name`. Enough for the one-level documents of
/// errors, also for those that the SDK does not read.
fn element(body: &str, name: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once(&format!("</{name}>"))?;
    Some(one_line(content)).filter(|content| !content.is_empty())
}

/// The words of a server or a proxy that does not answer in XML.
fn plain_text(body: &str) -> Option<String> {
    let text = one_line(body);
    (!text.is_empty() && !text.contains('<')).then_some(text)
}

fn host_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?']).next()?;
    (!host.is_empty() && !host.contains('@')).then(|| host.to_owned())
}

/// `Retry-After`: seconds, or the time of day until which to wait.
fn wait(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = OffsetDateTime::parse(&value.replace("GMT", "+0000"), &Rfc2822).ok()?;
    SystemTime::from(until).duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_plain_words_are_read() {
        let body =
            "<?xml version=\"1.0\"?><Error><Code>A</Code><Region>eu-1</Region><Endpoint/></Error>";
        assert_eq!(element(body, "Region").as_deref(), Some("eu-1"));
        assert_eq!(element(body, "Endpoint"), None);
        assert_eq!(element("", "Code"), None);
        assert_eq!(plain_text(body), None);
        assert_eq!(plain_text("Not\n here. ").as_deref(), Some("Not here."));
        assert_eq!(plain_text(""), None);
    }

    #[test]
    fn the_host_of_a_redirect_is_read() {
        assert_eq!(
            host_of("https://b.s3.eu-1.amazonaws.com/k?x").as_deref(),
            Some("b.s3.eu-1.amazonaws.com")
        );
        for none in ["/k", "", "https:///k", "https://user:hunter2@host/"] {
            assert_eq!(host_of(none), None, "{none}");
        }
    }

    #[test]
    fn a_wait_is_given_in_seconds_or_as_a_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 90);
        assert_eq!(wait("7", now), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(90)));
        assert_eq!(wait("Sat, 05 Nov 1994 08:49:37 GMT", now), None);
        for none in ["", "soon", "-1"] {
            assert_eq!(wait(none, now), None, "{none}");
        }
    }
}
