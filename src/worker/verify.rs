//! One verification of a base backup, on the worker's main thread.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wal_e_core::notice;
use wal_e_core::store::{self, retry::Patience};
use wal_e_core::verify;
use wal_e_core::verify::{Verified, VerifyRequest};

use super::watcher::Watcher;
use crate::error::{Failure, Result};
use crate::gucs;
use crate::runtime::Runtime;
use crate::server_log;
use crate::verify_slot::{self, Request};

/// Reads the backup back, and logs what is wrong with it.
pub fn verify(generation: u64, request: &Request) -> Result<Verified> {
    let config = gucs::store_config()?;
    let runtime = Runtime::start()?;
    let (notices, queue) = notice::channel();
    let cancel = CancellationToken::new();
    let mut watcher = Watcher {
        publish: || {},
        is_unwanted: || verify_slot::is_unwanted(generation),
        queue,
        cancel: cancel.clone(),
        stop_seen: None,
        // Nothing is written, so there is nothing to clean up.
        patience: Duration::ZERO,
    };
    let verification =
        VerifyRequest { name: request.name.clone(), concurrency: gucs::backup_concurrency() };
    let verified = watcher.run(&runtime, async move {
        let store = store::open(&config, Patience::command(), notices).await?;
        verify::verify(store, verification, Arc::default(), cancel).await
    })?;
    log(&verified);
    Ok(verified)
}

fn log(verified: &Verified) {
    let Verified { name, findings } = verified;
    for finding in findings.iter().filter(|finding| finding.ok == Some(false)) {
        server_log::warn(&Failure::new(
            pgrx::PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
            format!(
                "base backup \"{name}\" is damaged: {}: {}",
                finding.check_name, finding.detail
            ),
        ));
    }
    let outcome = match verified.failures() {
        0 => "found sound".to_owned(),
        failures => format!("found damaged (failures: {failures})"),
    };
    server_log::log(&format!("base backup \"{name}\" was verified and {outcome}"), None);
}
