//! A connection before anything is said in it but TLS.

use std::os::linux::net::SocketAddrExt;

use rustix::net::sockopt;
use tokio::net::{TcpStream, UnixStream};
use wal_e_core::{Error, ErrorKind, Result};

use super::{Resolved, Route};
use crate::server::authentication::Startup;
use crate::server::libpq::{Keepalives, Server, Settings, user_id};
use crate::server::query_error;
use crate::server::stream::ServerStream;
use crate::server::tls::Outcome;

/// Opens a connection along a route, encrypted as it says.
pub async fn open(
    settings: &Settings,
    route: &Route,
    startup: Option<Startup>,
) -> Result<ServerStream> {
    let server = &settings.servers[route.server];
    let doing = || format!("could not connect to the server at {}", server.describe());
    let unreachable = |error: std::io::Error| {
        Error::new(ErrorKind::Unavailable, Error::io(doing(), &error).message())
            .with_hint(query_error::WAY_TO_SERVER)
    };
    let address = match &route.address {
        Resolved::Socket(directory) => {
            let socket = unix_socket(directory, server.port).await.map_err(unreachable)?;
            check_peer(settings, server, &socket)?;
            return Ok(ServerStream::new(Box::new(socket), None, startup));
        }
        Resolved::Tcp(address) => address,
    };
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    keep_alive(&stream, settings.keepalives).map_err(unreachable)?;
    let Some(tls) = &route.tls else {
        return Ok(ServerStream::new(Box::new(stream), None, startup));
    };
    let in_context = |error: Error| {
        let whole = Error::new(error.kind(), format!("{}: {}", doing(), error.message()));
        match error.hint() {
            Some(hint) => whole.with_hint(hint),
            None => whole,
        }
    };
    match tls.begin(stream, server.name.as_deref()).await.map_err(in_context)? {
        Outcome::Encrypted(it) => Ok(ServerStream::new(it.transport, it.certificate_hash, startup)),
        Outcome::Declined(stream) if route.or_plain => {
            Ok(ServerStream::new(Box::new(stream), None, startup))
        }
        Outcome::Declined(_) => {
            let message = format!("{}: the server does not support TLS", doing());
            Err(Error::new(ErrorKind::Config, message).with_hint(
                "Set ssl = on and a certificate on the server, or connect through a Unix-domain socket, where PGSSLMODE does not count.",
            ))
        }
    }
}

/// A Unix-domain socket; `@` at the beginning means the abstract namespace.
async fn unix_socket(directory: &str, port: u16) -> std::io::Result<UnixStream> {
    let path = format!("{directory}/.s.PGSQL.{port}");
    let Some(name) = path.strip_prefix('@') else { return UnixStream::connect(path).await };
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    let stream = std::os::unix::net::UnixStream::connect_addr(&address)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Whether the server at a socket runs as the user that was asked for.
fn check_peer(settings: &Settings, server: &Server, socket: &UnixStream) -> Result<()> {
    let Some(wanted) = &settings.required_peer else { return Ok(()) };
    let refused = |why: String| {
        let message = format!("could not connect to the server at {}: {why}", server.describe());
        Error::new(ErrorKind::Denied, message)
    };
    let peer = socket.peer_cred().map_err(|error| refused(error.to_string()))?;
    match user_id(wanted) {
        Some(uid) if uid == peer.uid() => Ok(()),
        Some(_) => Err(refused(format!(
            "it runs as the user with ID {}, not as \"{wanted}\" (PGREQUIREPEER)",
            peer.uid()
        ))),
        None => Err(refused(format!("there is no user \"{wanted}\" (PGREQUIREPEER)"))),
    }
}

fn keep_alive(stream: &TcpStream, wanted: Keepalives) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, wanted.on)?;
    if let Some(idle) = wanted.idle.filter(|_| wanted.on) {
        sockopt::set_tcp_keepidle(stream, idle)?;
    }
    if let Some(interval) = wanted.interval.filter(|_| wanted.on) {
        sockopt::set_tcp_keepintvl(stream, interval)?;
    }
    if let Some(count) = wanted.count.filter(|_| wanted.on) {
        sockopt::set_tcp_keepcnt(stream, count)?;
    }
    if let Some(timeout) = wanted.user_timeout {
        let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(stream, milliseconds)?;
    }
    Ok(())
}
