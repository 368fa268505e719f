//! The address of an S3 server that is not AWS, in the forms of WAL-E, WAL-G
//! and the AWS SDKs.

use std::net::Ipv6Addr;
use std::num::NonZero;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// Where the server is, and how it wants the bucket to be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://host:port`, without a slash at its end.
    pub url: String,
    /// What WAL-E's form says of it: `https+path://` or `https+virtualhost://`.
    pub force_path_style: Option<bool>,
}

impl FromStr for Endpoint {
    type Err = Error;

    /// `https://host:port`, `http://host:port`, either with WAL-E's calling
    /// convention (`https+path://`, `https+virtualhost://`,
    /// `https+subdomain://`), or `host:port`, which is `https` as in WAL-G.
    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        // It may hold a password where none belongs: it is not repeated then.
        let shown = match text.find(['@', '?', '#']) {
            Some(_) if text.contains('@') => "with a user name",
            Some(end) => &text[..end],
            None => text,
        };
        let malformed = |detail: &str| {
            Error::new(ErrorKind::Config, format!("invalid S3 endpoint \"{shown}\""))
                .with_detail(detail.to_owned())
                .with_hint(
                    "An endpoint looks like \"https://host:port\", or as in WAL-E like \"https+path://host:port\".",
                )
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        let scheme = &*scheme.to_ascii_lowercase();
        let (protocol, convention) = match scheme.split_once('+') {
            Some((protocol, convention)) => (protocol, Some(convention)),
            None => (scheme, None),
        };
        if !matches!(protocol, "http" | "https") {
            return Err(malformed("It begins neither with \"http\" nor with \"https\"."));
        }
        let force_path_style = match convention {
            None => None,
            Some("path") => Some(true),
            Some("virtualhost" | "subdomain") => Some(false),
            Some(_) => return Err(malformed("Its calling convention is not known.")),
        };
        let rest = rest.trim_end_matches('/');
        let host = rest.split('/').next().unwrap_or_default();
        if host.is_empty() || host.starts_with(':') {
            return Err(malformed("It names no host."));
        }
        if host.contains('@') {
            return Err(malformed("Credentials do not belong there."));
        }
        if rest.contains(['?', '#', ' ', '\t', '\n']) {
            return Err(malformed("It has more than a host, a port and a path."));
        }
        let (name, port) =
            split_port(host).ok_or_else(|| malformed("Its port is not a number."))?;
        if port.is_some_and(|port| port.parse::<NonZero<u16>>().is_err()) {
            return Err(malformed("Its port is not a number from 1 to 65535."));
        }
        let is_known = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_address = name.parse::<Ipv6Addr>().is_ok() && host.starts_with('[');
        if !is_address && !name.chars().all(is_known) {
            return Err(malformed("Its host is neither a name in ASCII nor an address."));
        }
        Ok(Endpoint { url: format!("{protocol}://{rest}"), force_path_style })
    }
}

/// The host, without the brackets of IPv6, and what follows a colon.
fn split_port(host: &str) -> Option<(&str, Option<&str>)> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    match port {
        "" => Some((name, None)),
        port => Some((name, Some(port.strip_prefix(':')?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood() {
        for (text, url, force_path_style) in [
            ("https://host:9000", "https://host:9000", None),
            ("http://host/", "http://host", None),
            ("https://host/storage/v1/s3", "https://host/storage/v1/s3", None),
            ("http+path://host:9000", "http://host:9000", Some(true)),
            ("https+path://host:443", "https://host:443", Some(true)),
            ("https+virtualhost://host", "https://host", Some(false)),
            ("https+subdomain://host:1", "https://host:1", Some(false)),
            ("http://[::1]:9000", "http://[::1]:9000", None),
            ("host:9000", "https://host:9000", None),
            (" HTTP://host:9000/ \n", "http://host:9000", None),
            ("HTTPS+Path://host", "https://host", Some(true)),
            ("[::1]:9000", "https://[::1]:9000", None),
        ] {
            let expected = Endpoint { url: url.to_owned(), force_path_style };
            assert_eq!(text.parse::<Endpoint>().unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn malformed_endpoints_are_refused_without_repeating_a_password() {
        for text in [
            "",
            "https://",
            "https://:9000",
            "ftp://host",
            "https+tunnel://host",
            "https://host?x=y",
            "https://user:hunter2@host",
            "user:hunter2@host",
            "https://host/?token=hunter2",
            "http:/host",
            "http://host:port",
            "http://host:99999",
            "http://[::1:9000",
            "http://[::1]9000",
            "http://h%C3%B6st",
            "http://h\u{f6}st",
            "::1",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.hint().is_some() && !format!("{error:?}").contains("hunter2"), "{text}");
        }
    }
}
