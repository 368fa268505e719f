//! How to connect, from the variables that libpq reads
//! (<https://www.postgresql.org/docs/current/libpq-envars.html>).

use std::path::Path;
use std::time::Duration;

use tokio_postgres::Config;
use wal_e_core::{Error, ErrorKind, Result};

use wal_e_core::config::Place;

/// PostgreSQL's port.
pub const PORT: u16 = 5432;

/// Where sockets are by default: Debian's and Red Hat's packages, then PostgreSQL's own choice.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Names mean what PostgreSQL defines from the first moment of the session, whatever
/// `ALTER DATABASE` or `ALTER ROLE ... SET search_path` says: what a client asks for
/// when it connects goes before these (src/include/utils/guc.h, `GucSource`).
const SEARCH_PATH: &str = "-c search_path=pg_catalog,pg_temp";

/// Without `PGUSER` the operating system's user connects, and without
/// `PGDATABASE` to `postgres`, because any database will do.
///
/// # Errors
/// [`ErrorKind::Config`] when a variable cannot be meant, or asks for TLS.
pub fn config(environment: &Place) -> Result<Config> {
    let mut config = Config::new();
    let get = |name| environment.get(name);
    let invalid = |name: &str, value: &str| {
        Error::new(ErrorKind::Config, format!("invalid value \"{value}\" of {name}"))
    };

    let port = match get("PGPORT") {
        Some(text) => text.parse().map_err(|_| invalid("PGPORT", text))?,
        None => PORT,
    };
    config.port(port);
    match get("PGHOST") {
        Some(host) if host.contains(',') => {
            return Err(invalid("PGHOST", host)
                .with_hint("Name one host, or the directory of a Unix-domain socket."));
        }
        Some(host) => config.host(host),
        None => config.host_path(socket_directory(&SOCKET_DIRECTORIES, port)),
    };
    if let Some(mode @ ("require" | "verify-ca" | "verify-full")) = get("PGSSLMODE") {
        return Err(invalid("PGSSLMODE", mode).with_hint(
            "Connect through a Unix-domain socket, without TLS: the server runs on this host.",
        ));
    }
    if let Some(text) = get("PGCONNECT_TIMEOUT") {
        let seconds = text.parse().map_err(|_| invalid("PGCONNECT_TIMEOUT", text))?;
        if seconds > 0 {
            config.connect_timeout(Duration::from_secs(seconds));
        }
    }
    if let Some(user) = get("PGUSER") {
        config.user(user);
    }
    if let Some(password) = get("PGPASSWORD") {
        config.password(password);
    }
    // The last one holds.
    let options = [get("PGOPTIONS").unwrap_or_default(), SEARCH_PATH].join(" ");
    config.options(options.trim_start());
    config.dbname(get("PGDATABASE").unwrap_or("postgres"));
    config.application_name("wal-e backup-push");
    Ok(config)
}

/// The first directory that has the socket of `port`, or the first.
fn socket_directory<'a>(directories: &[&'a str], port: u16) -> &'a Path {
    let socket = format!(".s.PGSQL.{port}");
    let has_socket = |directory: &&&str| Path::new(directory).join(&socket).exists();
    let found = directories.iter().find(has_socket).or(directories.first());
    Path::new(found.copied().unwrap_or("/tmp"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio_postgres::config::Host;

    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Config> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        config(&Place::Environment(variables.iter().map(owned).collect::<BTreeMap<_, _>>()))
    }

    #[test]
    fn variables_are_read_as_libpq_reads_them() {
        let config = from(&[
            ("PGHOST", "/sockets"),
            ("PGPORT", "5433"),
            ("PGUSER", "backup"),
            ("PGDATABASE", "db"),
            ("PGPASSWORD", "hunter2"),
            ("PGSSLMODE", "prefer"),
        ])
        .unwrap();
        assert_eq!(config.get_hosts(), [Host::Unix("/sockets".into())]);
        assert_eq!(config.get_ports(), [5433]);
        assert_eq!((config.get_user(), config.get_dbname()), (Some("backup"), Some("db")));
        assert_eq!(config.get_password(), Some(&b"hunter2"[..]));
        let config = from(&[("PGHOST", "localhost")]).unwrap();
        assert_eq!(config.get_hosts(), [Host::Tcp("localhost".to_owned())]);
    }

    #[test]
    fn names_are_looked_up_where_only_postgresql_defines_them() {
        assert_eq!(from(&[]).unwrap().get_options(), Some(SEARCH_PATH));
        let config = from(&[("PGOPTIONS", "-c work_mem=1MB -c search_path=evil")]).unwrap();
        let options = "-c work_mem=1MB -c search_path=evil -c search_path=pg_catalog,pg_temp";
        assert_eq!(config.get_options(), Some(options));
    }

    #[test]
    fn without_variables_a_socket_is_looked_for() {
        let config = from(&[]).unwrap();
        assert!(matches!(config.get_hosts(), [Host::Unix(_)]));
        assert_eq!((config.get_user(), config.get_dbname()), (None, Some("postgres")));

        let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(full.path().join(".s.PGSQL.5433"), "").unwrap();
        let directories = [empty.path(), full.path()].map(|path| path.to_str().unwrap());
        assert_eq!(socket_directory(&directories, 5433), full.path());
        assert_eq!(socket_directory(&directories, 5432), empty.path());
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for variables in [
            [("PGPORT", "x")],
            [("PGHOST", "a,b")],
            [("PGSSLMODE", "verify-full")],
            [("PGCONNECT_TIMEOUT", "soon")],
        ] {
            assert_eq!(from(&variables).unwrap_err().kind(), ErrorKind::Config, "{variables:?}");
        }
    }
}
