//! `wale_report()`.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use time::OffsetDateTime;
use wal_e_core::config::Face;
use wal_e_core::report::{self, Report};
use wal_e_core::store::{self, retry::Patience};

use super::check::checks;
use crate::error::Result;
use crate::gucs;
use crate::pg::text::Text;

/// One page of HTML about the archive and its server.
#[pg_extern]
fn wale_report() -> Result<Text, ErrorReport> {
    let checks = checks()?;
    let report = Report { checks: Some(checks), ..gathered()? };
    Ok(Text(report.page()))
}

/// What the archive has, and what retention by the settings would do.
fn gathered() -> Result<Report> {
    let config = gucs::store_config()?;
    let policy = gucs::retention_policy()?;
    super::run(|notices| async move {
        let prefix = config.prefix().to_string();
        let store = store::open(&config, Patience::question(), notices).await?;
        let now = OffsetDateTime::now_utc();
        report::gather(&store, prefix, Some(policy), Face::Server, now).await
    })
}
