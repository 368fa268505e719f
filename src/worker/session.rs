//! Beginning and ending backup mode, in the one session that holds both.

use pgrx::Spi;
use wal_e_core::Error;
use wal_e_core::base_backup::BackupStop;
use wal_e_core::postgres::Lsn;

use crate::error::{Failure, Result};
use crate::pg::worker_process::in_transaction;

/// Takes away what a database or role may have set for sessions of people: a
/// limit on the time of a transaction would end a wait for a checkpoint.
pub fn prepare() -> Result<()> {
    in_transaction(|| {
        Spi::run(
            "SELECT pg_catalog.set_config(name, value, false) \
             FROM (VALUES ('search_path', 'pg_catalog, pg_temp'), ('statement_timeout', '0'), \
                          ('lock_timeout', '0'), ('transaction_timeout', '0')) \
                  AS wanted (name, value) \
             WHERE EXISTS (SELECT FROM pg_catalog.pg_settings AS known WHERE known.name = wanted.name)",
        )?;
        Ok(())
    })
}

/// Begins backup mode and returns where the backup starts. Waits for a
/// checkpoint; a request to cancel ends the wait with an ERROR.
pub fn backup_start(label: &str, fast: bool) -> Result<Lsn> {
    let lsn = in_transaction(|| {
        let lsn = Spi::get_one_with_args::<String>(
            "SELECT pg_catalog.pg_backup_start($1, $2)::pg_catalog.text",
            &[label.into(), fast.into()],
        )?;
        Ok(lsn)
    })?;
    parse_lsn(lsn)
}

/// Ends backup mode; nothing of it is left to be had afterwards.
pub fn backup_stop() -> Result<BackupStop> {
    let (lsn, backup_label, tablespace_map) = in_transaction(|| {
        let row = Spi::get_three::<String, String, String>(
            "SELECT lsn::pg_catalog.text, labelfile, spcmapfile \
             FROM pg_catalog.pg_backup_stop(wait_for_archive => false)",
        )?;
        Ok(row)
    })?;
    Ok(BackupStop {
        stop_lsn: parse_lsn(lsn)?,
        backup_label: backup_label.unwrap_or_default(),
        tablespace_map: tablespace_map.unwrap_or_default(),
    })
}

fn parse_lsn(text: Option<String>) -> Result<Lsn> {
    let lsn: Result<Lsn, Error> = text.unwrap_or_default().parse();
    lsn.map_err(Failure::from)
}
