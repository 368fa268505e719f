//! How to connect, as libpq finds it out: from its environment variables
//! (<https://www.postgresql.org/docs/current/libpq-envars.html>), a service file and a
//! password file. Each room names the place in PostgreSQL's source that it follows.
//!
//! What is not followed is said: by an error where leaving it out would connect elsewhere
//! or with less safety than was asked for, by a warning otherwise.

mod keywords;
mod not_followed;
mod parameters;
mod password_file;
mod places;
mod servers;
mod service_file;
mod tls_options;

use std::time::Duration;

use tokio_postgres::config::ChannelBinding;
use wal_e_core::config::Place;
use wal_e_core::{Error, ErrorKind, Result};

use super::authentication::Methods;
use parameters::Parameters;
pub use places::user_id;
pub use servers::{Address, Server};
pub use tls_options::{CertificateUse, Roots, TlsMode, TlsOptions, TlsVersion};

/// PostgreSQL's port.
const PORT: u16 = 5432;

/// Names mean what PostgreSQL defines from the first moment of the session, whatever
/// `ALTER DATABASE` or `ALTER ROLE ... SET search_path` says: what a client asks for
/// when it connects goes before these (src/include/utils/guc.h, `GucSource`). Nor does a
/// time limit of the role end the first statements; the session sets the others.
const OWN_OPTIONS: &str =
    "-c search_path=pg_catalog,pg_temp -c statement_timeout=0 -c lock_timeout=0";

/// How to connect.
pub struct Settings {
    /// The servers to try, in this order. There is at least one.
    pub servers: Vec<Server>,
    /// Whether servers and their addresses are tried in random order.
    pub random_order: bool,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// Settings of the session, as options of a server's command line.
    pub options: String,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
    /// How long one address may take.
    pub timeout: Option<Duration>,
    /// What kind of server is wanted.
    pub target: Target,
    /// Whether and how the connection is encrypted.
    pub tls: TlsOptions,
    /// Ways of authentication that are good enough.
    pub methods: Methods,
    /// Whether the password is bound to the encrypted connection.
    pub channel_binding: ChannelBinding,
    /// The user of the operating system that a server at a Unix-domain socket must run as.
    pub required_peer: Option<String>,
    /// Whether and how a connection that is idle is kept alive.
    pub keepalives: Keepalives,
    /// What is not followed, and does no harm.
    pub warnings: Vec<String>,
}

/// What kind of server is wanted: `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Any.
    Any,
    /// One that takes writes.
    ReadWrite,
    /// One that does not.
    ReadOnly,
    /// One that is not in recovery.
    Primary,
    /// One that is.
    Standby,
    /// One that is, if there is any.
    PreferStandby,
}

/// How the operating system looks after a connection. `None` is its own choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalives {
    /// Whether it asks for a sign of life.
    pub on: bool,
    /// After how long without a word.
    pub idle: Option<Duration>,
    /// How often.
    pub interval: Option<Duration>,
    /// How many may be lost.
    pub count: Option<u32>,
    /// How long what was sent may stay without an answer.
    pub user_timeout: Option<Duration>,
}

/// Reads them. Without a user, the one of the operating system connects, and without
/// a database to `postgres`, because any database will do.
///
/// # Errors
/// [`ErrorKind::Config`] when something cannot be meant, or cannot be followed and
/// matters.
pub fn settings(environment: &Place) -> Result<Settings> {
    let mut warnings = Vec::new();
    let parameters = parameters::collect(environment, &mut warnings)?;
    not_followed::check(&parameters, &mut warnings)?;
    let user = match parameters.text("user") {
        Some(user) => user.to_owned(),
        None => places::user_name()?,
    };
    let database = parameters.text("dbname").unwrap_or("postgres").to_owned();
    let mut servers = servers::list(&parameters)?;
    let over_tcp = servers.iter().any(|server| matches!(server.address, Address::Tcp(_)));
    password_file::give_passwords(&mut servers, &parameters, &database, &user, &mut warnings)?;
    Ok(Settings {
        servers,
        random_order: parameters.choice(
            "load_balance_hosts",
            &[("disable", false), ("random", true)],
            false,
        )?,
        user,
        database,
        options: options(&parameters, environment),
        application_name: parameters
            .text("application_name")
            .or(parameters.text("fallback_application_name"))
            .unwrap_or("wal-e backup-push")
            .to_owned(),
        timeout: timeout(&parameters)?,
        target: parameters.choice(
            "target_session_attrs",
            &[
                ("any", Target::Any),
                ("read-write", Target::ReadWrite),
                ("read-only", Target::ReadOnly),
                ("primary", Target::Primary),
                ("standby", Target::Standby),
                ("prefer-standby", Target::PreferStandby),
            ],
            Target::Any,
        )?,
        tls: tls_options::read(&parameters, over_tcp)?,
        methods: match parameters.get("require_auth") {
            Some(list) => Methods::parse(&list.value).ok_or_else(|| list.invalid())?,
            None => Methods::ALL,
        },
        channel_binding: parameters.choice(
            "channel_binding",
            &[
                ("disable", ChannelBinding::Disable),
                ("prefer", ChannelBinding::Prefer),
                ("require", ChannelBinding::Require),
            ],
            ChannelBinding::Prefer,
        )?,
        required_peer: parameters.text("requirepeer").map(str::to_owned),
        keepalives: keepalives(&parameters)?,
        warnings,
    })
}

/// Settings of the session. Of one that is named twice, the last holds.
///
/// PostgreSQL 18, `fe-protocol3.c`, `build_startup_packet`, and `EnvironmentOptions`.
fn options(parameters: &Parameters, environment: &Place) -> String {
    let mut options = parameters.text("options").unwrap_or_default().to_owned();
    for (variable, setting) in
        [("PGDATESTYLE", "DateStyle"), ("PGTZ", "TimeZone"), ("PGGEQO", "geqo")]
    {
        let value = environment.get(variable).filter(|value| *value != "default");
        if let Some(value) = value {
            options.push_str(&format!(" -c {setting}={}", escaped(value)));
        }
    }
    format!("{options} {OWN_OPTIONS}").trim_start().to_owned()
}

/// A value within options, which are split at white space that has no backslash before it.
fn escaped(value: &str) -> String {
    let mut escaped = String::new();
    for character in value.chars() {
        if character == '\\' || character.is_ascii_whitespace() {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// None for zero and below; one second counts as two (`connectDBComplete`).
fn timeout(parameters: &Parameters) -> Result<Option<Duration>> {
    let seconds = parameters.number("connect_timeout")?.and_then(|n| u64::try_from(n).ok());
    Ok(seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.max(2))))
}

fn keepalives(parameters: &Parameters) -> Result<Keepalives> {
    let positive = |keyword| -> Result<Option<u64>> {
        let number = parameters.number(keyword)?.and_then(|n| u64::try_from(n).ok());
        Ok(number.filter(|number| *number > 0))
    };
    Ok(Keepalives {
        on: parameters.number("keepalives")? != Some(0),
        idle: positive("keepalives_idle")?.map(Duration::from_secs),
        interval: positive("keepalives_interval")?.map(Duration::from_secs),
        count: positive("keepalives_count")?.and_then(|count| u32::try_from(count).ok()),
        user_timeout: positive("tcp_user_timeout")?.map(Duration::from_millis),
    })
}

/// An error of what was asked for.
fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests;
