//! Whether and how a connection over TCP is encrypted.
//!
//! PostgreSQL 18, `src/interfaces/libpq/fe-connect.c`, `pqConnectOptions2`, and
//! `fe-secure-openssl.c`, `initialize_SSL`.

use std::path::PathBuf;

use wal_e_core::Result;

use super::keywords::Parameter;
use super::parameters::Parameters;
use super::refused;

/// The value of `sslrootcert` that means the certificates of the system.
const SYSTEM: &str = "system";

/// `sslmode`, from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// Never encrypted.
    Disable,
    /// Encrypted when the server takes no other.
    Allow,
    /// Encrypted when the server can.
    Prefer,
    /// Encrypted.
    Require,
    /// And the server has a certificate that is trusted.
    VerifyCa,
    /// And it is one for the host that was named.
    VerifyFull,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Whether a certificate of our own is sent: `sslcertmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateUse {
    /// Never.
    Disable,
    /// When there is one and the server asks for it.
    Allow,
    /// The server has to ask for it.
    Require,
}

/// How a connection is encrypted.
pub struct TlsOptions {
    /// Whether it is, and what is verified.
    pub mode: TlsMode,
    /// Whether it begins with TLS, instead of asking the server first.
    pub direct: bool,
    /// Which certificates are trusted.
    pub roots: Roots,
    /// Lists of revoked certificates: a file, and a directory of files.
    pub revoked: (Option<PathBuf>, Option<PathBuf>),
    /// Our own certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whether it is sent.
    pub certificate_use: CertificateUse,
    /// Whether the server is told by which name it was called.
    pub server_name: bool,
    /// Versions that may be used.
    pub versions: (TlsVersion, TlsVersion),
}

/// Where the certificates are that are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// There are none: nothing is verified.
    None,
    /// Those of the system.
    System,
    /// In a file.
    File(PathBuf),
}

impl TlsOptions {
    /// There is no TLS.
    const NONE: TlsOptions = TlsOptions {
        mode: TlsMode::Disable,
        direct: false,
        roots: Roots::None,
        revoked: (None, None),
        certificate: None,
        certificate_use: CertificateUse::Disable,
        server_name: true,
        versions: (TlsVersion::V1_2, TlsVersion::V1_3),
    };

    /// Whether a connection over TCP may be encrypted.
    pub fn is_used(&self) -> bool {
        self.mode != TlsMode::Disable
    }
}

/// Reads them. They do not count at a Unix-domain socket, so without a server `over_tcp`
/// there need not be any of the files.
///
/// # Errors
/// When they contradict each other, or name a file that has to be there and is not.
pub fn read(parameters: &Parameters, over_tcp: bool) -> Result<TlsOptions> {
    let root_certificate = parameters.get("sslrootcert");
    let from_system = root_certificate.is_some_and(|given| given.value == SYSTEM);
    let usual = if from_system { TlsMode::VerifyFull } else { TlsMode::Prefer };
    let mode = parameters.choice(
        "sslmode",
        &[
            ("disable", TlsMode::Disable),
            ("allow", TlsMode::Allow),
            ("prefer", TlsMode::Prefer),
            ("require", TlsMode::Require),
            ("verify-ca", TlsMode::VerifyCa),
            ("verify-full", TlsMode::VerifyFull),
        ],
        usual,
    )?;
    if !over_tcp {
        return Ok(TlsOptions::NONE);
    }
    let weak = |with: &str, needed: &str| {
        let name = parameters.get("sslmode").map_or("sslmode \"prefer\"", |given| &given.name);
        Err(refused(format!("{name} is too weak for {with}"))
            .with_hint(format!("Set PGSSLMODE to {needed}.")))
    };
    if from_system && mode != TlsMode::VerifyFull {
        return weak("the certificates of the system (sslrootcert=system)", "verify-full");
    }
    let direct =
        parameters.choice("sslnegotiation", &[("postgres", false), ("direct", true)], false)?;
    if direct && mode < TlsMode::Require {
        return weak("direct negotiation of TLS", "require, verify-ca or verify-full");
    }
    let file = |keyword| parameters.text(keyword).map(PathBuf::from);
    Ok(TlsOptions {
        mode,
        direct,
        roots: roots(parameters, root_certificate, mode)?,
        revoked: revoked(parameters, file("sslcrl"), file("sslcrldir")),
        certificate: certificate(parameters)?,
        certificate_use: parameters.choice(
            "sslcertmode",
            &[
                ("disable", CertificateUse::Disable),
                ("allow", CertificateUse::Allow),
                ("require", CertificateUse::Require),
            ],
            CertificateUse::Allow,
        )?,
        server_name: parameters.text("sslsni") != Some("0"),
        versions: versions(parameters)?,
    })
}

/// A file that is there is used in every mode.
fn roots(parameters: &Parameters, given: Option<&Parameter>, mode: TlsMode) -> Result<Roots> {
    let file = match given {
        Some(given) if given.value == SYSTEM => return Ok(Roots::System),
        Some(given) => Some(PathBuf::from(&given.value)),
        None => parameters.own_file(".postgresql/root.crt"),
    };
    match file {
        Some(file) if file.exists() => Ok(Roots::File(file)),
        _ if mode < TlsMode::VerifyCa => Ok(Roots::None),
        file => {
            let file =
                file.map_or("~/.postgresql/root.crt".into(), |file| file.display().to_string());
            Err(refused(format!("root certificate file \"{file}\" does not exist")).with_hint(
                "Name the file with PGSSLROOTCERT, or set it to system for the certificates that this system trusts.",
            ))
        }
    }
}

/// The user's own file when none is named.
fn revoked(
    parameters: &Parameters,
    file: Option<PathBuf>,
    directory: Option<PathBuf>,
) -> (Option<PathBuf>, Option<PathBuf>) {
    let own = || parameters.own_file(".postgresql/root.crl").filter(|file| file.exists());
    match (file, directory) {
        (None, None) => (own(), None),
        named => named,
    }
}

/// Ours is not there more often than it is.
fn certificate(parameters: &Parameters) -> Result<Option<(PathBuf, PathBuf)>> {
    let file = |keyword, own| {
        let given = parameters.text(keyword).map(PathBuf::from);
        given.or_else(|| parameters.own_file(own))
    };
    if let Some(secret) = parameters.get("sslpassword") {
        return Err(refused(format!(
            "{} cannot be followed: keys that are encrypted cannot be read",
            secret.name
        ))
        .with_hint(
            "Name a key that is not encrypted, and that only this user may read, with PGSSLKEY.",
        ));
    }
    let certificate = file("sslcert", ".postgresql/postgresql.crt").filter(|file| file.exists());
    let key = file("sslkey", ".postgresql/postgresql.key");
    if let Some(given) = parameters.get("sslkey")
        && !given.value.starts_with('/')
        && given.value.contains(':')
    {
        return Err(refused(format!(
            "{} cannot be followed: keys in hardware (\"ENGINE:KEY\") cannot be used",
            given.name
        ))
        .with_hint("Name the file of a key."));
    }
    Ok(certificate.zip(key))
}

fn versions(parameters: &Parameters) -> Result<(TlsVersion, TlsVersion)> {
    const OLD: Option<TlsVersion> = None;
    let words = [
        ("TLSv1", OLD),
        ("TLSv1.1", OLD),
        ("TLSv1.2", Some(TlsVersion::V1_2)),
        ("TLSv1.3", Some(TlsVersion::V1_3)),
    ];
    // Versions before 1.2 are not spoken, which is more than was asked for.
    let least = parameters.choice("ssl_min_protocol_version", &words, OLD)?;
    let least = least.unwrap_or(TlsVersion::V1_2);
    let most = parameters.choice("ssl_max_protocol_version", &words, Some(TlsVersion::V1_3))?;
    match most {
        Some(most) if least <= most => Ok((least, most)),
        Some(_) => Err(refused("PGSSLMINPROTOCOLVERSION is above PGSSLMAXPROTOCOLVERSION")),
        None => Err(refused(
            "PGSSLMAXPROTOCOLVERSION cannot be followed: TLS before version 1.2 is not spoken",
        )
        .with_hint("Set it to TLSv1.2 or TLSv1.3.")),
    }
}
