//! The program `wal-e`.

use std::process::Command;

use crate::archive::Archive;
use crate::cluster::Cluster;
use crate::installation::wal_e_program;
use crate::process::{Finished, ServerUser, run};

/// The program, run as the server's user with a clean environment and pointed
/// at `archive`.
pub fn wal_e(archive: &Archive) -> Command {
    let mut command = bare_wal_e();
    command.args(archive.program_options());
    command
}

/// `wal-e backup-push` for this cluster.
pub fn backup_push(cluster: &Cluster, archive: &Archive) -> Command {
    let mut command = wal_e(archive);
    command
        .env("PGHOST", cluster.socket_directory())
        .env("PGUSER", "postgres")
        .arg("backup-push")
        .arg(cluster.data_directory());
    command
}

/// The program, pointed at nothing.
pub fn bare_wal_e() -> Command {
    ServerUser::get().command(wal_e_program())
}

/// Runs the program on `archive` with `arguments`.
#[track_caller]
pub fn run_wal_e<'a>(archive: &Archive, arguments: impl IntoIterator<Item = &'a str>) -> Finished {
    run(wal_e(archive).args(arguments))
}

/// An `archive_command` that pushes to `archive`, without quotes around it;
/// `options` are those of `wal-push`.
pub fn archive_command(archive: &Archive, options: &str) -> String {
    let program = wal_e_program().display();
    format!("{program} {} wal-push {options} \"%p\"", archive.program_options().join(" "))
}
