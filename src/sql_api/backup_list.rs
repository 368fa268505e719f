//! `wale_backup_list()`.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use wal_e_core::catalogue;
use wal_e_core::catalogue::BackupInfo;
use wal_e_core::encryption::Form;
use wal_e_core::store::{self, retry::Patience};

use super::timestamp::timestamptz;
use crate::error::{Result, in_words};
use crate::gucs;
use crate::pg::lsn_datum::LsnDatum;
use crate::pg::text::Text;

/// The columns of one backup, and what comes after them.
macro_rules! row {
    ($backup:ident $(, $more:expr)*) => {{
        let (kind, damage) = ($backup.kind().as_str(), $backup.damage().map(in_words));
        (
            Text($backup.name),
            kind,
            $backup.start_time.and_then(timestamptz),
            $backup.finish_time.and_then(timestamptz),
            i64::from($backup.timeline.0),
            $backup.start_lsn.map(LsnDatum),
            $backup.stop_lsn.map(LsnDatum),
            $backup.pg_version.and_then(|version| i32::try_from(version).ok()),
            $backup.system_identifier.map(|identifier| AnyNumeric::from(identifier.0)),
            $backup.uncompressed_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
            $backup.compressed_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
            $backup.permanent,
            $backup.hostname.map(Text),
            $backup.data_directory.map(Text),
            damage.map(Text),
            $($more),*
        )
    }};
}

/// The base backups of the configured prefix, oldest first, for a database whose extension has
/// not been updated to version 1.1.0.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn wale_backup_list() -> Result<
    TableIterator<
        'static,
        (
            name!(backup_name, Text),
            name!(backup_type, &'static str),
            name!(start_time, Option<TimestampWithTimeZone>),
            name!(finish_time, Option<TimestampWithTimeZone>),
            name!(timeline, i64),
            name!(start_lsn, Option<LsnDatum>),
            name!(stop_lsn, Option<LsnDatum>),
            name!(pg_version, Option<i32>),
            name!(system_identifier, Option<AnyNumeric>),
            name!(uncompressed_bytes, Option<i64>),
            name!(compressed_bytes, Option<i64>),
            name!(permanent, bool),
            name!(hostname, Option<Text>),
            name!(data_directory, Option<Text>),
            name!(damage, Option<Text>),
        ),
    >,
    ErrorReport,
> {
    Ok(TableIterator::new(list()?.into_iter().map(|backup| row!(backup))))
}

/// The base backups of the configured prefix, oldest first.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn wale_backup_list_encryption() -> Result<
    TableIterator<
        'static,
        (
            name!(backup_name, Text),
            name!(backup_type, &'static str),
            name!(start_time, Option<TimestampWithTimeZone>),
            name!(finish_time, Option<TimestampWithTimeZone>),
            name!(timeline, i64),
            name!(start_lsn, Option<LsnDatum>),
            name!(stop_lsn, Option<LsnDatum>),
            name!(pg_version, Option<i32>),
            name!(system_identifier, Option<AnyNumeric>),
            name!(uncompressed_bytes, Option<i64>),
            name!(compressed_bytes, Option<i64>),
            name!(permanent, bool),
            name!(hostname, Option<Text>),
            name!(data_directory, Option<Text>),
            name!(damage, Option<Text>),
            name!(encryption, Option<&'static str>),
            name!(encryption_key, Option<Text>),
        ),
    >,
    ErrorReport,
> {
    Ok(TableIterator::new(list()?.into_iter().map(|backup| {
        let encryption = backup.encryption.map(Form::as_str);
        row!(backup, encryption, backup.encryption_key.map(Text))
    })))
}

/// What each base backup of the prefix builds on, and what it saves by that; oldest first.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn wale_backup_chains() -> Result<
    TableIterator<
        'static,
        (
            name!(backup_name, Text),
            name!(delta_from, Option<Text>),
            name!(full_backup, Option<Text>),
            name!(deltas, i32),
            name!(restore_bytes, Option<i64>),
            name!(cluster_bytes, Option<i64>),
            name!(saved_bytes, Option<i64>),
        ),
    >,
    ErrorReport,
> {
    let chains = catalogue::chains(list()?);
    let bytes = |bytes: Option<u64>| bytes.and_then(|bytes| i64::try_from(bytes).ok());
    Ok(TableIterator::new(chains.into_iter().map(move |chain| {
        (
            Text(chain.backup_name),
            chain.delta_from.map(Text),
            chain.full_backup.map(Text),
            i32::try_from(chain.deltas).unwrap_or(i32::MAX),
            bytes(chain.restore_bytes),
            bytes(chain.cluster_bytes),
            bytes(chain.saved_bytes),
        )
    })))
}

fn list() -> Result<Vec<BackupInfo>> {
    let config = gucs::store_config()?;
    super::run(|notices| async move {
        let store = store::open(&config, Patience::question(), notices.clone()).await?;
        catalogue::list(&*store, &notices).await
    })
}
