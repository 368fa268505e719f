//! A throw-away PostgreSQL cluster.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::installation::{Installation, PgVersion};
use crate::process::{Finished, run, run_within, send_signal, wait_for_end};
use crate::scratch::{Scratch, keep_directories};
use crate::wait::{PATIENCE, wait_for, wait_until};

/// The superuser of each cluster; connections over its socket are trusted.
const SUPERUSER: &str = "postgres";

/// The port that the socket's name carries. There is no TCP listener and each
/// cluster has a directory of its own for its socket, so one number does.
const PORT: u16 = 5432;

/// How a cluster is made: options of initdb and lines of configuration.
#[derive(Debug)]
pub struct ClusterBuilder {
    version: PgVersion,
    wal_segment_size_mb: u32,
    data_checksums: bool,
    configuration: Vec<String>,
}

impl ClusterBuilder {
    /// `initdb --wal-segsize`, in megabytes; 16 when not called.
    pub fn wal_segment_size_mb(mut self, megabytes: u32) -> Self {
        self.wal_segment_size_mb = megabytes;
        self
    }

    /// A cluster without data page checksums; with them when not called.
    pub fn without_data_checksums(mut self) -> Self {
        self.data_checksums = false;
        self
    }

    /// A line of `postgresql.conf`.
    pub fn configuration(mut self, line: impl Into<String>) -> Self {
        self.configuration.push(line.into());
        self
    }

    /// Lines of `postgresql.conf`.
    pub fn configuration_lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.configuration.extend(lines);
        self
    }

    /// The configuration of a cluster that archives with wal_e.
    pub fn archiving(self) -> Self {
        self.configuration("shared_preload_libraries = 'wal_e'")
            .configuration("archive_mode = on")
            .configuration("archive_library = 'wal_e'")
    }

    /// Makes the cluster and starts it.
    #[track_caller]
    pub fn start(self) -> Cluster {
        let mut cluster = self.create();
        cluster.start();
        cluster
    }

    /// Makes the cluster.
    #[track_caller]
    pub fn create(self) -> Cluster {
        let installation = Installation::get(self.version);
        let scratch = Scratch::new();
        let data_directory = scratch.path().join("data");
        let mut initdb = installation.command("initdb");
        initdb
            .args([
                "--no-sync",
                "--no-instructions",
                "--encoding=UTF8",
                "--locale=C",
                "--auth=trust",
            ])
            .arg(format!("--username={SUPERUSER}"))
            .arg(format!("--wal-segsize={}", self.wal_segment_size_mb))
            .arg("--pgdata")
            .arg(&data_directory);
        if self.data_checksums {
            initdb.arg("--data-checksums");
        } else if self.version == PgVersion::V18 {
            // Checksums became the default in 18.
            initdb.arg("--no-data-checksums");
        }
        run(&mut initdb).success();
        let cluster = Cluster::adopt(self.version, scratch, data_directory);
        for line in BASE_CONFIGURATION {
            cluster.configure(line);
        }
        for line in &self.configuration {
            cluster.configure(line);
        }
        cluster
    }
}

/// Small, quiet and quick. The tests kill processes, never the machine, so
/// nothing is lost by leaving fsync out.
const BASE_CONFIGURATION: [&str; 9] = [
    "fsync = off",
    "shared_buffers = '32MB'",
    "max_wal_size = '256MB'",
    "max_connections = 30",
    "jit = off",
    "log_line_prefix = '%m [%p] %b '",
    "log_checkpoints = off",
    "restart_after_crash = on",
    "timezone = 'UTC'",
];

/// How a server is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Waits until all sessions have ended by themselves.
    Smart,
    /// Ends sessions and writes a shutdown checkpoint.
    Fast,
    /// Stops at once, without a checkpoint: the next start recovers.
    Immediate,
}

impl StopMode {
    fn name(self) -> &'static str {
        match self {
            StopMode::Smart => "smart",
            StopMode::Fast => "fast",
            StopMode::Immediate => "immediate",
        }
    }
}

/// A cluster and, while it runs, its server.
///
/// Dropping it stops the server at once and removes its directories. A test
/// that panics prints the end of the server log; `WALE_TEST_KEEP=1` keeps the
/// directories.
#[derive(Debug)]
pub struct Cluster {
    version: PgVersion,
    data_directory: PathBuf,
    scratch: Scratch,
    environment: Vec<(&'static str, OsString)>,
    postmaster: Option<Child>,
}

impl Cluster {
    /// A cluster to be configured and made.
    pub fn build(version: PgVersion) -> ClusterBuilder {
        ClusterBuilder {
            version,
            wal_segment_size_mb: 16,
            data_checksums: true,
            configuration: Vec::new(),
        }
    }

    /// A cluster that is there already, such as a restored one. Socket and log
    /// go to `scratch`, which is removed with the cluster.
    pub fn adopt(version: PgVersion, scratch: Scratch, data_directory: PathBuf) -> Cluster {
        scratch.create("s");
        Cluster { version, data_directory, scratch, environment: Vec::new(), postmaster: None }
    }

    /// The major version of its server.
    pub fn version(&self) -> PgVersion {
        self.version
    }

    /// The installation that it runs on.
    pub fn installation(&self) -> &'static Installation {
        Installation::get(self.version)
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

    /// Sets an environment variable of the server, from its next start on.
    pub fn set_environment(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.environment.push((name, value.into()));
    }

    /// Starts the server and waits until it takes connections.
    ///
    /// # Panics
    ///
    /// When the server ends instead; the message has the end of its log.
    #[track_caller]
    pub fn start(&mut self) {
        if let Err(log) = self.try_start() {
            panic!("the server did not start:\n{log}");
        }
    }

    /// Starts the server and waits until it takes connections; the end of its
    /// log when it ended instead.
    pub fn try_start(&mut self) -> Result<(), String> {
        self.spawn();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let postmaster = self.postmaster.as_mut().expect("the server has just been started");
            if postmaster.try_wait().expect("a child can be waited for").is_some() {
                self.postmaster = None;
                return Err(self.log_tail());
            }
            if self.try_client("postgres").is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("no connection within {PATIENCE:?}\n{}", self.log_tail()));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts the server and does not wait for anything.
    pub fn spawn(&mut self) {
        assert!(!self.is_running(), "the server runs already");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log can be opened");
        let socket_directory =
            format!("unix_socket_directories={}", self.socket_directory().display());
        // A child of this process and not of pg_ctl, so that its end is seen at
        // once, whatever the init process of the machine does with orphans.
        let child = self
            .installation()
            .command("postgres")
            .arg("-D")
            .arg(&self.data_directory)
            .args(["-c", "listen_addresses="])
            .args(["-c", &socket_directory])
            .args(["-c", &format!("port={PORT}")])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .expect("the server can be started");
        self.postmaster = Some(child);
    }

    /// Stops the server with `pg_ctl stop` and says how long that took.
    #[track_caller]
    pub fn stop(&mut self, mode: StopMode) -> Duration {
        self.try_stop(mode, PATIENCE).unwrap_or_else(|| {
            panic!("the server did not stop within {PATIENCE:?}:\n{}", self.log_tail())
        })
    }

    /// Stops the server; `None`, with the server killed, when it still runs
    /// after `limit`.
    pub fn try_stop(&mut self, mode: StopMode, limit: Duration) -> Option<Duration> {
        let mut postmaster = self.postmaster.take().expect("the server runs");
        let begin = Instant::now();
        let asked = run_within(
            PATIENCE,
            self.installation()
                .command("pg_ctl")
                .args(["stop", "--no-wait", "--mode", mode.name(), "--pgdata"])
                .arg(&self.data_directory),
        );
        assert!(asked.status.success(), "{asked}");
        if wait_for_end(&mut postmaster, limit).is_some() {
            return Some(begin.elapsed());
        }
        self.postmaster = Some(postmaster);
        self.kill_postmaster();
        None
    }

    /// Stops and starts the server.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop(StopMode::Fast);
        self.start();
    }

    /// Kills the postmaster with SIGKILL and waits until the processes it left
    /// are gone, as they must be before the next start.
    pub fn kill_postmaster(&mut self) {
        let mut postmaster = self.postmaster.take().expect("the server runs");
        let children = children_of(postmaster.id());
        postmaster.kill().expect("a child can be killed");
        postmaster.wait().expect("a child can be waited for");
        wait_for("the end of the server's processes after their postmaster was killed", || {
            children.iter().all(|pid| !crate::process::is_running(*pid))
        });
    }

    /// Whether the postmaster is still the process that was started.
    pub fn is_running(&mut self) -> bool {
        match &mut self.postmaster {
            Some(child) => child.try_wait().expect("a child can be waited for").is_none(),
            None => false,
        }
    }

    /// Has the server read its configuration again.
    pub fn reload(&self) {
        assert_eq!(self.query_one("SELECT pg_reload_conf()"), "t");
    }

    /// The process id of the one process of `backend_type`, once there is one.
    #[track_caller]
    pub fn pid_of(&self, backend_type: &str) -> i32 {
        wait_until(&format!("a process \"{backend_type}\""), PATIENCE, || {
            self.find_pid(backend_type)
        })
    }

    /// The process id of the first process of `backend_type` (a LIKE pattern), if any.
    pub fn find_pid(&self, backend_type: &str) -> Option<i32> {
        let sql = format!(
            "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '{backend_type}' LIMIT 1"
        );
        let pid =
            self.try_query("postgres", &sql).ok()?.into_iter().next()?.into_iter().next()??;
        pid.parse().ok()
    }

    /// Kills a child of the postmaster with SIGKILL and waits until the server
    /// takes connections again: it restarts all its processes then.
    #[track_caller]
    pub fn kill_process(&self, pid: i32) {
        send_signal(pid, libc::SIGKILL);
        // Once it is reaped the postmaster knows of the crash, and lets nobody
        // in before it is through with it.
        let entry = PathBuf::from(format!("/proc/{pid}"));
        wait_for("the end of a killed process", || !entry.exists());
        wait_for("the server to be back", || self.try_client("postgres").is_ok());
    }

    /// A connection to the database "postgres" as superuser.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.client_to("postgres")
    }

    /// A connection to `database` as superuser.
    #[track_caller]
    pub fn client_to(&self, database: &str) -> Client {
        self.try_client(database).unwrap_or_else(|error| {
            panic!("could not connect to \"{database}\": {error}\n{}", self.log_tail())
        })
    }

    /// A connection to `database` as superuser, if the server takes it.
    pub fn try_client(&self, database: &str) -> Result<Client, postgres::Error> {
        Config::new()
            .host_path(self.socket_directory())
            .port(PORT)
            .user(SUPERUSER)
            .dbname(database)
            // A statement that waits for ever ends the test, and not its server.
            .options("-c statement_timeout=120s")
            .connect_timeout(Duration::from_secs(10))
            .connect(NoTls)
    }

    /// The rows of a query as text, as psql would print them.
    pub fn try_query(
        &self,
        database: &str,
        sql: &str,
    ) -> Result<Vec<Vec<Option<String>>>, postgres::Error> {
        rows(&mut self.try_client(database)?, sql)
    }

    /// The rows of a query in the database "postgres" as text; NULL is empty.
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<Vec<String>> {
        let answer = self
            .try_query("postgres", sql)
            .unwrap_or_else(|error| panic!("{sql}\n{}", describe(&error)));
        answer
            .into_iter()
            .map(|row| row.into_iter().map(Option::unwrap_or_default).collect())
            .collect()
    }

    /// The first column of the one row of a query; NULL is empty.
    #[track_caller]
    pub fn query_one(&self, sql: &str) -> String {
        let mut answer = self.query(sql);
        assert_eq!(answer.len(), 1, "one row is wanted: {sql}");
        answer.remove(0).into_iter().next().expect("a row has a column")
    }

    /// Runs statements whose answer does not matter.
    #[track_caller]
    pub fn execute(&self, sql: &str) {
        self.execute_in("postgres", sql);
    }

    /// Runs statements in `database`.
    #[track_caller]
    pub fn execute_in(&self, database: &str, sql: &str) {
        self.client_to(database)
            .batch_execute(sql)
            .unwrap_or_else(|error| panic!("{sql}\n{}", describe(&error)));
    }

    /// The error of a statement that has to fail: its SQLSTATE and all its text.
    #[track_caller]
    pub fn failure_of(&self, sql: &str) -> SqlFailure {
        match self.try_query("postgres", sql) {
            Ok(_) => panic!("succeeded although it must not: {sql}"),
            Err(error) => SqlFailure::of(&error),
        }
    }

    /// Creates a tablespace in a directory of the cluster's scratch and says where.
    pub fn create_tablespace(&self, name: &str) -> PathBuf {
        let location = self.scratch.create(name);
        self.execute(&format!("CREATE TABLESPACE {name} LOCATION '{}'", location.display()));
        location
    }

    /// A client program of the installation, with the connection options set.
    pub fn client_program(&self, name: &str) -> std::process::Command {
        let mut command = self.installation().command(name);
        command
            .env("PGHOST", self.socket_directory())
            .env("PGPORT", PORT.to_string())
            .env("PGUSER", SUPERUSER);
        command
    }

    /// Checks every heap and B-tree index of every database with pg_amcheck.
    /// Makes the extension amcheck where it is missing.
    #[track_caller]
    pub fn amcheck(&self) {
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

    /// The directory of the Unix socket.
    pub fn socket_directory(&self) -> PathBuf {
        self.scratch.path().join("s")
    }

    /// The whole server log.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits for a line of the log that contains `text`, and hands it out.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        self.wait_for_log_after(0, text)
    }

    /// As [`wait_for_log`](Self::wait_for_log), in what was logged since the log
    /// had `offset` bytes ([`log_offset`](Self::log_offset)).
    #[track_caller]
    pub fn wait_for_log_after(&self, offset: usize, text: &str) -> String {
        let mut log = String::new();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            log = self.log().split_off(offset);
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("waited in vain for \"{text}\" in the log:\n{log}");
    }

    /// How many bytes the log has now.
    pub fn log_offset(&self) -> usize {
        self.log().len()
    }

    /// The end of the log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Whether the files of the cluster have the owner and modes that a server insists on.
    pub fn has_sound_permissions(&self) -> bool {
        let facts = fs::metadata(&self.data_directory).expect("the data directory exists");
        let expected = fs::metadata(self.socket_directory()).expect("the socket directory exists");
        facts.uid() == expected.uid() && matches!(facts.permissions().mode() & 0o777, 0o700 | 0o750)
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("log")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("-- server log of {}\n{}", self.data_directory.display(), self.log_tail());
        }
        if let Some(mut postmaster) = self.postmaster.take() {
            send_signal(postmaster.id() as i32, libc::SIGQUIT);
            if wait_for_end(&mut postmaster, Duration::from_secs(10)).is_none() {
                // A panic here would hide the test's own message.
                let _ = postmaster.kill();
                let _ = postmaster.wait();
            }
        }
        if keep_directories() {
            eprintln!("kept: data directory {}", self.data_directory.display());
        }
    }
}

/// What a statement failed with.
#[derive(Debug, Clone)]
pub struct SqlFailure {
    /// The five characters of the SQLSTATE.
    pub sqlstate: String,
    /// Message, detail and hint, each on a line.
    pub text: String,
}

impl SqlFailure {
    /// The failure that the server answered with.
    #[track_caller]
    pub fn of(error: &postgres::Error) -> SqlFailure {
        let Some(answer) = error.as_db_error() else {
            panic!("the server gave no answer: {error}");
        };
        SqlFailure { sqlstate: answer.code().code().to_owned(), text: describe(error) }
    }
}

/// The rows of a query as text.
pub fn rows(client: &mut Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, postgres::Error> {
    let messages = client.simple_query(sql)?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
        }
        _ => None,
    });
    Ok(rows.collect())
}

/// Message, detail and hint of an error.
pub fn describe(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(answer) => [Some(answer.message()), answer.detail(), answer.hint()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("\n"),
        None => error.to_string(),
    }
}

fn children_of(pid: u32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    fs::read_to_string(path)
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}
