//! Whether a certificate is one for the host that was named.

use std::net::IpAddr;

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Dns(String),
    /// Four bytes or sixteen.
    Ip(Vec<u8>),
}

/// When the common name of a certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommonName {
    /// Where there is no alternative name, as OpenSSL and curl have it for web servers.
    WithoutOthers,
    /// Where no alternative name is of the host's kind, a name or an address, as libpq has it
    /// (PostgreSQL 18, `src/interfaces/libpq/fe-secure-openssl.c`,
    /// `pgtls_verify_peer_name_matches_certificate_guts`).
    WithoutOthersOfItsKind,
}

/// # Errors
/// The names that it has instead, in words.
pub(super) fn check(
    names: &[Name],
    common_name: Option<&str>,
    counts: CommonName,
    host: &str,
) -> Result<(), String> {
    if is_for(names, common_name, counts, host) {
        return Ok(());
    }
    let mut presented: Vec<String> = names.iter().map(describe).collect();
    if presented.is_empty() {
        presented.extend(common_name.map(str::to_owned));
    }
    Err(match presented.is_empty() {
        true => format!("the server's certificate is not for host \"{host}\": it names none"),
        false => format!(
            "the server's certificate is for \"{}\", not for host \"{host}\"",
            presented.join("\", \"")
        ),
    })
}

fn is_for(names: &[Name], common_name: Option<&str>, counts: CommonName, host: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    let octets = address.map(|address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    });
    let matches = |name: &Name| match name {
        Name::Dns(name) => matches_name(name, host),
        Name::Ip(bytes) => octets.as_ref() == Some(bytes),
    };
    let same_kind = |name: &Name| matches!(name, Name::Ip(_)) == address.is_some();
    let common_name_counts = match counts {
        CommonName::WithoutOthers => names.is_empty(),
        CommonName::WithoutOthersOfItsKind => !names.iter().any(same_kind),
    };
    names.iter().any(matches)
        || (common_name_counts && common_name.is_some_and(|name| matches_name(name, host)))
}

/// A `*` at the beginning stands for one label.
fn matches_name(name: &str, host: &str) -> bool {
    if name.contains('\0') {
        return false;
    }
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(domain) = name.strip_prefix('*').filter(|domain| domain.starts_with('.')) else {
        return false;
    };
    match host.find('.') {
        Some(label) => label > 0 && host[label..].eq_ignore_ascii_case(domain),
        None => false,
    }
}

fn describe(name: &Name) -> String {
    match name {
        Name::Dns(name) => name.clone(),
        Name::Ip(bytes) => match <[u8; 4]>::try_from(bytes.as_slice()) {
            Ok(octets) => IpAddr::from(octets).to_string(),
            Err(_) => match <[u8; 16]>::try_from(bytes.as_slice()) {
                Ok(octets) => IpAddr::from(octets).to_string(),
                Err(_) => "an address".to_owned(),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(name: &str) -> Name {
        Name::Dns(name.to_owned())
    }

    #[test]
    fn a_name_is_the_host_s_or_has_a_star_for_its_first_label() {
        for (name, host, expected) in [
            ("db.example", "DB.example", true),
            ("*.example", "db.example", true),
            ("*.example", "a.db.example", false),
            ("*.example", "example", false),
            ("*.example", ".example", false),
            ("*", "db", false),
            ("d*.example", "db.example", false),
            ("db.example\0.evil", "db.example", false),
        ] {
            assert_eq!(matches_name(name, host), expected, "{name} {host}");
        }
    }

    #[test]
    fn the_common_name_counts_where_no_other_name_is_of_its_kind() {
        let is_for = |names: &[Name], common_name: Option<&str>, host: &str| {
            is_for(names, common_name, CommonName::WithoutOthersOfItsKind, host)
        };
        let ip = Name::Ip(vec![127, 0, 0, 1]);
        assert!(is_for(&[], Some("db"), "db"));
        assert!(!is_for(&[dns("other")], Some("db"), "db"));
        assert!(is_for(std::slice::from_ref(&ip), Some("db"), "db"));
        assert!(is_for(std::slice::from_ref(&ip), None, "127.0.0.1"));
        assert!(!is_for(&[ip], Some("127.0.0.2"), "127.0.0.2"));
        assert!(is_for(&[dns("db")], Some("::1"), "::1"));
        assert!(is_for(&[dns("127.0.0.1")], None, "127.0.0.1"));
        assert!(!is_for(&[], None, "db"));
    }

    #[test]
    fn or_it_counts_where_there_is_no_other_name() {
        let is_for =
            |names: &[Name], host: &str| is_for(names, Some(host), CommonName::WithoutOthers, host);
        assert!(is_for(&[], "s3") && is_for(&[], "127.0.0.1"));
        assert!(!is_for(&[dns("other")], "127.0.0.1"));
        assert!(!is_for(&[Name::Ip(vec![127, 0, 0, 1])], "s3"));
        assert!(is_for(&[dns("other"), dns("s3")], "s3"));
    }
}
