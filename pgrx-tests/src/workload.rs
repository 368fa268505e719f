//! pgbench, in the foreground to load data and in the background as load.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::process::run;

/// A pgbench that runs until this value is dropped.
#[derive(Debug)]
pub struct Workload(Child);

impl Workload {
    /// Ends the load, and waits until it has ended.
    pub fn stop(self) {}

    /// As [`stop`](Self::stop); does nothing when it has ended.
    pub fn end(&mut self) {
        // It may have ended by itself, as it does when the server is killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.end();
    }
}

impl Cluster {
    /// Loads the tables of pgbench into the database "postgres"; `scale` times
    /// 100,000 accounts, about 15 MB each.
    #[track_caller]
    pub fn pgbench_init(&self, scale: u32) {
        run(self.client_program("pgbench").args([
            "--initialize",
            "--quiet",
            &format!("--scale={scale}"),
            "postgres",
        ]))
        .success();
    }

    /// Runs `transactions` transactions of pgbench.
    #[track_caller]
    pub fn pgbench(&self, transactions: u32) {
        run(self.client_program("pgbench").args([
            "--no-vacuum",
            &format!("--transactions={transactions}"),
            "postgres",
        ]))
        .success();
    }

    /// Starts a pgbench load of two sessions, as fast as it goes, until it is stopped.
    pub fn start_pgbench(&self) -> Workload {
        self.start_pgbench_with(&["--client=2", "--time=600"])
    }

    /// Starts a pgbench load of two sessions with at most `transactions` a
    /// second, until it is stopped.
    pub fn start_pgbench_at(&self, transactions: u32) -> Workload {
        let rate = format!("--rate={transactions}");
        self.start_pgbench_with(&["--client=2", "--time=600", &rate])
    }

    /// Starts a pgbench load of four sessions, as fast as it goes, until it is stopped
    /// or `limit` is over.
    pub fn start_large_pgbench(&self, limit: Duration) -> Workload {
        let time = format!("--time={}", limit.as_secs());
        self.start_pgbench_with(&["--client=4", "--jobs=2", &time])
    }

    fn start_pgbench_with(&self, options: &[&str]) -> Workload {
        let child = self
            .client_program("pgbench")
            .arg("--no-vacuum")
            .args(options)
            .arg("postgres")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbench can be started");
        Workload(child)
    }
}
