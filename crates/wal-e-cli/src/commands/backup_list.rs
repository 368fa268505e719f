//! `wal-e backup-list [QUERY] [--detail] [--json]`.

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use wal_e_core::catalogue;
use wal_e_core::catalogue::BackupInfo;
use wal_e_core::encryption::Form;
use wal_e_core::{Error, ErrorKind, Result};

use super::{open_for_question, run_small};
use crate::cli;
use crate::report::{Report, print_result};
use crate::settings::Settings;
use crate::table::{align, size};

pub fn run(arguments: &cli::BackupList, settings: &Settings, report: &Report) -> Result<()> {
    let backups = run_small(async {
        let opened = open_for_question(settings, report).await?;
        let list = catalogue::list(opened.store.as_ref(), &opened.notices);
        report.attend(&opened.queue, || None, list).await
    })??;
    let backups = select(backups, arguments.query.as_deref());
    let text = match (arguments.json, arguments.detail) {
        (true, _) => json(&backups)?,
        (false, false) => align(&brief(&backups)),
        (false, true) => align(&detailed(&backups)),
    };
    print_result(&text)
}

/// `LATEST` is the last of the list; any other query is the beginning of names.
fn select(mut backups: Vec<BackupInfo>, query: Option<&str>) -> Vec<BackupInfo> {
    match query {
        None => {}
        Some("LATEST") => drop(backups.drain(..backups.len().saturating_sub(1))),
        Some(beginning) => backups.retain(|backup| backup.name.starts_with(beginning)),
    }
    backups
}

fn brief(backups: &[BackupInfo]) -> Vec<Vec<String>> {
    let header =
        ["backup name", "type", "start time (UTC)", "timeline", "size", "stored", "permanent"];
    table(&header, backups, |backup| {
        vec![
            backup.name.clone(),
            backup.kind().to_string(),
            time(backup.start_time),
            backup.timeline.to_string(),
            optional(backup.uncompressed_bytes.map(size)),
            optional(backup.compressed_bytes.map(size)),
            yes_or_no(backup.permanent),
        ]
    })
}

fn detailed(backups: &[BackupInfo]) -> Vec<Vec<String>> {
    let header = [
        "backup name",
        "type",
        "start time (UTC)",
        "finish time (UTC)",
        "timeline",
        "start LSN",
        "stop LSN",
        "PostgreSQL",
        "system identifier",
        "size",
        "stored",
        "permanent",
        "encryption",
        "key",
        "host",
        "data directory",
    ];
    table(&header, backups, |backup| {
        vec![
            backup.name.clone(),
            backup.kind().to_string(),
            time(backup.start_time),
            time(backup.finish_time),
            backup.timeline.to_string(),
            optional(backup.start_lsn.map(|lsn| lsn.to_string())),
            optional(backup.stop_lsn.map(|lsn| lsn.to_string())),
            optional(backup.pg_version.map(version)),
            optional(backup.system_identifier.map(|identifier| identifier.to_string())),
            optional(backup.uncompressed_bytes.map(size)),
            optional(backup.compressed_bytes.map(size)),
            yes_or_no(backup.permanent),
            encryption(backup).to_owned(),
            optional(backup.encryption_key.clone()),
            optional(backup.hostname.clone()),
            optional(backup.data_directory.clone()),
        ]
    })
}

fn table(
    header: &[&str],
    backups: &[BackupInfo],
    row: impl Fn(&BackupInfo) -> Vec<String>,
) -> Vec<Vec<String>> {
    let header = header.iter().map(|&title| title.to_owned()).collect();
    std::iter::once(header).chain(backups.iter().map(row)).collect()
}

fn optional(value: Option<String>) -> String {
    value.filter(|value| !value.is_empty()).unwrap_or_else(|| "-".to_owned())
}

/// Nobody but wal_e says so of a backup.
fn encryption(backup: &BackupInfo) -> &'static str {
    backup.encryption.map_or("unknown", Form::as_str)
}

fn yes_or_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// `server_version_num` as people say it: 150018 is 15.18.
fn version(number: u32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

fn time(time: Option<OffsetDateTime>) -> String {
    let seconds = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    optional(time.and_then(|time| time.to_offset(time::UtcOffset::UTC).format(seconds).ok()))
}

/// The columns of `wale_backup_list()`, and two of `wale_backup_chains()`. Sizes are in bytes, times in RFC 3339; the
/// system identifier is text, because it passes what a double holds exactly.
#[derive(Debug, Serialize)]
struct Row<'a> {
    backup_name: &'a str,
    backup_type: &'a str,
    start_time: Option<String>,
    finish_time: Option<String>,
    timeline: u32,
    start_lsn: Option<String>,
    stop_lsn: Option<String>,
    pg_version: Option<u32>,
    system_identifier: Option<String>,
    uncompressed_bytes: Option<u64>,
    compressed_bytes: Option<u64>,
    permanent: bool,
    hostname: Option<&'a str>,
    data_directory: Option<&'a str>,
    damage: Option<&'a str>,
    encryption: Option<&'a str>,
    encryption_key: Option<&'a str>,
    delta_from: Option<&'a str>,
    cluster_bytes: Option<u64>,
}

fn json(backups: &[BackupInfo]) -> Result<String> {
    let time = |time: Option<OffsetDateTime>| {
        time.and_then(|time| time.to_offset(time::UtcOffset::UTC).format(&Rfc3339).ok())
    };
    let row = |backup: &'_ BackupInfo| -> Result<String> {
        let row = Row {
            backup_name: &backup.name,
            backup_type: backup.kind().as_str(),
            start_time: time(backup.start_time),
            finish_time: time(backup.finish_time),
            timeline: backup.timeline.0,
            start_lsn: backup.start_lsn.map(|lsn| lsn.to_string()),
            stop_lsn: backup.stop_lsn.map(|lsn| lsn.to_string()),
            pg_version: backup.pg_version,
            system_identifier: backup.system_identifier.map(|identifier| identifier.to_string()),
            uncompressed_bytes: backup.uncompressed_bytes,
            compressed_bytes: backup.compressed_bytes,
            permanent: backup.permanent,
            hostname: backup.hostname.as_deref(),
            data_directory: backup.data_directory.as_deref(),
            damage: backup.damage(),
            encryption: backup.encryption.map(Form::as_str),
            encryption_key: backup.encryption_key.as_deref(),
            delta_from: backup.delta_from.as_deref(),
            cluster_bytes: backup.cluster_bytes,
        };
        serde_json::to_string(&row).map_err(|source| {
            Error::new(ErrorKind::Bug, format!("could not write the list as JSON: {source}"))
        })
    };
    let rows = backups.iter().map(row).collect::<Result<Vec<_>>>()?;
    Ok(match rows.is_empty() {
        true => "[]\n".to_owned(),
        false => format!("[\n  {}\n]\n", rows.join(",\n  ")),
    })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;
    use wal_e_core::postgres::{Lsn, SystemIdentifier, TimelineId};

    use super::*;

    fn backup(name: &str) -> BackupInfo {
        BackupInfo {
            name: name.to_owned(),
            stored_at: datetime!(2026-01-02 03:10:00 UTC),
            start_time: Some(datetime!(2026-01-02 05:04:05 +02:00)),
            finish_time: None,
            timeline: TimelineId(1),
            start_lsn: Some(Lsn(0x16_B374_D848)),
            stop_lsn: None,
            pg_version: Some(150_018),
            system_identifier: Some(SystemIdentifier(u64::MAX)),
            uncompressed_bytes: Some(1500 << 20),
            compressed_bytes: None,
            cluster_bytes: None,
            permanent: true,
            delta_from: None,
            hostname: Some("db1".to_owned()),
            data_directory: Some("/data".to_owned()),
            encryption: None,
            encryption_key: None,
            unreadable: None,
            metadata_unreadable: None,
        }
    }

    fn damaged(name: &str) -> BackupInfo {
        let error = Error::new(ErrorKind::Corrupt, "object \"x\" is damaged");
        BackupInfo { unreadable: Some(error), ..backup(name) }
    }

    fn encrypted(name: &str) -> BackupInfo {
        let (encryption, encryption_key) = (Some(Form::Libsodium), Some("0a1b".to_owned()));
        BackupInfo { encryption, encryption_key, ..backup(name) }
    }

    #[test]
    fn a_query_is_latest_or_the_beginning_of_names() {
        let names = |query| {
            let backups = ["base_1", "base_12", "base_2"].map(backup).to_vec();
            select(backups, query).into_iter().map(|backup| backup.name).collect::<Vec<_>>()
        };
        assert_eq!(names(None).len(), 3);
        assert_eq!(names(Some("LATEST")), ["base_2"]);
        assert_eq!(names(Some("base_1")), ["base_1", "base_12"]);
        assert!(names(Some("x")).is_empty());
        assert!(select(Vec::new(), Some("LATEST")).is_empty());
    }

    #[test]
    fn the_tables_have_a_header_even_when_there_is_no_backup() {
        assert!(align(&brief(&[])).starts_with("backup name  type"));
        let text = align(&brief(&[backup("base_1")]));
        let line = "base_1       full  2026-01-02 03:04:05  1         1500 MB  -       yes";
        assert_eq!(text.lines().nth(1), Some(line));
        let delta = BackupInfo { delta_from: Some("base_0".to_owned()), ..backup("base_1_D_0") };
        let text = align(&detailed(&[delta]));
        for word in ["delta", "16/B374D848", "15.18", "18446744073709551615", "db1", "/data"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(text.contains("unknown     -"), "{text}");
        let text = align(&detailed(&[encrypted("base_1")]));
        assert!(text.contains("libsodium   0a1b"), "{text}");
        let text = align(&brief(&[damaged("base_1")]));
        assert!(text.contains("base_1       damaged  2026"), "{text}");
    }

    #[test]
    fn json_has_the_columns_of_the_sql_functions() {
        assert_eq!(json(&[]).unwrap(), "[]\n");
        let text = json(&[backup("base_1"), damaged("base_2")]).unwrap();
        let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(rows.as_array().unwrap().len(), 2);
        assert_eq!(
            (&rows[0]["damage"], &rows[1]["backup_type"]),
            (&serde_json::Value::Null, &"damaged".into())
        );
        assert_eq!(rows[1]["damage"], "object \"x\" is damaged");
        assert_eq!(rows[0]["backup_name"], "base_1");
        assert_eq!(rows[0]["start_time"], "2026-01-02T03:04:05Z");
        assert_eq!(rows[0]["finish_time"], serde_json::Value::Null);
        assert_eq!(rows[0]["start_lsn"], "16/B374D848");
        assert_eq!(rows[0]["system_identifier"], "18446744073709551615");
        assert_eq!(rows[0]["uncompressed_bytes"], 1_572_864_000);
        assert_eq!(rows[0]["delta_from"], serde_json::Value::Null);
        assert_eq!(rows[0].as_object().unwrap().len(), 19);
        let text = json(&[encrypted("base_1")]).unwrap();
        let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&rows[0]["encryption"], &rows[0]["encryption_key"]),
            (&"libsodium".into(), &"0a1b".into())
        );
    }
}
