//! The servers to try: `host`, `hostaddr` and `port`, each of which may be a list.
//!
//! PostgreSQL 18, `src/interfaces/libpq/fe-connect.c`, `pqConnectOptions2`.

use std::net::IpAddr;
use std::path::PathBuf;

use wal_e_core::Result;

use super::keywords::Parameter;
use super::parameters::Parameters;
use super::places::{SOCKET_DIRECTORIES, socket_directory};
use super::{PORT, refused};

/// A server to try.
pub struct Server {
    /// What was named as its host: a host, an address or the directory of a socket.
    pub name: Option<String>,
    /// Where it is.
    pub address: Address,
    /// Its port, which the name of a socket has as well.
    pub port: u16,
    /// The password for it.
    pub password: Option<Password>,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// In this directory is its Unix-domain socket; with `@` at the beginning, in the
    /// abstract namespace.
    Socket(String),
    /// The name or the number of a host.
    Tcp(String),
}

/// A password, and the file that it comes from.
pub struct Password {
    /// It need not be UTF-8.
    pub bytes: Vec<u8>,
    /// `None` when it was given.
    pub file: Option<PathBuf>,
}

impl Server {
    /// What to call it in a message.
    pub fn describe(&self) -> String {
        let place = match (&self.address, &self.name) {
            (Address::Socket(directory), _) => format!("socket directory \"{directory}\""),
            (Address::Tcp(address), Some(name)) if address != name => {
                format!("host \"{name}\" ({address})")
            }
            (Address::Tcp(address), _) => format!("host \"{address}\""),
        };
        format!("{place}, port {}", self.port)
    }
}

/// The servers, without passwords.
pub fn list(parameters: &Parameters) -> Result<Vec<Server>> {
    let entries = |keyword| -> Vec<&str> {
        parameters.text(keyword).map_or_else(Vec::new, |list| list.split(',').collect())
    };
    let (hosts, addresses) = (entries("host"), entries("hostaddr"));
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(refused(format!(
            "could not match {} host names to {} hostaddr values",
            hosts.len(),
            addresses.len()
        )));
    }
    let count = hosts.len().max(addresses.len()).max(1);
    let ports = ports(parameters.get("port"), count)?;
    let entry = |list: &[&str], index: usize| -> Option<String> {
        list.get(index).filter(|entry| !entry.is_empty()).map(|entry| (*entry).to_owned())
    };
    let server = |(index, port): (usize, u16)| -> Result<Server> {
        let name = entry(&hosts, index);
        let address = match (entry(&addresses, index), &name) {
            (Some(address), _) => Address::Tcp(numeric(address, parameters)?),
            (None, Some(name)) if name.starts_with(['/', '@']) => Address::Socket(name.clone()),
            (None, Some(name)) => Address::Tcp(name.clone()),
            (None, None) => Address::Socket(socket_directory(&SOCKET_DIRECTORIES, port).to_owned()),
        };
        Ok(Server { name, address, port, password: None })
    };
    ports.into_iter().enumerate().map(server).collect()
}

/// One port for each server: each its own, or one for all.
fn ports(given: Option<&Parameter>, count: usize) -> Result<Vec<u16>> {
    let Some(given) = given else { return Ok(vec![PORT; count]) };
    let port = |text: &str| match text.trim() {
        "" => Ok(PORT),
        text => text.parse().ok().filter(|port| *port > 0).ok_or_else(|| given.invalid()),
    };
    let ports = given.value.split(',').map(port).collect::<Result<Vec<u16>>>()?;
    match ports.len() {
        1 => Ok(vec![ports[0]; count]),
        ports_given if ports_given == count => Ok(ports),
        ports_given => {
            Err(refused(format!("could not match {ports_given} port numbers to {count} hosts")))
        }
    }
}

/// An address must not be looked up. It may name a network interface after a `%`.
fn numeric(address: String, parameters: &Parameters) -> Result<String> {
    let number = address.split('%').next().unwrap_or_default();
    match number.parse::<IpAddr>() {
        Ok(_) => Ok(address),
        Err(_) => {
            let name = parameters.get("hostaddr").map_or("PGHOSTADDR", |given| &given.name);
            Err(refused(format!("invalid value \"{address}\" of {name}"))
                .with_hint("It must be an IP address."))
        }
    }
}
