//! Base backups as WAL-E wrote them.

use serde_json::json;

use super::tar::{Member, TarFormat, parts, tar};
use super::wal_g::spec;
use super::{Cipher, Codec, Coding, Entry, Snapshot};
use crate::archive::Archive;

/// Files of the top of the data directory that are left out.
const LEFT_OUT: [&str; 6] = [
    "postgresql.conf",
    "pg_hba.conf",
    "pg_ident.conf",
    "recovery.conf",
    "recovery.done",
    "promote",
];

/// Directories of the top whose content is left out, and those wherever they are.
const EMPTIED_AT_TOP: [&str; 4] = ["pg_xlog", "pg_log", "pg_replslot", "pg_wal"];
const EMPTIED: [&str; 3] = ["pgsql_tmp", "pg_stat_tmp", ".wal-e"];

/// WAL-E, on a Python whose tars have this format.
#[derive(Debug, Clone, Copy)]
pub struct WalE(pub TarFormat);

impl WalE {
    /// Stores a backup, and names it.
    #[track_caller]
    pub fn push(self, archive: &Archive, snapshot: &Snapshot) -> String {
        self.push_as(Codec::Lzop.into(), archive, snapshot)
    }

    /// As [`push`](Self::push), with `WALE_GPG_KEY_ID`.
    #[track_caller]
    pub fn push_encrypted(self, cipher: &Cipher, archive: &Archive, snapshot: &Snapshot) -> String {
        self.push_as(Codec::Lzop.encrypted(cipher), archive, snapshot)
    }

    #[track_caller]
    fn push_as(self, coding: Coding<'_>, archive: &Archive, snapshot: &Snapshot) -> String {
        let offset = |lsn: u64| format!("{:08}", lsn % (16 * 1024 * 1024));
        let name = format!("base_{}_{}", snapshot.start_segment, offset(snapshot.start_lsn));
        let folder = format!("basebackups_005/{name}");
        let put = |object: String, text: String| archive.replace_object(&object, text.into_bytes());
        put(format!("{folder}/extended_version.txt"), snapshot.version_text.clone());
        for (number, part) in parts(members(snapshot)).iter().enumerate() {
            let object = format!("{folder}/tar_partitions/part_{number:08}.tar.lzo");
            archive.replace_object(&object, coding.encode(&tar(self.0, true, part)));
        }
        let sentinel = json!({
            "wal_segment_backup_stop": snapshot.stop_segment,
            "wal_segment_offset_backup_stop": offset(snapshot.stop_lsn),
            "expanded_size_bytes": 1,
            "spec": spec(snapshot, &format!("{}/", snapshot.data_directory)),
        });
        put(format!("{folder}_backup_stop_sentinel.json"), sentinel.to_string());
        name
    }
}

fn members(snapshot: &Snapshot) -> Vec<Member> {
    let mut members = Vec::new();
    for entry in snapshot.entries.iter().filter(|entry| is_included(entry, snapshot)) {
        let name = match (&entry.copy, entry.path.as_str()) {
            (Some(_), path) => path.to_owned(),
            (None, path) => format!("{path}/"),
        };
        let (mode, modified, content) = (entry.mode, entry.modified, entry.copy.clone());
        members.push(Member { name, mode, modified, content });
        if entry.path.is_empty() {
            // They lay in the data directory while the backup was taken.
            members.push(Member::label("backup_label", snapshot.label.clone()));
            if !snapshot.tablespaces.is_empty() {
                let map = snapshot.tablespace_map.clone();
                members.push(Member::label("tablespace_map", map));
            }
        }
    }
    members
}

fn is_included(entry: &Entry, snapshot: &Snapshot) -> bool {
    let path = entry.path.as_str();
    let (top, below) = path.split_once('/').unwrap_or((path, ""));
    let in_emptied = || {
        let mut above = path.rsplit('/').skip(1);
        above.any(|directory| EMPTIED.contains(&directory))
    };
    if LEFT_OUT.contains(&path)
        || (EMPTIED_AT_TOP.contains(&top) && !below.is_empty())
        || in_emptied()
    {
        return false;
    }
    // Of a tablespace neither the link is stored nor a directory that holds files.
    let is_link = top == "pg_tblspc" && !below.is_empty() && !below.contains('/');
    let holds_files = || {
        let beginning = format!("{path}/");
        snapshot.entries.iter().any(|other| other.path.starts_with(&beginning))
    };
    let in_tablespace = top == "pg_tblspc" && !below.is_empty();
    let is_implied = in_tablespace && entry.copy.is_none() && holds_files();
    !is_link && !is_implied
}
