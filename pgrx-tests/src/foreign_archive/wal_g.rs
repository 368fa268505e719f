//! Base backups as WAL-G writes them.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Map, Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::increment::{increment, is_paged};
use super::tar::{Member, TarFormat, parts, tar};
use super::{Coding, Entry, Snapshot};
use crate::archive::Archive;

/// Directories whose content is left out, wherever they are.
const EMPTIED: [&str; 12] = [
    "log",
    "pg_log",
    "pg_xlog",
    "pg_wal",
    "pgsql_tmp",
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_stat_tmp",
    "pg_snapshots",
    "pg_subtrans",
];

const CONTROL: &str = "global/pg_control";

/// How WAL-G was built and configured.
#[derive(Debug, Clone, Copy)]
pub struct WalG<'a> {
    coding: Coding<'a>,
    files_metadata: bool,
    remote: bool,
    first_version: bool,
}

/// A backup in an archive, as far as the next delta must know it.
#[derive(Debug, Clone)]
pub struct Backup {
    /// Its name.
    pub name: String,
    start_lsn: u64,
    full_name: String,
    depth: u32,
    /// When each file was modified.
    files: BTreeMap<String, (i64, i64)>,
}

/// What becomes of a file in a backup.
enum Stored {
    Whole,
    Increment(Vec<u8>),
    Skipped,
}

impl<'a> WalG<'a> {
    /// WAL-G 3 on the server's machine.
    pub fn new(coding: impl Into<Coding<'a>>) -> Self {
        WalG { coding: coding.into(), files_metadata: true, remote: false, first_version: false }
    }

    /// With `WALG_WITHOUT_FILES_METADATA`.
    pub fn without_files_metadata(self) -> Self {
        WalG { files_metadata: false, ..self }
    }

    /// Over the replication protocol: BASE_BACKUP.
    pub fn remote(self) -> Self {
        WalG { remote: true, ..self }
    }

    /// WAL-G 1, whose sentinel has everything.
    pub fn first_version(self) -> Self {
        WalG { first_version: true, ..self }
    }

    /// A full backup.
    #[track_caller]
    pub fn push(self, archive: &Archive, snapshot: &Snapshot) -> Backup {
        self.store(archive, snapshot, None)
    }

    /// What has changed since `parent`.
    #[track_caller]
    pub fn push_delta(self, archive: &Archive, snapshot: &Snapshot, parent: &Backup) -> Backup {
        self.store(archive, snapshot, Some(parent))
    }

    fn store(self, archive: &Archive, snapshot: &Snapshot, parent: Option<&Backup>) -> Backup {
        let mut name = format!("base_{}", snapshot.start_segment);
        if let Some(parent) = parent {
            name.push_str(&format!("_D_{}", &parent.name["base_".len()..][..24]));
        }
        let mut backup = Backup {
            start_lsn: snapshot.start_lsn,
            full_name: parent.map_or_else(|| name.clone(), |parent| parent.full_name.clone()),
            depth: parent.map_or(0, |parent| parent.depth + 1),
            files: BTreeMap::new(),
            name,
        };
        let mut described = Map::new();
        let (mut members, mut control) = (Vec::new(), None);
        let included = snapshot.entries.iter().filter(|entry| is_included(entry));
        for (number, entry) in included.enumerate() {
            let Some(name) = self.member_name(entry) else { continue };
            let mut member = Member {
                name,
                mode: entry.mode,
                modified: entry.modified,
                content: entry.copy.clone(),
            };
            if entry.path == CONTROL {
                control = Some(member.clone());
                if !self.remote {
                    continue;
                }
            }
            let stored = stored(entry, &member.name, parent);
            backup.files.insert(member.name.clone(), entry.modified);
            // WAL-G 1 did not list directories.
            if entry.copy.is_some() || !self.first_version {
                described.insert(member.name.clone(), description(entry, &stored));
            }
            match stored {
                Stored::Skipped => continue,
                Stored::Whole => {}
                Stored::Increment(bytes) => {
                    let path = snapshot.new_file(&format!("{}.{number}", backup.name));
                    fs::write(&path, bytes).expect("an increment can be written");
                    member.content = Some(path);
                }
            }
            members.push(member);
        }
        let labels = vec![
            Member::label("backup_label", snapshot.label.clone()),
            Member::label("tablespace_map", snapshot.tablespace_map.clone()),
        ];
        if self.remote {
            members.extend(labels.clone());
        }
        let mut sets = Map::new();
        let mut put = |tar_name: String, trailer: bool, members: &[Member], listed: bool| {
            let file_name = format!("{tar_name}.tar{}", self.coding.suffix());
            let object = format!("basebackups_005/{}/tar_partitions/{file_name}", backup.name);
            let content = tar(TarFormat::Go, trailer, members);
            archive.replace_object(&object, self.coding.encode(&content));
            if listed {
                let is_listed = |member: &&Member| member.content.is_some() || !self.first_version;
                let names = members.iter().filter(is_listed).map(|member| member.name.as_str());
                sets.insert(file_name, names.collect());
            }
        };
        for (number, part) in (1..).zip(parts(members)) {
            put(format!("part_{number:03}"), true, &part, true);
        }
        // The tar of pg_control is never closed when it comes over the network.
        let control = control.expect("every cluster has a pg_control");
        put("pg_control".to_owned(), !self.remote, &[control], false);
        if !self.remote {
            put("backup_label".to_owned(), true, &labels, true);
        }
        self.describe(archive, snapshot, parent, &backup, described, sets);
        backup
    }

    /// Writes the JSON objects, the sentinel last.
    fn describe(
        self,
        archive: &Archive,
        snapshot: &Snapshot,
        parent: Option<&Backup>,
        backup: &Backup,
        files: Map<String, Value>,
        sets: Map<String, Value>,
    ) {
        let folder = format!("basebackups_005/{}", backup.name);
        let [start_time, finish_time] = &snapshot.times;
        let put = |object: String, value: Value| {
            archive.replace_object(&object, format!("{value}\n").into_bytes());
        };
        let mut sentinel = json!({
            "LSN": snapshot.start_lsn,
            "PgVersion": snapshot.server_version,
            "FinishLSN": snapshot.stop_lsn,
            "SystemIdentifier": snapshot.system_identifier,
            "UncompressedSize": 1,
            "CompressedSize": 1,
            "UserData": null,
        });
        if let Some(parent) = parent {
            let lsn = if self.first_version { "DeltaFromLSN" } else { "DeltaLSN" };
            sentinel[lsn] = json!(parent.start_lsn);
            sentinel["DeltaFrom"] = json!(parent.name);
            sentinel["DeltaFullName"] = json!(backup.full_name);
            sentinel["DeltaCount"] = json!(backup.depth);
        }
        if self.remote || !snapshot.tablespaces.is_empty() {
            sentinel["Spec"] = spec(snapshot, &snapshot.data_directory);
        } else if self.first_version {
            sentinel["Spec"] = Value::Null;
        }
        if self.first_version {
            sentinel["Files"] = Value::Object(files);
            sentinel["TarFileSets"] = Value::Object(sets);
        } else {
            sentinel["Version"] = json!(2);
            sentinel["StartTime"] = json!(start_time);
            sentinel["FinishTime"] = json!(finish_time);
            sentinel["DateFmt"] = json!("%Y-%m-%dT%H:%M:%S.%fZ");
            sentinel["Hostname"] = json!("db1");
            sentinel["DataDir"] = json!(snapshot.data_directory);
            sentinel["IsPermanent"] = json!(false);
            sentinel["ChkpNum"] = Value::Null;
            put(
                format!("{folder}/metadata.json"),
                json!({
                    "start_time": start_time,
                    "finish_time": finish_time,
                    "date_fmt": "%Y-%m-%dT%H:%M:%S.%fZ",
                    "hostname": "db1",
                    "data_dir": snapshot.data_directory,
                    "pg_version": snapshot.server_version,
                    "start_lsn": snapshot.start_lsn,
                    "finish_lsn": snapshot.stop_lsn,
                    "is_permanent": false,
                    "system_identifier": snapshot.system_identifier,
                    "uncompressed_size": 1,
                    "compressed_size": 1,
                }),
            );
            if self.files_metadata {
                put(
                    format!("{folder}/files_metadata.json"),
                    json!({ "Files": files, "TarFileSets": sets, "DatabasesByNames": {} }),
                );
            } else {
                sentinel["FilesMetadataDisabled"] = json!(true);
            }
        }
        put(format!("{folder}_backup_stop_sentinel.json"), sentinel);
    }

    /// `None` for what is left out.
    fn member_name(self, entry: &Entry) -> Option<String> {
        let path = &entry.path;
        match (self.remote, &entry.copy) {
            (false, _) => Some(format!("/{path}")),
            // The server's own names, with no entry for the data directory itself.
            (true, None) => (!path.is_empty()).then(|| format!("{path}/")),
            (true, Some(_)) => Some(path.clone()),
        }
    }
}

fn is_included(entry: &Entry) -> bool {
    let mut above = entry.path.split('/').rev();
    let name = above.next().unwrap_or_default();
    let left_out = ["postgresql.auto.conf.tmp", "recovery.conf", "standby.signal"].contains(&name);
    !left_out && !above.any(|directory| EMPTIED.contains(&directory))
        // The link of a tablespace is not stored.
        && entry.path.strip_prefix("pg_tblspc/").is_none_or(|below| below.contains('/'))
}

fn stored(entry: &Entry, member_name: &str, parent: Option<&Backup>) -> Stored {
    let (Some(parent), Some(copy)) = (parent, &entry.copy) else { return Stored::Whole };
    match parent.files.get(member_name) {
        None => Stored::Whole,
        Some(modified) if *modified == entry.modified => Stored::Skipped,
        Some(_) => {
            let content = fs::read(copy).expect("the copy can be read");
            let is_paged = is_paged(&entry.path, &content);
            let changes = is_paged.then(|| increment(&content, parent.start_lsn)).flatten();
            changes.map_or(Stored::Whole, Stored::Increment)
        }
    }
}

fn description(entry: &Entry, stored: &Stored) -> Value {
    let (seconds, nanoseconds) = entry.modified;
    let modified = OffsetDateTime::from_unix_timestamp(seconds).expect("a time of today");
    let modified = modified + Duration::nanoseconds(nanoseconds);
    json!({
        "IsIncremented": matches!(stored, Stored::Increment(_)),
        "IsSkipped": matches!(stored, Stored::Skipped),
        "MTime": modified.format(&Rfc3339).expect("a year of four digits"),
        "UpdatesCount": 0,
    })
}

/// Where the tablespaces are; WAL-E has the same.
pub(super) fn spec(snapshot: &Snapshot, base_prefix: &str) -> Value {
    let oids: Vec<&String> = snapshot.tablespaces.iter().map(|(oid, _)| oid).collect();
    let mut spec = json!({ "base_prefix": base_prefix, "tablespaces": oids });
    for (oid, location) in &snapshot.tablespaces {
        spec[oid.as_str()] = json!({ "loc": location, "link": format!("pg_tblspc/{oid}") });
    }
    spec
}
