//! What the next incremental backup would be: a row of the check of a set-up.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::parent::{Incremental, Origin, choose};
use super::source;
use crate::base_backup::start::BackupStart;
use crate::catalogue::backup_info::sentinels;
use crate::check::Check;
use crate::config::StoreConfig;
use crate::error::Result;
use crate::layout;
use crate::notice::Notices;
use crate::store::{self, ObjectStore, retry};
use crate::tasks::Work;

const INCREMENTAL: &str = "incremental";

/// How long the store may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What an incremental backup would be that began now, as `start` says: which source would tell
/// what has changed, or why a full one would be taken. `None` where incremental backups are not
/// wanted: `max_deltas`, which may follow a full one, is 0, and the latest backup is not one.
///
/// Backups and the names of files are looked at, not the content of maps and summaries. A full
/// backup is no fault.
pub fn check(
    config: StoreConfig,
    start: BackupStart,
    max_deltas: u32,
    notices: Notices,
) -> Work<'static, Option<Check>> {
    Box::pin(async move {
        let looked = async {
            let store = store::open(&config, retry::Patience::none(), notices).await?;
            look(&*store, &start, max_deltas).await
        };
        let unknown = |why: &str| (max_deltas > 0).then(|| Check::not_checked(INCREMENTAL, why));
        match tokio::time::timeout(LIMIT, looked).await {
            Ok(Ok(row)) => row,
            Ok(Err(error)) => unknown(&format!("the latest base backup is not known: {error}")),
            Err(_) => unknown(&format!(
                "the latest base backup could not be read within {} seconds",
                LIMIT.as_secs()
            )),
        }
    })
}

pub(super) async fn look(
    store: &dyn ObjectStore,
    start: &BackupStart,
    max_deltas: u32,
) -> Result<Option<Check>> {
    if max_deltas == 0 {
        let latest = sentinels(store).await?.pop();
        if !latest.is_some_and(|latest| layout::is_delta_name(&latest.name)) {
            return Ok(None);
        }
    }
    let max_deltas = (max_deltas > 0).then_some(max_deltas);
    let wanted = Incremental { origin: Origin::Latest, max_deltas };
    let why = match choose(store, start, wanted, &CancellationToken::new()).await? {
        Err(why) => why,
        Ok(parent) => match source::foreseen(start, &parent).await? {
            Ok(from) => {
                let found = format!(
                    "the next one would build on \"{}\"; what has changed would be known from {from}",
                    parent.name
                );
                return Ok(Some(Check::passed(INCREMENTAL, found)));
            }
            Err(why) => format!("it is not known what has changed: {why}"),
        },
    };
    Ok(Some(Check {
        name: INCREMENTAL,
        ok: None,
        detail: format!("the next one would be a full base backup: {why}"),
        hint: Some("It is taken instead, and the next incremental one may build on it.".to_owned()),
    }))
}
