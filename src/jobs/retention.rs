//! The job that deletes what no rule of the settings keeps.

use std::sync::atomic::AtomicU64;

use pgrx::PgSqlErrorCode;
use time::OffsetDateTime;
use wal_e_core::owner;
use wal_e_core::retention::{self, Plan, Request as Wanted, Survey};
use wal_e_core::store::{self, retry::Patience};

use super::slot::{Slot, Tenant, View};
use super::watcher::Watcher;
use super::{Job, Words};
use crate::error::{Failure, Result};
use crate::events;
use crate::gucs;
use crate::pg::server;
use crate::pg::shared_memory::SharedMemory;
use crate::runtime::Runtime;
use crate::server_log;

static SLOT: SharedMemory<Slot<Retention>> = SharedMemory::new(c"wal_e retention slot");

/// Deletes by the settings.
pub struct Retention;

/// What was deleted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deleted {
    /// How many objects.
    pub objects: u64,
    /// Their size in the store.
    pub bytes: u64,
}

impl Job for Retention {
    const WORDS: Words = Words {
        process: "wal_e retention",
        activity: c"deleting what is not kept",
        purpose: "retention",
        short: "retention",
        canceled: "retention was canceled",
        failed: "retention failed",
        failure_event: None,
    };

    type Request = ();
    type Progress = ();
    type Outcome = Deleted;

    fn slot() -> &'static SharedMemory<Slot<Self>> {
        &SLOT
    }

    fn already_running(running: &View<Self>) -> Failure {
        Failure::new(PgSqlErrorCode::ERRCODE_OBJECT_IN_USE, "retention is already running")
            .with_detail(format!("Process {} is deleting.", running.pid))
    }

    /// Deletes by a plan of this moment. After a failure the next plan deletes the rest.
    fn run((): &(), tenant: Tenant<Self>) -> Result<Deleted> {
        let config = gucs::store_config()?;
        let policy = gucs::retention_policy()?;
        if policy.is_empty() {
            return Ok(Deleted::default());
        }
        let claimant = server::claimant();
        let runtime = Runtime::start()?;
        let mut watcher = Watcher::new(tenant, || {});
        let notices = watcher.notices();
        let deleted = watcher.run(&runtime, async move {
            let store = store::open(&config, Patience::backup(), notices.clone()).await?;
            // Another cluster's archive is not this one's to delete.
            owner::inspect_to_delete(&*store, &claimant).await?;
            let survey = Survey::of(&store, OffsetDateTime::now_utc(), &notices).await?;
            let plan = Plan::new(&survey, &Wanted::Retain(policy))?;
            retention::carry_out(&*store, &plan, &AtomicU64::new(0), &notices).await?;
            Ok(plan.deletes())
        })?;
        let deleted = Deleted { objects: deleted.objects, bytes: deleted.bytes };
        if deleted.objects > 0 {
            let Deleted { objects, bytes } = deleted;
            server_log::log(
                &format!("retention deleted {objects} objects ({bytes} bytes)"),
                Some("They were what no rule of the settings keeps."),
            );
            events::deleted(objects, bytes);
        }
        Ok(deleted)
    }
}
