//! The user of the operating system, and where files are by default.

use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use wal_e_core::Result;
use wal_e_core::config::Place;

use super::refused;

/// Where sockets are by default: Debian's and Red Hat's packages, then PostgreSQL's own choice.
pub const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Where `pg_service.conf` is for all users: Debian's packages, Red Hat's, and a
/// PostgreSQL that was built from source.
pub const SYSTEM_DIRECTORIES: [&str; 3] =
    ["/etc/postgresql-common", "/etc/sysconfig/pgsql", "/usr/local/pgsql/etc"];

/// The name of the user that this process runs as.
pub fn user_name() -> Result<String> {
    let uid = Uid::effective();
    match User::from_uid(uid) {
        Ok(Some(user)) => Ok(user.name),
        _ => Err(refused(format!("there is no user with ID {uid} on this system"))
            .with_hint("Set PGUSER to the role to connect as.")),
    }
}

/// The number of a user of this system.
pub fn user_id(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

/// The user's own directory (`pqGetHomeDirectory`): `HOME`, else what the system says.
pub fn home_directory(environment: &Place) -> Option<PathBuf> {
    match environment.get("HOME") {
        Some(home) => Some(PathBuf::from(home)),
        None => User::from_uid(Uid::effective()).ok().flatten().map(|user| user.dir),
    }
}

/// The first default directory that has the socket of `port`, or the first.
pub fn socket_directory<'a>(directories: &[&'a str], port: u16) -> &'a str {
    let socket = format!(".s.PGSQL.{port}");
    let has_socket = |directory: &&&str| Path::new(directory).join(&socket).exists();
    let found = directories.iter().find(has_socket).or(directories.first());
    found.copied().unwrap_or("/tmp")
}
