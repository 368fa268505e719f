//! The server's processes: started, stopped, killed.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{is_running, run_within, send_signal, wait_for_end};
use crate::scratch::keep_directories;
use crate::wait::{PATIENCE, slowness, wait_for, wait_until};

use super::Cluster;

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

impl Cluster {
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
        let deadline = Instant::now() + PATIENCE * slowness();
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
        let (directories, addresses): (Vec<_>, Vec<_>) = self
            .listens
            .iter()
            .map(String::as_str)
            .partition(|place| place.starts_with(['/', '@']));
        let own = self.socket_directory().display().to_string();
        let directories = [&[own.as_str()], &directories[..]].concat().join(",");
        let socket_directories = format!("unix_socket_directories={directories}");
        let addresses = format!("listen_addresses={}", addresses.join(","));
        // A child of this process and not of pg_ctl, so that its end is seen at
        // once, whatever the init process of the machine does with orphans.
        let child = self
            .installation()
            .server()
            .arg("-D")
            .arg(&self.data_directory)
            .args(["-c", &addresses])
            .args(["-c", &socket_directories])
            .args(["-c", &format!("port={}", self.port)])
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
        self.try_stop(mode, PATIENCE * slowness()).unwrap_or_else(|| {
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
            children.iter().all(|pid| !is_running(*pid))
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
        // Once it is reaped the postmaster knows of the crash, and lets no session
        // in before it is through with it.
        let entry = PathBuf::from(format!("/proc/{pid}"));
        wait_for("the end of a killed process", || !entry.exists());
        wait_for("the server to be back", || self.try_client("postgres").is_ok());
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

fn children_of(pid: u32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    fs::read_to_string(path)
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}
