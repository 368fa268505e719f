//! The way to the server, as far as the settings say it.

use super::http::Tls;
use crate::config::S3Config;
use crate::error::Result;
use crate::store::Ability;

/// What is between this machine and the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    /// The proxy that requests go through.
    pub(super) proxy: Option<String>,
    /// How many certificates are trusted, and where they are; nothing without TLS.
    pub(super) trusted: Option<(usize, String)>,
}

impl Way {
    /// Reads the certificates that are trusted, when they are needed.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] when they are needed and there are none.
    pub(super) fn find(config: &S3Config, tls: &Tls) -> Result<Way> {
        let url = config.endpoint.as_deref().unwrap_or("https://s3.amazonaws.com");
        let is_tls = url.starts_with("https://");
        let proxy = config.proxies.for_url(url).map(ToString::to_string);
        let place = match &config.ca_file {
            Some(file) => format!("\"{}\"", file.display()),
            None => "the system's certificates".to_owned(),
        };
        let trusted = if is_tls { Some((tls.trusted()?, place)) } else { None };
        Ok(Way { proxy, trusted })
    }

    /// For a person.
    pub(super) fn describe(&self) -> Vec<Ability> {
        let proxy = match &self.proxy {
            Some(proxy) => format!("requests go through the proxy {proxy}"),
            None => "requests go straight to the server".to_owned(),
        };
        let certificates = match &self.trusted {
            Some((1, place)) => format!("one certificate is trusted, from {place}"),
            Some((count, place)) => format!("{count} certificates are trusted, from {place}"),
            None => "not needed: the endpoint begins with \"http://\"".to_owned(),
        };
        vec![Ability::used("proxy", proxy), Ability::used("certificates", certificates)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AwsVariables, Proxies, Variables};

    fn way(endpoint: &str) -> Way {
        let proxies = Proxies::resolve(Some("http://p:3128"), &Variables::default()).unwrap();
        let config = S3Config {
            endpoint: Some(endpoint.to_owned()),
            proxies,
            ..S3Config::new("bucket", "")
        };
        Way::find(&config, &Tls::new(None, &AwsVariables::default())).unwrap()
    }

    #[test]
    fn the_proxy_of_the_endpoint_is_named() {
        let way = way("http://[::1]:9000/s3");
        let rows = way.describe();
        assert!(rows[0].detail.contains("through the proxy \"http://p:3128\""), "{rows:?}");
        assert!(rows[1].detail.starts_with("not needed"), "{rows:?}");
        let way = self::way("http://169.254.169.254/");
        assert_eq!(way.proxy, None);
    }
}
