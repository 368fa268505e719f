//! What verifications have found, kept in the archive: a backup that was found damaged does
//! not count for retention.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Verified;
use crate::error::{ErrorKind, Result};
use crate::layout;
use crate::notice::Notices;
use crate::sentinel;
use crate::store::{Attributes, ListRequest, ObjectStore, PutMode, list_all};
use crate::tasks::Work;

/// Larger objects are damaged.
const LARGEST_BYTES: u64 = 1024 * 1024;

/// What is kept of one verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// When it ended, by the clock of the host.
    #[serde(with = "time::serde::rfc3339")]
    verified_at: OffsetDateTime,
    /// How many checks failed.
    failures: usize,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_failure: Option<String>,
}

/// The last verification of a base backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastVerification {
    /// When it was recorded, by the clock of the store.
    pub recorded_at: OffsetDateTime,
    /// What was wrong with the backup; `None` when nothing was.
    pub damage: Option<String>,
}

impl Verified {
    /// Keeps the outcome in the archive. Where that is not allowed it is said, and changes
    /// nothing of what was found.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`].
    pub fn record<'a>(
        &'a self,
        store: &'a dyn ObjectStore,
        notices: &'a Notices,
    ) -> Work<'a, Result<()>> {
        Box::pin(async move {
            let failure = self.findings.iter().find(|finding| finding.ok == Some(false));
            let record = Record {
                verified_at: OffsetDateTime::now_utc(),
                failures: self.failures(),
                first_failure: failure.map(|it| format!("{}: {}", it.check_name, it.detail)),
            };
            let key = layout::verification(&self.name, failure.is_none());
            let json = sentinel::to_json(&record).into();
            match store.put(&key, json, PutMode::Replace, &Attributes::default()).await {
                Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
                Err(error) => {
                    notices.warning(format!(
                        "the outcome of the verification could not be recorded: {error}"
                    ));
                    Ok(())
                }
                Ok(_) => Ok(()),
            }
        })
    }
}

/// The last verification of each base backup that was ever verified.
///
/// # Errors
/// Those of the store.
pub fn last_verifications(
    store: &dyn ObjectStore,
) -> Work<'_, Result<BTreeMap<String, LastVerification>>> {
    Box::pin(async move {
        let request = ListRequest { prefix: layout::verifications(), ..ListRequest::default() };
        let mut last: BTreeMap<String, (OffsetDateTime, bool)> = BTreeMap::new();
        for object in list_all(store, &request).await? {
            let Some((backup, sound)) = layout::backup_of_verification(&object.key) else {
                continue;
            };
            let seen = last.entry(backup.to_owned()).or_insert((object.last_modified, sound));
            // Of two at one time, damage counts.
            if (object.last_modified, !sound) > (seen.0, !seen.1) {
                *seen = (object.last_modified, sound);
            }
        }
        let mut verifications = BTreeMap::new();
        for (backup, (recorded_at, sound)) in last {
            let damage = if sound { None } else { Some(damage(store, &backup).await?) };
            verifications.insert(backup, LastVerification { recorded_at, damage });
        }
        Ok(verifications)
    })
}

async fn damage(store: &dyn ObjectStore, backup: &str) -> Result<String> {
    let key = layout::verification(backup, false);
    let read = async {
        let json = store.get(&key, 0, None).await?.into_bytes(LARGEST_BYTES).await?;
        sentinel::parse::<Record>(&store.url(key.as_str()), &json)
    };
    match read.await {
        Ok(record) => Ok(record.first_failure.unwrap_or_else(|| "it is damaged".to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound || error.is_unusable_object() => {
            Ok("what is wrong with it cannot be read".to_owned())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
