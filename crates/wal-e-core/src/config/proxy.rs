//! Proxies on the way to S3, as other programs take them from the environment.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{Secret, Setting, Variable, Variables};
use crate::error::{Error, ErrorKind, Result};

/// The proxies for each kind of request, and the hosts that are reached without one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    direct: Vec<Direct>,
}

/// A server that passes requests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Whether it is spoken to over TLS itself.
    pub tls: bool,
    /// Its name or address, without the brackets of IPv6.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User and password for it.
    pub login: Option<(String, Secret)>,
    /// Where it was found, for messages: `HTTPS_PROXY in the environment`.
    pub source: String,
    /// Whether that is an envdir directory.
    pub from_env_dir: bool,
}

impl Proxies {
    /// The one of `given`, which is what a setting says, else those of the variables
    /// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`. "none" as `given` means no proxy at all.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a proxy that cannot be meant, and for a password in `given`.
    pub fn resolve(given: Option<&str>, variables: &Variables) -> Result<Proxies> {
        match given {
            Some("none") => Ok(Proxies::default()),
            Some(url) => {
                let proxy = given_proxy(url)?;
                Ok(Proxies { http: Some(proxy.clone()), https: Some(proxy), direct: Vec::new() })
            }
            None => Ok(Proxies {
                http: from_variable(variables, "http_proxy")?,
                https: from_variable(variables, "https_proxy")?,
                direct: match either_case(variables, "no_proxy") {
                    Some((found, _)) => no_proxy(&found.value),
                    None => Vec::new(),
                },
            }),
        }
    }

    /// The proxy for requests to a URL of `http` or `https`.
    pub fn for_url(&self, url: &str) -> Option<&Proxy> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        let tls = scheme == "https";
        let (host, port) = host_and_port(rest.split('/').next().unwrap_or_default())?;
        self.on_the_way(tls, host, port.unwrap_or(if tls { 443 } else { 80 }))
    }

    /// The proxy for a request to `host`, which may have the brackets of IPv6.
    pub fn on_the_way(&self, tls: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if tls { &self.https } else { &self.http }.as_ref()?;
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let address = host.parse::<IpAddr>().ok();
        let direct = address.is_some_and(is_metadata)
            || self.direct.iter().any(|direct| direct.covers(host, address, port));
        (!direct).then_some(proxy)
    }
}

/// Whether a value of the setting can be used; empty can.
///
/// # Errors
/// [`ErrorKind::Config`] when it cannot.
pub fn check_proxy(value: &str) -> Result<()> {
    if matches!(value, "" | "none") { Ok(()) } else { given_proxy(value).map(|_| ()) }
}

/// A setting can be read in the database, and an option by every user of the machine.
fn given_proxy(url: &str) -> Result<Proxy> {
    let proxy = Proxy::parse(url, Setting::S3Proxy.to_string())?;
    if proxy.login.is_some() {
        let message = format!("{} holds a user or a password", Setting::S3Proxy);
        return Err(Error::new(ErrorKind::Config, message).with_hint(format!(
            "Put the proxy with its user and password into the file HTTPS_PROXY (or HTTP_PROXY, \
             for an endpoint that begins with \"http://\") in the directory of {}, and leave {} \
             empty.",
            Setting::EnvDir,
            Setting::S3Proxy
        )));
    }
    Ok(proxy)
}

/// The variable in lower case, else in upper case, and the place that it is in.
fn either_case(variables: &Variables, lower: &str) -> Option<(Variable, String)> {
    variables.places.iter().find_map(|place| {
        let found = place.variable(lower.to_owned());
        let found = found.or_else(|| place.variable(lower.to_ascii_uppercase()))?;
        Some((found, place.describe()))
    })
}

fn from_variable(variables: &Variables, lower: &str) -> Result<Option<Proxy>> {
    let Some((found, place)) = either_case(variables, lower) else { return Ok(None) };
    let proxy = Proxy::parse(&found.value, format!("{} in {place}", found.name))?;
    Ok(Some(Proxy { from_env_dir: found.from_env_dir, ..proxy }))
}

impl Proxy {
    /// `http://host:port`, `https://host:port`, either with `user:password@`, or `host:port`.
    fn parse(text: &str, source: String) -> Result<Proxy> {
        // The value may hold a password: it is never repeated.
        let hint = match text.contains('@') {
            false => "A proxy looks like \"http://host:port\".",
            true => {
                "A proxy looks like \"http://user:password@host:port\"; in the password \"/\" is \
                 written as \"%2F\", \"?\" as \"%3F\", \"#\" as \"%23\" and \"@\" as \"%40\"."
            }
        };
        let malformed = |detail: &str| {
            Error::new(ErrorKind::Config, format!("invalid proxy in {source}"))
                .with_detail(detail.to_owned())
                .with_hint(hint)
        };
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("http", text.trim()));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            "socks4" | "socks4a" | "socks5" | "socks5h" => {
                return Err(malformed("SOCKS is not supported: it must be an HTTP proxy."));
            }
            _ => return Err(malformed("It begins neither with \"http\" nor with \"https\".")),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, authority),
        };
        let (host, port) =
            host_and_port(address).ok_or_else(|| malformed("Its port is not a number."))?;
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(malformed("It names no host."));
        }
        let login = login.map(|login| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            (decoded(user), Secret::new(decoded(password)))
        });
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        Ok(Proxy { tls, host: host.to_owned(), port, login, source, from_env_dir: false })
    }

    /// Its URL without user and password.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        match self.host.contains(':') {
            true => format!("{scheme}://[{}]:{}", self.host, self.port),
            false => format!("{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" ({})", self.url(), self.source)
    }
}

/// `None` for a port that is not a number.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            None => after.is_empty().then_some((host, None)),
            Some(port) => Some((host, Some(port.parse().ok()?))),
        };
    }
    match text.split_once(':') {
        // An IPv6 address without brackets.
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
        None => Some((text, None)),
    }
}

/// `%41` is `A`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%').then(|| after.get(..2)).flatten();
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where machines ask for their own keys: Amazon's addresses for it are of the link or of
/// the instance alone, and no proxy may see what they answer.
fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[..2] == [0xfd00, 0x0ec2],
    }
}

/// An entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Direct {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    /// An address, and how many bits of it count.
    Network(IpAddr, u32),
    /// A name and all below it.
    Domain(String),
}

fn no_proxy(list: &str) -> Vec<Direct> {
    let entries = list.split([',', ' ', '\t', '\n']).filter(|entry| !entry.is_empty());
    entries.filter_map(|entry| entry.parse().ok()).collect()
}

impl FromStr for Direct {
    type Err = ();

    fn from_str(entry: &str) -> std::result::Result<Self, ()> {
        if entry == "*" {
            return Ok(Direct { hosts: Hosts::All, port: None });
        }
        let (entry, bits) = match entry.rsplit_once('/') {
            Some((entry, bits)) => (entry, Some(bits.parse::<u32>().map_err(|_| ())?)),
            None => (entry, None),
        };
        let (host, port) = host_and_port(entry).ok_or(())?;
        let hosts = match (host.parse::<IpAddr>(), bits) {
            (Ok(address), bits) => {
                let all = if address.is_ipv4() { 32 } else { 128 };
                Hosts::Network(address, bits.unwrap_or(all).min(all))
            }
            (Err(_), Some(_)) => return Err(()),
            (Err(_), None) => {
                let name = host.trim_start_matches('*').trim_matches('.').to_ascii_lowercase();
                if name.is_empty() {
                    return Err(());
                }
                Hosts::Domain(name)
            }
        };
        Ok(Direct { hosts, port })
    }
}

impl Direct {
    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        match (&self.hosts, address) {
            (Hosts::All, _) => true,
            (Hosts::Network(network, bits), Some(address)) => {
                same_network(*network, address, *bits)
            }
            (Hosts::Network(..), None) => false,
            (Hosts::Domain(name), _) => {
                let host = host.to_ascii_lowercase();
                let below = host.strip_suffix(name.as_str());
                below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
        }
    }
}

fn same_network(network: IpAddr, address: IpAddr, bits: u32) -> bool {
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let shift = 32 - bits.min(32);
            (u64::from(a.to_bits()) >> shift) == (u64::from(b.to_bits()) >> shift)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let differ = a.to_bits() ^ b.to_bits();
            differ.leading_zeros() >= bits
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
