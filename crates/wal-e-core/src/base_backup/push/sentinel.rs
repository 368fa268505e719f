//! The sentinel of a base backup that was taken.

use std::sync::atomic::Ordering;

use time::OffsetDateTime;

use super::BackupPush;
use crate::postgres::Lsn;
use crate::sentinel::{Sentinel, TablespacePlace, TablespaceSpec};

impl BackupPush {
    pub(super) fn sentinel(&self, stop_lsn: Lsn, stopped: OffsetDateTime) -> Sentinel {
        let start = &self.start;
        let data_directory = start.data_directory.display().to_string();
        let spec = (!self.tablespaces.is_empty()).then(|| TablespaceSpec {
            base_prefix: data_directory.clone(),
            tablespaces: self.tablespaces.keys().map(u32::to_string).collect(),
            places: self
                .tablespaces
                .iter()
                .map(|(oid, location)| {
                    let loc = location.display().to_string();
                    (oid.to_string(), TablespacePlace { loc, link: format!("pg_tblspc/{oid}") })
                })
                .collect(),
        });
        let parent = self.delta.as_ref().map(|delta| &delta.parent);
        let read_bytes = self.progress.bytes_read.load(Ordering::Relaxed);
        Sentinel {
            delta_from: parent.map(|parent| parent.name.clone()),
            delta_full_name: parent.map(|parent| parent.full_name.clone()),
            delta_lsn: parent.map(|parent| parent.start_lsn),
            delta_count: parent.map(|parent| parent.deltas + 1),
            lsn: Some(start.start_lsn),
            finish_lsn: Some(stop_lsn),
            pg_version: Some(start.pg_version),
            system_identifier: Some(start.system_identifier),
            uncompressed_size: Some(parent.map_or(read_bytes, |_| self.draft.member_bytes)),
            data_catalog_size: parent.map(|_| self.draft.file_bytes()),
            spec,
            start_time: Some(start.start_time),
            finish_time: Some(stopped),
            hostname: Some(start.hostname.clone()),
            data_dir: Some(data_directory),
            wal_directory: self.wal_directory.as_ref().map(|place| place.display().to_string()),
            is_permanent: start.permanent,
            ..self.draft.sentinel()
        }
    }
}
