//! `begun.json`, the first object of a base backup.
//!
//! Others see by it that the backup is being made: before its first tar is stored, and while
//! it waits for WAL. Retention would otherwise take what there is of it, and the WAL that it
//! needs, for garbage.

use std::time::Duration;

use time::OffsetDateTime;

use super::Draft;
use crate::catalogue::read_begun;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::sentinel::{self, Begun};
use crate::store::{Attributes, ListRequest, ObjectStore, PutMode, list_all};

/// Well below the time after which retention takes a backup for given up.
const RENEW_AFTER: Duration = Duration::from_secs(600);
/// A backup that failed or was canceled is not kept from ending for longer.
const LAST_WORD_TIME: Duration = Duration::from_secs(2);

impl Draft {
    /// Says it, and again and again until this value is dropped.
    pub(in crate::base_backup) async fn say_begun(&mut self) -> Result<()> {
        let key = layout::begun(&self.name);
        let json = sentinel::to_json(&self.begun);
        self.put_json(&key, json.clone()).await?;
        let store = self.store.clone();
        self.renewal.spawn(async move {
            loop {
                tokio::time::sleep(RENEW_AFTER).await;
                // One that cannot be stored now may be the next time.
                let _ = replace(&*store, &key, json.clone()).await;
            }
        });
        Ok(())
    }

    /// Says that the backup was given up, so that what is left of it may go at once. If that
    /// cannot be said, it goes when nothing has been heard of it for a time.
    pub(in crate::base_backup) async fn say_ended(&mut self) {
        if self.renewal.is_empty() {
            return;
        }
        self.renewal.abort_all();
        let ended = Begun { ended_at: Some(OffsetDateTime::now_utc()), ..self.begun.clone() };
        let key = layout::begun(&self.name);
        let last_word = replace(&*self.store, &key, sentinel::to_json(&ended));
        let _ = tokio::time::timeout(LAST_WORD_TIME, last_word).await;
    }

    /// Proves that all tars are still there. A deletion that took this backup for given up
    /// has removed them.
    pub(super) async fn prove_tars(&self) -> Result<()> {
        let prefix = layout::tar_partitions(&self.name);
        let request = ListRequest { prefix, ..ListRequest::default() };
        let there = list_all(&*self.store, &request).await?;
        let mut tars = self.tars.iter().map(|tar| layout::tar_partition(&self.name, tar));
        let missing = tars.find(|tar| !there.iter().any(|object| object.key == *tar));
        match missing {
            None => Ok(()),
            Some(tar) => Err(Error::new(
                ErrorKind::Conflict,
                format!("object \"{}\" is not there any more", self.store.url(tar.as_str())),
            )
            .with_detail(format!("It was deleted while base backup \"{}\" was made.", self.name))
            .with_hint(
                "Find out what deletes objects below the prefix, and make the backup again.",
            )),
        }
    }
}

/// Says of a backup whose process was killed that it was given up.
pub(in crate::base_backup) async fn end_killed(
    store: &dyn ObjectStore,
    backup: &str,
) -> Result<()> {
    let key = layout::begun(backup);
    let Some(mut begun) = read_begun(store, &key).await? else { return Ok(()) };
    begun.ended_at = Some(OffsetDateTime::now_utc());
    replace(store, &key, sentinel::to_json(&begun)).await
}

async fn replace(store: &dyn ObjectStore, key: &ObjectKey, json: Vec<u8>) -> Result<()> {
    store.put(key, json.into(), PutMode::Replace, &Attributes::default()).await.map(drop)
}
