//! A session with the first of several servers that can be had, in the order and by the
//! rules of libpq (PostgreSQL 18, `src/interfaces/libpq/fe-connect.c`, `PQconnectPoll`).

use std::sync::{Arc, OnceLock};

use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Connection};
use wal_e_core::{Error, ErrorKind, Result};

use super::authentication::Startup;
use super::libpq::{Address, Server, Settings, Target, TlsMode};
use super::query_error::{connection_error, query_error};
use super::stream::{AlreadyDone, ServerStream};
use super::tls::Tls;

mod open;

pub use open::open;

/// A session that has just begun.
pub struct Connected {
    pub client: Client,
    pub connection: Connection<ServerStream, ServerStream>,
    /// The process that the server, or what stands before it, says that it is.
    pub process: Option<i32>,
    /// The way to it.
    pub route: Route,
}

/// One way to one server.
#[derive(Clone)]
pub struct Route {
    /// Which of the servers it is.
    server: usize,
    address: Resolved,
    tls: Option<Tls>,
    /// Whether the connection goes on when the server does no TLS.
    or_plain: bool,
}

/// An address that needs no look-up.
#[derive(Clone)]
enum Resolved {
    Tcp(std::net::SocketAddr),
    Socket(String),
}

/// Why a server could not be had, and whether another may be tried.
pub struct Failure {
    error: Box<Error>,
    /// The server's answer, when it gave one.
    code: Option<SqlState>,
    /// Whether it broke before the server said anything.
    no_answer: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let no_answer = error.kind() == ErrorKind::Unavailable;
        Failure { error: Box::new(error), code: None, no_answer }
    }
}

impl Failure {
    /// Another server is tried when this one cannot be reached, or is not up yet.
    fn lets_go_on(&self) -> bool {
        self.no_answer || self.code.as_ref() == Some(&SqlState::CANNOT_CONNECT_NOW)
    }
}

/// Connects.
///
/// # Errors
/// Why the last server could not be had; of the others, in the detail.
pub async fn connect(settings: &Settings) -> Result<Connected> {
    let targets = match settings.target {
        Target::PreferStandby => vec![Target::Standby, Target::Any],
        target => vec![target],
    };
    let mut errors: Vec<Error> = Vec::new();
    for target in targets {
        let mut order: Vec<usize> = (0..settings.servers.len()).collect();
        if settings.random_order {
            fastrand::shuffle(&mut order);
        }
        for index in order {
            match connect_to(settings, index, target).await {
                Ok(connected) => return Ok(connected),
                Err(failure) => {
                    let ends = !failure.lets_go_on();
                    errors.push(*failure.error);
                    if ends {
                        return Err(in_one(errors));
                    }
                }
            }
        }
    }
    Err(in_one(errors))
}

/// The last error, with the messages of those before it.
fn in_one(mut errors: Vec<Error>) -> Error {
    let Some(last) = errors.pop() else {
        return Error::new(ErrorKind::Config, "there is no server to connect to");
    };
    let mut earlier: Vec<String> = Vec::new();
    for error in errors {
        let said = format!("Before that: {}.", error.message());
        if error.message() != last.message() && !earlier.contains(&said) {
            earlier.push(said);
        }
    }
    let detail = last.detail().map(str::to_owned).into_iter().chain(earlier);
    match detail.collect::<Vec<_>>().join(" ") {
        detail if detail.is_empty() => last,
        detail => last.with_detail(detail),
    }
}

/// One server: at each of its addresses, with and without TLS as the mode has it.
async fn connect_to(
    settings: &Settings,
    index: usize,
    target: Target,
) -> std::result::Result<Connected, Failure> {
    let server = &settings.servers[index];
    let mut last = None;
    for address in resolve(settings, server).await? {
        // What is said of the connection that was wanted first is worth more.
        let mut first = None;
        for route in routes(settings, index, address)? {
            let failure = match attempt(settings, &route, target).await {
                Ok(connected) => return Ok(connected),
                Err(failure) => failure,
            };
            let again = may_try_otherwise(settings.tls.mode, route.tls.is_some(), &failure);
            let ends = !failure.lets_go_on();
            let failure = first.take().unwrap_or(failure);
            if again {
                first = Some(failure);
            } else if ends {
                return Err(failure);
            } else {
                last = Some(failure);
                break;
            }
        }
    }
    Err(last.unwrap_or_else(|| unknown(server).into()))
}

fn unknown(server: &Server) -> Error {
    let message =
        format!("could not connect to the server at {}: it has no address", server.describe());
    Error::new(ErrorKind::Unavailable, message)
}

/// With `prefer`, a server that does not take the connection with TLS is asked without; with
/// `allow`, the other way round. A wrong password is wrong either way.
fn may_try_otherwise(mode: TlsMode, had_tls: bool, failure: &Failure) -> bool {
    let rejected = match &failure.code {
        Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => had_tls && failure.error.message().contains("TLS failed"),
    };
    match mode {
        TlsMode::Prefer => had_tls && rejected,
        TlsMode::Allow => !had_tls && rejected,
        _ => false,
    }
}

async fn resolve(settings: &Settings, server: &Server) -> Result<Vec<Resolved>> {
    let name = match &server.address {
        Address::Socket(directory) => return Ok(vec![Resolved::Socket(directory.clone())]),
        Address::Tcp(name) => name.as_str(),
    };
    let found = tokio::net::lookup_host((name, server.port)).await;
    let mut found: Vec<_> = match found {
        Ok(found) => found.collect(),
        Err(error) => {
            let doing = format!("could not find host \"{name}\"");
            return Err(Error::new(ErrorKind::Unavailable, Error::io(&doing, &error).message())
                .with_hint("Check PGHOST, and that its name can be looked up on this host."));
        }
    };
    if settings.random_order {
        fastrand::shuffle(&mut found);
    }
    Ok(found.into_iter().map(Resolved::Tcp).collect())
}

/// The ways to try one address, in their order. There is no TLS at a Unix-domain socket.
fn routes(settings: &Settings, server: usize, address: Resolved) -> Result<Vec<Route>> {
    let name = settings.servers[server].name.as_deref();
    let plain = Route { server, address: address.clone(), tls: None, or_plain: false };
    if matches!(address, Resolved::Socket(_)) || !settings.tls.is_used() {
        return Ok(vec![plain]);
    }
    let tls = Some(Tls::new(&settings.tls, name)?);
    let encrypted = Route { tls, ..plain.clone() };
    Ok(match settings.tls.mode {
        TlsMode::Allow => vec![plain, encrypted],
        TlsMode::Prefer => vec![Route { or_plain: true, ..encrypted }, plain],
        _ => vec![encrypted],
    })
}

/// One attempt, within the time that it may take.
async fn attempt(
    settings: &Settings,
    route: &Route,
    target: Target,
) -> std::result::Result<Connected, Failure> {
    let connecting = async {
        let mut connected = begin_session(settings, route).await?;
        check_target(settings, &mut connected, target).await?;
        Ok(connected)
    };
    match settings.timeout {
        None => connecting.await,
        Some(limit) => tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| {
            let message = format!(
                "could not connect to the server at {}: no answer within {} s",
                settings.servers[route.server].describe(),
                limit.as_secs()
            );
            Err(Error::new(ErrorKind::Unavailable, message)
                .with_hint("The limit is that of PGCONNECT_TIMEOUT.")
                .into())
        }),
    }
}

/// Begins a session, and says who we are.
pub async fn begin_session(
    settings: &Settings,
    route: &Route,
) -> std::result::Result<Connected, Failure> {
    let server = &settings.servers[route.server];
    let process = Arc::new(OnceLock::new());
    let has_password = server.password.is_some();
    let startup = Startup::new(settings.methods, has_password, Arc::clone(&process));
    let stream = open(settings, route, Some(startup)).await?;
    let begun = config(settings, server).connect_raw(stream, AlreadyDone).await;
    let (client, connection) = begun.map_err(|error| Failure {
        error: Box::new(connection_error(server, &error)),
        code: error.code().cloned(),
        no_answer: error.as_db_error().is_none()
            && connection_error(server, &error).kind() == ErrorKind::Unavailable,
    })?;
    let process = process.get().copied();
    Ok(Connected { client, connection, process, route: route.clone() })
}

/// What tokio-postgres is to do. As [`AlreadyDone`] says, TLS is not its business.
fn config(settings: &Settings, server: &Server) -> Config {
    let mut config = Config::new();
    config
        .user(&settings.user)
        .dbname(&settings.database)
        .options(&settings.options)
        .application_name(&settings.application_name)
        .channel_binding(settings.channel_binding)
        .ssl_mode(SslMode::Require)
        .ssl_negotiation(SslNegotiation::Direct);
    if let Some(password) = &server.password {
        config.password(&password.bytes);
    }
    config
}

/// Whether the server is of the kind that was asked for.
async fn check_target(
    settings: &Settings,
    connected: &mut Connected,
    target: Target,
) -> std::result::Result<(), Failure> {
    if target == Target::Any {
        return Ok(());
    }
    let ask = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')";
    let asking = connected.client.simple_query(ask);
    let answer = tokio::select! {
        answer = asking => answer,
        ended = &mut connected.connection => Err(match ended {
            Err(error) => error,
            Ok(()) => return Err(unknown(&settings.servers[connected.route.server]).into()),
        }),
    };
    let failed = |error| query_error("could not ask the server what it is", &error);
    let answer = answer.map_err(failed)?;
    let value = |column: usize| {
        answer.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(column),
            _ => None,
        })
    };
    let (in_recovery, read_only) = (value(0) == Some("t"), value(1) == Some("on"));
    let why = match target {
        Target::ReadWrite if in_recovery || read_only => "its sessions are read-only",
        Target::ReadOnly if !in_recovery && !read_only => "its sessions are not read-only",
        Target::Primary if in_recovery => "it is in recovery",
        Target::Standby if !in_recovery => "it is not in recovery",
        _ => return Ok(()),
    };
    let server = &settings.servers[connected.route.server];
    let message =
        format!("the server at {} is not the one that is wanted: {why}", server.describe());
    let error = Error::new(ErrorKind::Config, message).with_hint(
        "PGTARGETSESSIONATTRS says which one is wanted. A base backup needs the primary.",
    );
    Err(Failure { error: Box::new(error), code: None, no_answer: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: Option<SqlState>, message: &str) -> Failure {
        Failure { error: Box::new(Error::new(ErrorKind::Denied, message)), code, no_answer: false }
    }

    #[test]
    fn the_other_way_is_tried_when_this_one_is_not_taken() {
        let no_entry = || Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
        for (mode, had_tls, code, message, again) in [
            (TlsMode::Prefer, true, no_entry(), "no pg_hba.conf entry", true),
            (TlsMode::Prefer, false, no_entry(), "no pg_hba.conf entry", false),
            (TlsMode::Prefer, true, None, "TLS failed: no trusted authority", true),
            (TlsMode::Prefer, true, Some(SqlState::INVALID_PASSWORD), "no", false),
            (TlsMode::Allow, false, no_entry(), "no pg_hba.conf entry", true),
            (TlsMode::Allow, true, no_entry(), "no pg_hba.conf entry", false),
            (TlsMode::Require, true, no_entry(), "no pg_hba.conf entry", false),
            (TlsMode::VerifyCa, true, None, "TLS failed: no trusted authority", false),
        ] {
            let failure = failure(code, message);
            assert_eq!(may_try_otherwise(mode, had_tls, &failure), again, "{mode:?} {message}");
        }
    }

    #[test]
    fn all_servers_that_were_tried_are_named() {
        let error = |message: &str| Error::new(ErrorKind::Unavailable, message);
        let one = in_one(vec![error("a: refused"), error("a: refused"), error("b: refused")]);
        assert_eq!(one.message(), "b: refused");
        assert_eq!(one.detail(), Some("Before that: a: refused."));
        assert_eq!(in_one(vec![error("a")]).detail(), None);
    }
}
