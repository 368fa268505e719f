//! What this server has of its WAL, and how it archives that again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgrx::PgSqlErrorCode;
use tokio_util::sync::CancellationToken;
use wal_e_core::coverage::{self, Archive, OwnWal, Repaired};
use wal_e_core::notice::Notices;
use wal_e_core::owner::Claimant;
use wal_e_core::store::ObjectStore;
use wal_e_core::wal::{self, Archiving};

use crate::error::{Failure, Result};
use crate::gucs;
use crate::pg::server::{self, PG_WAL};

/// What it has. To be read before the archive is listed.
///
/// # Errors
/// When the directory cannot be read.
pub fn read() -> Result<OwnWal> {
    let Some(size) = server::segment_size() else {
        let code = PgSqlErrorCode::ERRCODE_INTERNAL_ERROR;
        return Err(Failure::new(code, "the size of the server's WAL segments is not known"));
    };
    let cluster = server::claimant().system_identifier;
    let position = server::wal_timeline_and_position();
    let own = OwnWal::read(Path::new(PG_WAL), size, cluster, position, server::in_recovery());
    Ok(own?)
}

/// How it is archived beside the archiver.
///
/// # Errors
/// Those of [`gucs::compression`].
pub fn archiving() -> Result<Archiving> {
    Ok(Archiving {
        wal_directory: PathBuf::from(PG_WAL),
        compression: gucs::compression()?,
        uploads: 1,
        standby: server::in_recovery(),
        notes_changed_blocks: false,
    })
}

/// Archives again what `archive` lacks and the server still has. Calls nothing of PostgreSQL.
///
/// # Errors
/// Those of the store.
pub async fn repair(
    store: &Arc<dyn ObjectStore>,
    archive: &Archive,
    (claimant, archiving): (Claimant, Archiving),
    notices: Notices,
) -> wal_e_core::Result<Vec<Repaired>> {
    if !archive.can_be_repaired() {
        return Ok(Vec::new());
    }
    let (store, cancel) = (Arc::clone(store), CancellationToken::new());
    let opening = wal::open_beside_archiver(store, &claimant, &archiving, cancel, notices);
    coverage::repair(archive, &opening.await?).await
}
