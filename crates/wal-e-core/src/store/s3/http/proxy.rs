//! What is said to a proxy, and how it refuses.

use std::error::Error as StdError;
use std::fmt;

use aws_smithy_types::base64;
use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::config::Proxy;
use crate::store::s3::causes::chain;

/// No proxy has more to say before it begins.
const LONGEST_ANSWER: usize = 16 * 1024;

/// A proxy is not there, or does not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::s3) struct ProxyFailure {
    /// Which, with where it was found.
    pub(in crate::store::s3) proxy: String,
    /// The status that it answered.
    pub(in crate::store::s3) status: Option<u16>,
    what: String,
}

impl ProxyFailure {
    pub(super) fn unreachable(proxy: &Proxy, error: &(dyn StdError + 'static)) -> ProxyFailure {
        ProxyFailure { proxy: proxy.to_string(), status: None, what: chain(error) }
    }

    fn answered(proxy: &Proxy, status: Option<u16>, what: String) -> ProxyFailure {
        ProxyFailure { proxy: proxy.to_string(), status, what }
    }
}

impl fmt::Display for ProxyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for ProxyFailure {}

/// The header with user and password.
pub(super) fn authorization(proxy: &Proxy) -> Option<HeaderValue> {
    let (user, password) = proxy.login.as_ref()?;
    let login = base64::encode(format!("{user}:{}", password.expose()));
    let mut value = HeaderValue::from_str(&format!("Basic {login}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Has `proxy` at the other end of `stream` make a way to `host`, which has the brackets of
/// IPv6. What passes after it is for the host alone.
pub(super) async fn tunnel(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<(), ProxyFailure> {
    let broken = |error: std::io::Error| ProxyFailure::unreachable(proxy, &error);
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(value) = authorization(proxy) {
        request.push_str("Proxy-Authorization: ");
        request.push_str(value.to_str().unwrap_or_default());
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;

    let mut answer = Vec::new();
    // One byte at a time: what comes after the answer is not for this.
    while !answer.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) if answer.len() < LONGEST_ANSWER => answer.push(byte),
            Ok(_) => {
                let what = "its answer to CONNECT does not end".to_owned();
                return Err(ProxyFailure::answered(proxy, None, what));
            }
            Err(error) if answer.is_empty() => return Err(broken(error)),
            Err(_) => break,
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let line = answer.lines().next().unwrap_or_default();
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    match status.and_then(|status| status.parse::<u16>().ok()) {
        Some(200..=299) => Ok(()),
        Some(status) => {
            let what = format!("it answered \"{}\" to CONNECT {host}:{port}", short(line));
            Err(ProxyFailure::answered(proxy, Some(status), what))
        }
        None => {
            let what = "what answers there is not an HTTP proxy".to_owned();
            Err(ProxyFailure::answered(proxy, None, what))
        }
    }
}

/// As much of a line as may stand in a message.
fn short(line: &str) -> String {
    let line = line.split_once(' ').map_or(line, |(_, rest)| rest);
    line.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn proxy() -> Proxy {
        Proxy {
            tls: false,
            host: "p".into(),
            port: 3128,
            login: Some(("me".into(), Secret::new("hunter2"))),
            source: "a test".into(),
            from_env_dir: false,
        }
    }

    /// What `tunnel` makes of `answer`, and what it asked.
    async fn asked(answer: &[u8]) -> (Result<(), ProxyFailure>, String) {
        let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
        theirs.write_all(answer).await.unwrap();
        let result = tunnel(&mut ours, &proxy(), "[::1]", 9000).await;
        drop(ours);
        let mut question = String::new();
        theirs.read_to_string(&mut question).await.unwrap();
        (result, question)
    }

    #[tokio::test]
    async fn a_way_is_asked_for_with_the_password() {
        let (result, question) = asked(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
        result.unwrap();
        assert_eq!(
            question,
            "CONNECT [::1]:9000 HTTP/1.1\r\nHost: [::1]:9000\r\n\
             Proxy-Authorization: Basic bWU6aHVudGVyMg==\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn a_refusal_is_told_with_its_status_and_without_the_password() {
        let answer = b"HTTP/1.0 407 Proxy Authentication Required\r\nX: y\r\n\r\n";
        let failure = asked(answer).await.0.unwrap_err();
        assert_eq!(failure.status, Some(407));
        let text = failure.to_string();
        assert_eq!(text, "it answered \"407 Proxy Authentication Required\" to CONNECT [::1]:9000");
        assert!(!format!("{failure:?}").contains("hunter2"));
        for answer in [&b"220 ready\r\n\r\n"[..], b"HTTP/1.1 what\r\n\r\n"] {
            let failure = asked(answer).await.0.unwrap_err();
            assert_eq!(failure.status, None);
            assert!(failure.to_string().contains("not an HTTP proxy"), "{failure}");
        }
        let endless = vec![b'x'; LONGEST_ANSWER + 1];
        assert!(asked(&endless).await.0.unwrap_err().to_string().contains("does not end"));
    }
}
