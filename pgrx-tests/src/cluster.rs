//! A throw-away PostgreSQL cluster.

mod builder;
mod log;
mod queries;
mod server;

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Child;

use crate::installation::{Installation, PgVersion};
use crate::process::{Finished, run};
use crate::scratch::Scratch;

pub use builder::ClusterBuilder;
pub use queries::{SqlFailure, cancelled_after, describe, rows};
pub use server::StopMode;

/// The superuser of each cluster; connections over its socket are trusted.
const SUPERUSER: &str = "postgres";

/// The port that the socket's name carries. Without a TCP listener, which few tests need
/// ([`Cluster::listen_on_tcp`]), each
/// cluster has a directory of its own for its socket, so one number does.
const PORT: u16 = 5432;

/// A cluster and, while it runs, its server.
///
/// Dropping it stops the server at once and removes its directories. A test
/// that panics prints the end of the server log; `WALE_TEST_KEEP=1` keeps the
/// directories.
#[derive(Debug)]
pub struct Cluster {
    installation: &'static Installation,
    data_directory: PathBuf,
    scratch: Scratch,
    environment: Vec<(&'static str, OsString)>,
    port: u16,
    /// Further ways to it: addresses, and directories of sockets.
    listens: Vec<String>,
    postmaster: Option<Child>,
}

impl Cluster {
    /// A cluster to be configured and made.
    pub fn build(version: PgVersion) -> ClusterBuilder {
        ClusterBuilder::new(version)
    }

    /// A cluster that is there already, such as a restored one. Socket and log
    /// go to `scratch`, which is removed with the cluster.
    pub fn adopt(version: PgVersion, scratch: Scratch, data_directory: PathBuf) -> Cluster {
        scratch.create("s");
        Cluster {
            installation: Installation::get(version),
            data_directory,
            scratch,
            environment: Vec::new(),
            port: PORT,
            listens: Vec::new(),
            postmaster: None,
        }
    }

    /// The major version of its server.
    pub fn version(&self) -> PgVersion {
        self.installation.version()
    }

    /// The installation that it runs on.
    pub fn installation(&self) -> &'static Installation {
        self.installation
    }

    /// It runs on this one from its next start on.
    pub fn use_installation(&mut self, installation: &'static Installation) {
        assert_eq!(installation.version(), self.version(), "its files are of one major version");
        self.installation = installation;
    }

    /// Its data directory.
    pub fn data_directory(&self) -> &Path {
        &self.data_directory
    }

    /// A directory of this cluster's own, for tablespaces and the like.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Adds a line to `postgresql.conf`. The last line for a setting holds; a
    /// running server takes it at the next [`reload`](Self::reload).
    pub fn configure(&self, line: &str) {
        let path = self.data_directory.join("postgresql.conf");
        let mut file = OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap_or_else(|error| panic!("could not open {}: {error}", path.display()));
        writeln!(file, "{line}").expect("a line can be added to postgresql.conf");
    }

    /// Creates a tablespace in a directory of the cluster's scratch and says where.
    pub fn create_tablespace(&self, name: &str) -> PathBuf {
        let location = self.scratch.create(name);
        self.execute(&format!("CREATE TABLESPACE {name} LOCATION '{}'", location.display()));
        location
    }

    /// Where the server says that a tablespace is.
    #[track_caller]
    pub fn tablespace_location(&self, name: &str) -> String {
        self.query_one(&format!(
            "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = '{name}'"
        ))
    }

    /// A client program of the installation, with the connection options set.
    pub fn client_program(&self, name: &str) -> std::process::Command {
        let mut command = self.installation().command(name);
        command
            .env("PGHOST", self.socket_directory())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", SUPERUSER);
        command
    }

    /// Checks every heap and B-tree index of every database with pg_amcheck.
    /// Makes the extension amcheck in databases that lack it. Installations without PostgreSQL's
    /// additional modules have none to make, and nothing is checked: the wheel's are such.
    #[track_caller]
    pub fn amcheck(&self) {
        if !self.installation().has_extension("amcheck") {
            return;
        }
        run(self.client_program("pg_amcheck").args([
            "--all",
            "--install-missing",
            "--heapallindexed",
        ]))
        .success();
    }

    /// Verifies the checksum of every page with pg_checksums; the server must be stopped.
    pub fn check_page_checksums(&self) -> Finished {
        assert!(self.postmaster.is_none(), "the server runs");
        run(self
            .installation()
            .command("pg_checksums")
            .args(["--check", "--pgdata"])
            .arg(&self.data_directory))
    }

    /// Has the server listen on 127.0.0.1 too, from its next start on, and says on which port.
    pub fn listen_on_tcp(&mut self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        self.port = listener.local_addr().expect("it has an address").port();
        self.listens.push("127.0.0.1".to_owned());
        self.port
    }

    /// Has the server make another socket, from its next start on. With `@` at the beginning
    /// it is in the abstract namespace.
    pub fn listen_in(&mut self, directory: &str) {
        self.listens.push(directory.to_owned());
    }

    /// The directory of the Unix socket.
    pub fn socket_directory(&self) -> PathBuf {
        self.scratch.path().join("s")
    }

    /// Whether the files of the cluster have the owner and modes that a server insists on.
    pub fn has_sound_permissions(&self) -> bool {
        let facts = fs::metadata(&self.data_directory).expect("the data directory exists");
        let expected = fs::metadata(self.socket_directory()).expect("the socket directory exists");
        facts.uid() == expected.uid() && matches!(facts.permissions().mode() & 0o777, 0o700 | 0o750)
    }
}
