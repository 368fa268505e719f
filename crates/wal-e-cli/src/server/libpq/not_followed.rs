//! What libpq can do and this program cannot.

use wal_e_core::Result;

use super::keywords::Parameter;
use super::parameters::Parameters;

/// Refuses what would connect elsewhere, or with less safety, if it were left out; warns of
/// what changes nothing.
pub fn check(parameters: &Parameters, warnings: &mut Vec<String>) -> Result<()> {
    let refuse = |given: &Parameter, why: &str, hint: &str| {
        let message = format!("{} cannot be followed: {why}", given.name);
        Err(super::refused(message).with_hint(hint))
    };
    if let Some(given) = parameters.get("gssencmode") {
        match given.value.as_str() {
            "disable" | "prefer" => {}
            "require" => {
                return refuse(
                    given,
                    "connections are not encrypted with GSSAPI",
                    "Encrypt the connection with PGSSLMODE, or use a Unix-domain socket.",
                );
            }
            _ => return Err(given.invalid().with_hint("It must be disable, prefer or require.")),
        }
    }
    if let Some(given) = parameters.get("min_protocol_version")
        && given.value != "3.0"
    {
        return refuse(given, "version 3.0 of the protocol is spoken", "Set it to 3.0.");
    }
    for keyword in ["scram_client_key", "scram_server_key"] {
        if let Some(given) = parameters.get(keyword) {
            return refuse(given, "a password is needed", "Put the password into ~/.pgpass.");
        }
    }
    for (keyword, why) in [
        ("authtype", "PostgreSQL does not know it any more"),
        ("gssdelegation", "it does not authenticate with GSSAPI"),
        ("gsslib", "it does not authenticate with GSSAPI"),
        ("krbsrvname", "it does not authenticate with Kerberos"),
        ("oauth_client_id", "it does not authenticate with OAuth"),
        ("oauth_client_secret", "it does not authenticate with OAuth"),
        ("oauth_issuer", "it does not authenticate with OAuth"),
        ("oauth_scope", "it does not authenticate with OAuth"),
        ("sslcompression", "connections are never compressed"),
        ("sslkeylogfile", "keys of connections are not written down"),
    ] {
        if let Some(given) = parameters.get(keyword).filter(|given| given.value != "0") {
            warnings.push(format!("{} is not followed by wal-e: {why}", given.name));
        }
    }
    let encoding = parameters.get("client_encoding");
    let is_ours = |given: &&Parameter| {
        let plain = given.value.to_ascii_lowercase().replace(['-', '_'], "");
        !["utf8", "unicode", "auto"].contains(&plain.as_str())
    };
    if let Some(given) = encoding.filter(is_ours) {
        warnings.push(format!(
            "{} is not followed by wal-e: it speaks UTF-8 to the server",
            given.name
        ));
    }
    Ok(())
}
