//! The steps that write: only to a prefix that may be used.

use bytes::Bytes;
use time::OffsetDateTime;

use super::rows::Rows;
use super::{
    ABILITIES, CHECKSUM, CLOCK_SKEW, CREATE_ONLY, Check, DELETABLE, UPLOAD_CHECKSUM, WRITABLE,
};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::store::{Attributes, ObjectStore, PutMode, PutOutcome};

/// S3 refuses requests whose time differs by 15 minutes.
const TOLERATED_CLOCK_SKEW: time::Duration = time::Duration::seconds(60);

/// More than a packet, and too little to cost anything.
const TEST_OBJECT_BYTES: usize = 4096;

/// Writes a small object, reads it back and removes it.
pub(super) async fn written(rows: &mut Rows, store: &dyn ObjectStore, remote: bool) {
    let key = layout::check_object(fastrand::u64(..));
    let mut content = vec![0; TEST_OBJECT_BYTES];
    fastrand::fill(&mut content);
    let content = Bytes::from(content);
    let before = OffsetDateTime::now_utc();
    let attributes = Attributes::default();
    let put = store.put(&key, content.clone(), PutMode::Replace, &attributes);
    let hint = "Allow this server to write objects below the prefix.";
    let Some(PutOutcome::Stored | PutOutcome::AlreadyExists) = rows.step(WRITABLE, put, hint).await
    else {
        rows.skip(&[CREATE_ONLY, CHECKSUM, DELETABLE], "the prefix cannot be written");
        if remote {
            rows.skip(&[CLOCK_SKEW], "the prefix cannot be written");
            rows.skip(&ABILITIES, "the prefix cannot be written");
        }
        return;
    };
    let after = OffsetDateTime::now_utc();
    rows.push(Check::passed(WRITABLE, "objects below the prefix can be written"));

    let hint = "Allow this server to write objects below the prefix.";
    let atomic = rows.step(CREATE_ONLY, store.create_only_is_atomic(), hint).await;
    if let Some(atomic) = atomic {
        rows.push(create_only(store, atomic, remote).await);
    }

    let hint = "Do not trust this store: what it returns is not what was stored.";
    if let Some(came_back) = rows.step(CHECKSUM, read_back(store, &key, &content), hint).await {
        rows.push(Check::passed(CHECKSUM, came_back));
    }
    if remote {
        clock_skew(rows, store, &key, before, after).await;
        abilities(rows, store).await;
    }
    deleted(rows, store, &key).await;
}

/// Whether the store replaces objects. A directory says how it does not.
async fn create_only(store: &dyn ObjectStore, atomic: bool, remote: bool) -> Check {
    let said = match remote {
        false => store.abilities().await.unwrap_or_default(),
        true => Vec::new(),
    };
    match said.iter().find(|ability| ability.name == CREATE_ONLY) {
        Some(ability) => Check::of_ability(ability),
        None if atomic => {
            Check::passed(CREATE_ONLY, "the store refuses to replace an object when it is asked to")
        }
        None => Check::failed(
            CREATE_ONLY,
            "the store replaces objects although it is asked not to, so wal_e looks before it writes",
            "Let only one server write to this prefix, or use a store that honours If-None-Match.",
        ),
    }
}

async fn read_back(store: &dyn ObjectStore, key: &ObjectKey, content: &Bytes) -> Result<String> {
    let found = store.get(key, 0, None).await?.into_bytes(content.len() as u64 * 2).await?;
    if found == *content {
        return Ok(format!("{} bytes came back as they were stored", content.len()));
    }
    Err(Error::new(
        ErrorKind::Corrupt,
        format!("object \"{}\" is not what was stored a moment ago", store.url(key.as_str())),
    ))
}

/// What the server can do, and what is used where it cannot.
async fn abilities(rows: &mut Rows, store: &dyn ObjectStore) {
    let hint = "Check the store: what it can do could not be found out.";
    let Some(found) = rows.step(UPLOAD_CHECKSUM, store.abilities(), hint).await else {
        rows.skip(&ABILITIES[1..], "what the store can do could not be found out");
        return;
    };
    for name in ABILITIES {
        rows.push(match found.iter().find(|ability| ability.name == name) {
            Some(ability) => Check::of_ability(ability),
            None => Check::not_checked(name, "the store says nothing of it"),
        });
    }
}

pub(super) async fn clock_skew(
    rows: &mut Rows,
    store: &dyn ObjectStore,
    key: &ObjectKey,
    before: OffsetDateTime,
    after: OffsetDateTime,
) {
    let hint = "Allow this server to read objects below the prefix.";
    let Some(found) = rows.step(CLOCK_SKEW, store.head(key), hint).await else { return };
    let Some(info) = found else {
        rows.push(Check::not_checked(CLOCK_SKEW, "the object just written is not there any more"));
        return;
    };
    let skew = if info.last_modified > after {
        info.last_modified - after
    } else if info.last_modified < before {
        before - info.last_modified
    } else {
        time::Duration::ZERO
    };
    let seconds = skew.whole_seconds();
    rows.push(if skew <= TOLERATED_CLOCK_SKEW {
        Check::passed(
            CLOCK_SKEW,
            format!("the clocks of this host and of the store differ by at most {} s", seconds + 1),
        )
    } else {
        let direction = if info.last_modified > after { "behind" } else { "ahead of" };
        Check::failed(
            CLOCK_SKEW,
            format!("the clock of this host is {seconds} s {direction} the store's"),
            "Set the clock by NTP: S3 refuses requests when it is off by 15 minutes.",
        )
    });
}

/// Without the right to delete, archiving goes on, and backups are safe even
/// from an intruder on the server: a matter of choice.
async fn deleted(rows: &mut Rows, store: &dyn ObjectStore, key: &ObjectKey) {
    let delete = async {
        match store.delete(key).await {
            Err(error) if error.kind() == ErrorKind::Denied => Ok(Err(error)),
            result => result.map(Ok),
        }
    };
    let hint = "Allow this server to delete objects below the prefix.";
    match rows.step(DELETABLE, delete, hint).await {
        None => {}
        Some(Ok(())) => {
            rows.push(Check::passed(DELETABLE, "objects below the prefix can be deleted"));
        }
        Some(Err(denied)) => rows.push(Check {
            name: DELETABLE,
            ok: None,
            detail: format!(
                "deletion is not allowed, and the object of this check stays: {}",
                denied.message_and_detail()
            ),
            hint: Some(
                "Archiving and backups do not need it; removing old ones does, on the host that does it."
                    .to_owned(),
            ),
        }),
    }
}
