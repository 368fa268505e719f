//! The files that a server reads first: `pg_control`, `backup_label`,
//! `tablespace_map`.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{self, Report, examples};
use crate::error::{Error, ErrorKind};
use crate::layout;
use crate::postgres::{BackupLabel, ControlFile, SegmentSize, data_directory, tablespace_map};
use crate::sentinel::Sentinel;

/// A file that was kept whole.
pub(super) struct KeptFile {
    /// Below the data directory.
    pub(super) path: String,
    pub(super) content: Vec<u8>,
    /// The tar that has it.
    pub(super) url: String,
}

/// The files, and the tablespaces that others belong to.
pub(super) struct ClusterFiles {
    pub(super) kept: Vec<KeptFile>,
    pub(super) tablespaces: BTreeSet<u32>,
}

impl ClusterFiles {
    /// Checks the files of the backup `name`, whose objects are below `directory`.
    /// Returns its label and the size of the cluster's WAL segments, as far as they are known.
    pub(super) fn verify(
        &self,
        name: &str,
        directory: &str,
        sentinel: &Sentinel,
        report: &mut Report,
    ) -> (Option<BackupLabel>, Option<SegmentSize>) {
        let label = self.label(name, directory, sentinel, report);
        let control = self.control(directory, sentinel, label.as_ref(), report);
        self.tablespace_map(directory, sentinel, report);
        (label, control.and_then(|control| control.segment_size))
    }

    fn file(&self, path: &str) -> Option<&KeptFile> {
        self.kept.iter().find(|file| file.path == path)
    }

    /// The file that every backup has.
    fn required(
        &self,
        path: &str,
        check: &'static str,
        directory: &str,
        report: &mut Report,
    ) -> Option<&KeptFile> {
        let file = self.file(path);
        if file.is_none() {
            let what = format!("no readable tar below \"{directory}\" has a sound file \"{path}\"");
            report.failed(check, directory, what);
        }
        file
    }

    fn control(
        &self,
        directory: &str,
        sentinel: &Sentinel,
        label: Option<&BackupLabel>,
        report: &mut Report,
    ) -> Option<ControlFile> {
        const CHECK: &str = report::PG_CONTROL;
        let file = self.required(data_directory::CONTROL_FILE, CHECK, directory, report)?;
        let control = match ControlFile::parse(&file.content) {
            Ok(control) => control,
            Err(error) => {
                report.failed_with(CHECK, &file.url, &error);
                return None;
            }
        };
        let found = control.system_identifier;
        if let Some(expected) = sentinel.system_identifier
            && expected != found
        {
            let what = format!(
                "its pg_control has system identifier {found}; the sentinel says {expected}"
            );
            report.failed(CHECK, &file.url, what);
        }
        // It was read while the backup was running.
        let checkpoint = control.checkpoint_lsn;
        let too_old = label.is_some_and(|label| checkpoint < label.checkpoint_lsn);
        let too_new = sentinel.finish_lsn.is_some_and(|stop| checkpoint >= stop);
        if too_old || too_new {
            let when = if too_old { "before" } else { "after" };
            let what = format!(
                "its pg_control is from another time: its checkpoint at LSN {checkpoint} was {when} this backup"
            );
            report.failed(CHECK, &file.url, what);
        }
        report.passed(CHECK, format!("its CRC is correct; system identifier {found}"));
        Some(control)
    }

    fn label(
        &self,
        name: &str,
        directory: &str,
        sentinel: &Sentinel,
        report: &mut Report,
    ) -> Option<BackupLabel> {
        const CHECK: &str = report::BACKUP_LABEL;
        let file = self.required(data_directory::BACKUP_LABEL, CHECK, directory, report)?;
        let label = match text(file).and_then(BackupLabel::parse) {
            Ok(label) => label,
            Err(error) => {
                report.failed_with(CHECK, &file.url, &error);
                return None;
            }
        };
        let found = label.start_lsn;
        if let Some(expected) = sentinel.lsn
            && expected != found
        {
            let what = format!("its label has start LSN {found}; the sentinel says {expected}");
            report.failed(CHECK, &file.url, what);
        }
        let timeline = layout::timeline_of_backup(name);
        if let (Some(found), Some(expected)) = (label.timeline, timeline)
            && found != expected
        {
            let what = format!("its label has timeline {found}; the backup's name says {expected}");
            report.failed(CHECK, &file.url, what);
        }
        let segment = layout::start_segment_of_backup(name);
        if segment.is_some_and(|segment| segment != label.start_segment) {
            let found = &label.start_segment;
            let what = format!(
                "its label begins in WAL segment \"{found}\", but the backup is \"{name}\""
            );
            report.failed(CHECK, &file.url, what);
        }
        if label.checkpoint_lsn < label.start_lsn {
            report.failed(CHECK, &file.url, "its label has a checkpoint before its start LSN");
        }
        report.passed(CHECK, format!("begins at LSN {found}"));
        Some(label)
    }

    /// The map and the sentinel name the same places. A tablespace that is in neither was
    /// created in place: it is a directory.
    fn tablespace_map(&self, directory: &str, sentinel: &Sentinel, report: &mut Report) {
        const CHECK: &str = report::TABLESPACE_MAP;
        let file = self.file(data_directory::TABLESPACE_MAP);
        let url = file.map_or(directory, |file| file.url.as_str());
        let parsed = file.map(|file| text(file).and_then(tablespace_map::parse)).transpose();
        let mapped = match parsed {
            Ok(mapped) => mapped.unwrap_or_default(),
            Err(error) => {
                report.failed_with(CHECK, url, &error);
                return;
            }
        };
        let mapped: BTreeMap<String, String> = mapped
            .into_iter()
            .map(|tablespace| (tablespace.oid.to_string(), tablespace.location))
            .collect();
        let places = sentinel.spec.as_ref().map(|spec| &spec.places);
        let expected: BTreeMap<&String, &str> =
            places.into_iter().flatten().map(|(oid, place)| (oid, place.loc.as_str())).collect();
        for (oid, place) in &expected {
            // It was created after the server wrote its map.
            let Some(found) = mapped.get(*oid) else {
                report.noted(
                    CHECK,
                    format!("tablespace {oid} is not in the tablespace map; replay of the WAL creates it"),
                );
                continue;
            };
            if without_slash(found) != without_slash(place) {
                let what = format!(
                    "tablespace {oid} is at \"{place}\" in the sentinel, but at \"{found}\" in the tablespace map"
                );
                report.failed(CHECK, url, what);
            }
        }
        let unknown = mapped.keys().filter(|oid| !expected.contains_key(oid));
        let unknown: Vec<&str> = unknown.map(String::as_str).collect();
        if !unknown.is_empty() {
            let named = examples(unknown);
            let what = format!("the sentinel lacks these tablespaces of the map: {named}");
            report.failed(CHECK, url, what);
        }
        let oids = self.tablespaces.iter().map(u32::to_string);
        for oid in oids.filter(|oid| !mapped.contains_key(oid) && !expected.contains_key(oid)) {
            report.noted(CHECK, format!("tablespace {oid} stays a directory in pg_tblspc"));
        }
        report.passed(CHECK, format!("{} tablespaces", mapped.len()));
    }
}

fn text(file: &KeptFile) -> Result<&str, Error> {
    std::str::from_utf8(&file.content).map_err(|_| {
        Error::new(
            ErrorKind::Corrupt,
            format!("\"{}\" is damaged: it is not valid UTF-8", file.path),
        )
    })
}

fn without_slash(path: &str) -> &str {
    path.trim_end_matches('/')
}
