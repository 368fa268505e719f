//! What the figures were measured on and with.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use wal_e_e2e::installation::{Installation, PgVersion};
use wal_e_e2e::process::{proc_field, run};
use wal_e_e2e::wal_e::bare_wal_e;

use crate::options::{Options, Task};
use crate::wal_rus;

/// How many processes can work at the same time.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The machine as it is now.
pub fn machine() -> Value {
    let directory = std::env::temp_dir();
    let memory_gb = |label| proc_field("/proc/meminfo", label).unwrap_or(0) as f64 * 1024.0 / 1e9;
    json!({
        "cores": cores(),
        "cpu": field_of_cpu("model name"),
        "memory_gb": memory_gb("MemTotal:"),
        "swap_gb": memory_gb("SwapTotal:"),
        "kernel": first_word_of("/proc/sys/kernel/osrelease"),
        // Of the last minute: what others did before this began.
        "load": first_word_of("/proc/loadavg").parse::<f64>().ok(),
        "directory": directory,
        "file_system": file_system_of(&directory),
    })
}

/// Everything that takes part, each in its own words.
pub fn versions(options: &Options) -> Value {
    // Only incremental backups are measured on more than one.
    let count = if options.wants(Task::Incremental) { usize::MAX } else { 1 };
    let servers = PgVersion::complete().iter().take(count).map(|version| {
        first_line(Installation::get(*version).command("postgres").arg("--version"))
    });
    json!({
        "wal_e": first_line(bare_wal_e().arg("--version")),
        "postgresql": servers.collect::<Vec<_>>().join(", "),
        "pgbackrest": first_line(Command::new("pgbackrest").arg("version")),
        "wal_rus": wal_rus::version(),
        "lz4": first_line(Command::new("lz4").arg("--version")),
        "tar": first_line(Command::new("tar").arg("--version")),
    })
}

fn first_line(command: &mut Command) -> String {
    run(command).success().lines().next().unwrap_or_default().trim_matches(['*', ' ']).to_owned()
}

fn first_word_of(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

fn field_of_cpu(label: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(label))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the file system that a directory is on, such as "ext4".
fn file_system_of(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let above = mounts.filter(|(point, _)| directory.starts_with(point));
    // Of several at one place, the last mounted is seen.
    above.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind.to_owned())
}
