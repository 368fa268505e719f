//! wal-rus, WAL-G in Rust, with its daemon, from the crates registry.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::repository;
use wal_e_e2e::process::{ServerUser, run, send_signal, wait_for_end};
use wal_e_e2e::scratch::Scratch;
use wal_e_e2e::wait::wait_for;

use crate::WAL_PROCESSES;
use crate::contender::Archiver;
use crate::meter::Watched;
use crate::wal_e::{name_of_s3, s3_with_latency};

/// Its rows begin with this.
pub const NAME: &str = "wal-rus";

/// wal-rus on the S3 server of the tests, behind a proxy as in [`s3_with_latency`].
pub struct WalRus {
    archive: Archive,
    latency: Duration,
    program: PathBuf,
    socket: PathBuf,
    daemon: Option<Child>,
    _scratch: Scratch,
}

/// Where `make bench` installs it.
fn program() -> PathBuf {
    let program = repository().join("target/tools/bin/walrus");
    assert!(program.is_file(), "{} is missing: \"make bench\" installs it", program.display());
    program
}

/// Its version, as it says it.
pub fn version() -> String {
    run(Command::new(program()).arg("--version")).success().trim().to_owned()
}

impl WalRus {
    /// An empty prefix.
    pub fn on_s3_with_latency(latency: Duration) -> WalRus {
        let scratch = Scratch::new();
        let directory = scratch.create("wal-rus");
        // The user of the server cannot read everybody's target directory.
        let copy = directory.join("walrus");
        std::fs::copy(program(), &copy).expect("a program can be copied");
        let socket = directory.join("socket");
        WalRus {
            archive: s3_with_latency(latency),
            latency,
            program: copy,
            socket,
            daemon: None,
            _scratch: scratch,
        }
    }

    fn start(&mut self, cluster: &Cluster) {
        let server = self.archive.server();
        let variables = [
            ("WALG_S3_PREFIX", self.archive.url()),
            ("AWS_ENDPOINT", self.archive.proxy().endpoint()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_S3_FORCE_PATH_STYLE", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", server.access_key().to_owned()),
            ("AWS_SECRET_ACCESS_KEY", server.secret_key().to_owned()),
            ("WALG_COMPRESSION_METHOD", "lz4".to_owned()),
            ("WALG_UPLOAD_CONCURRENCY", WAL_PROCESSES.to_string()),
            ("PGDATA", cluster.data_directory().display().to_string()),
        ];
        let daemon = ServerUser::get()
            .command(&self.program)
            .arg("daemon")
            .arg(&self.socket)
            .envs(variables)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the daemon can be started");
        self.daemon = Some(daemon);
        wait_for("the daemon of wal-rus listens", || self.socket.exists());
    }
}

impl Drop for WalRus {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            send_signal(daemon.id() as i32, libc::SIGTERM);
            if wait_for_end(&mut daemon, Duration::from_secs(10)).is_none() {
                let _ = daemon.kill();
                let _ = daemon.wait();
            }
        }
    }
}

impl Archiver for WalRus {
    fn name(&self) -> String {
        format!("{NAME} ({})", name_of_s3(self.latency))
    }

    fn settings_idle(&self) -> Vec<String> {
        Vec::new()
    }

    fn setting_to_begin(&self) -> String {
        let (program, socket) = (self.program.display(), self.socket.display());
        format!("archive_command = '{program} daemon-client --socket {socket} wal-push %p'")
    }

    fn prepare(&mut self, cluster: &Cluster) {
        self.start(cluster);
    }

    fn watched(&self) -> Watched {
        Watched { programs: &["walrus"], server_processes: &[] }
    }

    fn stored_wal_bytes(&self) -> u64 {
        self.archive.bytes_below("wal_005/")
    }
}
