//! A copy of a running cluster's files, as base backups begin.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cluster::{Cluster, describe, rows};
use crate::scratch::Scratch;

/// The files of a cluster as they were while it was in backup mode.
#[derive(Debug)]
pub struct Snapshot {
    scratch: Scratch,
    /// Everything but WAL and the files of the running postmaster; directories
    /// before what is in them.
    pub entries: Vec<Entry>,
    /// `backup_label`.
    pub label: PathBuf,
    /// `tablespace_map`, which may be empty.
    pub tablespace_map: PathBuf,
    /// Where recovery begins.
    pub start_lsn: u64,
    /// Where the files are consistent.
    pub stop_lsn: u64,
    /// The name of the WAL segment in which recovery begins.
    pub start_segment: String,
    /// The name of the segment of the stop LSN.
    pub stop_segment: String,
    /// OID and place of each tablespace.
    pub tablespaces: Vec<(String, String)>,
    /// The data directory.
    pub data_directory: String,
    /// `server_version_num`.
    pub server_version: u64,
    /// `SELECT version()`.
    pub version_text: String,
    /// Of the cluster.
    pub system_identifier: u64,
    /// When the backup began and ended, RFC 3339.
    pub times: [String; 2],
}

/// A file or directory of a [`Snapshot`].
#[derive(Debug, Clone)]
pub struct Entry {
    /// Below the data directory; empty for that itself. Tablespaces are
    /// `pg_tblspc/<oid>`, and directories.
    pub path: String,
    /// Permissions.
    pub mode: u32,
    /// Seconds and nanoseconds since 1970, from before it was read.
    pub modified: (i64, i64),
    /// The copy; `None` for a directory.
    pub copy: Option<PathBuf>,
}

impl Snapshot {
    /// Copies the files of a running cluster in backup mode.
    #[track_caller]
    pub fn of(cluster: &Cluster) -> Snapshot {
        let mut client = cluster.client();
        let mut ask = |sql: &str| -> Vec<Vec<String>> {
            let answer = rows(&mut client, sql);
            let answer = answer.unwrap_or_else(|error| panic!("{sql}\n{}", describe(&error)));
            let filled = |row: Vec<Option<String>>| row.into_iter().map(Option::unwrap_or_default);
            answer.into_iter().map(|row| filled(row).collect()).collect()
        };
        const NOW: &str =
            r#"SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;
        let scratch = Scratch::new();
        let began = ask(NOW).remove(0).remove(0);
        let facts =
            ask("SELECT system_identifier, current_setting('server_version_num'), version() \
                         FROM pg_control_system()")
            .remove(0);
        let start =
            ask("SELECT s, pg_walfile_name(s) FROM pg_backup_start('base', true) s").remove(0);
        let tablespaces = ask("SELECT oid, pg_tablespace_location(oid) FROM pg_tablespace \
                               WHERE spcname NOT LIKE 'pg\\_%' ORDER BY oid");
        let mut entries = Vec::new();
        copy(cluster.data_directory(), "", &scratch.path().join("copy"), &mut entries);
        let stop = ask(
            "SELECT lsn, pg_walfile_name(lsn), labelfile, spcmapfile FROM pg_backup_stop(false)",
        )
        .remove(0);
        let ended = ask(NOW).remove(0).remove(0);
        let [label, tablespace_map] =
            ["backup_label", "tablespace_map"].map(|name| scratch.path().join(name));
        fs::write(&label, &stop[2]).expect("the label can be written");
        fs::write(&tablespace_map, &stop[3]).expect("the map can be written");
        let number = |text: &str| text.parse().expect("a number");
        Snapshot {
            entries,
            label,
            tablespace_map,
            start_lsn: lsn(&start[0]),
            stop_lsn: lsn(&stop[0]),
            start_segment: start[1].clone(),
            stop_segment: stop[1].clone(),
            tablespaces: tablespaces
                .into_iter()
                .map(|row| (row[0].clone(), row[1].clone()))
                .collect(),
            data_directory: cluster.data_directory().display().to_string(),
            server_version: number(&facts[1]),
            version_text: facts[2].clone(),
            system_identifier: number(&facts[0]),
            times: [began, ended],
            scratch,
        }
    }

    /// A place for files that are made from this.
    pub fn new_file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

/// Copies what is at `from`, which is `path` of the data directory, to `to`.
fn copy(from: &Path, path: &str, to: &Path, entries: &mut Vec<Entry>) {
    // Follows links: those to tablespaces.
    let facts = match fs::metadata(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        facts => facts.unwrap_or_else(|error| panic!("{}: {error}", from.display())),
    };
    let mut entry = Entry {
        path: path.to_owned(),
        mode: facts.mode() & 0o777,
        modified: (facts.mtime(), facts.mtime_nsec()),
        copy: None,
    };
    if facts.is_file() {
        match fs::copy(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            copied => copied.unwrap_or_else(|error| panic!("{}: {error}", from.display())),
        };
        entry.copy = Some(to.to_owned());
        entries.push(entry);
        return;
    }
    if !facts.is_dir() {
        return;
    }
    entries.push(entry);
    fs::create_dir(to).expect("a directory of the copy can be made");
    if path == "pg_wal" {
        return;
    }
    let mut names: Vec<String> = fs::read_dir(from)
        .expect("a directory of the cluster can be read")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name in UTF-8"))
        .collect();
    names.sort();
    for name in names.iter().filter(|name| !name.starts_with("postmaster.")) {
        let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        copy(&from.join(name), &below, &to.join(name), entries);
    }
}

fn lsn(text: &str) -> u64 {
    let (high, low) = text.split_once('/').expect("an LSN");
    let half = |digits| u64::from_str_radix(digits, 16).expect("hexadecimal digits");
    half(high) << 32 | half(low)
}
