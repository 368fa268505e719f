//! One cluster, one prefix.
//!
//! The object `wal_e/owner.json` says which cluster a prefix belongs to. A cluster
//! that is about to write claims the prefix first, with [`claim`]; another cluster is
//! refused before it has written anything. Copies of a cluster (standbys, and
//! clusters restored from its backups) share its system identifier and its
//! prefix: they are kept apart by their timelines, and by the rule that no
//! object is replaced by a different one.
//!
//! A cluster remembers which prefixes it has claimed ([`KnownPrefixes`]): one that
//! does not say any more whose it is has been lost, and is not claimed again.
//!
//! Next to it stands with which keys something was encrypted, and whether everything must be:
//! [`agree_on_encryption`]. And in which encodings WAL was ever stored, so that after a change
//! of the setting the same file is not stored twice under two names:
//! [`register_wal_encoding`].

use std::fmt;
use std::io;
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::catalogue;
use crate::codec::{Encoding, StoredEncoding};
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::Notices;
use crate::postgres::{SegmentSize, SystemIdentifier};
use crate::sentinel;
use crate::store::{Attributes, ListRequest, ObjectStore, PutMode, PutOutcome, list_all};
use crate::tasks::Work;

mod encryption_marks;
mod known_prefixes;

pub use encryption_marks::{
    EncryptionMarks, agree_on_encryption, read_encryption_marks, would_agree_on_encryption,
};
pub use known_prefixes::KnownPrefixes;

/// The object is small; a larger one is damaged.
const LARGEST_OWNER_BYTES: u64 = 64 * 1024;

const HINT: &str = "Give this cluster a prefix of its own. A cluster that initdb or pg_upgrade made is another cluster, even when it replaces an old one.";

const HINT_TO_DELETE: &str = "Give this cluster a prefix of its own. From the prefix of a cluster that it has replaced, as after pg_upgrade, the program deletes what you ask it to: \"wal-e delete\".";

/// A cluster that is about to write to a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// The cluster's system identifier.
    pub system_identifier: SystemIdentifier,
    /// Its host, for people.
    pub hostname: String,
    /// Its data directory, for people.
    pub data_directory: String,
    /// The size of its WAL segments, where it is known.
    pub segment_size: Option<SegmentSize>,
    /// What it has claimed before, where there is a place to remember it.
    pub known_prefixes: Option<KnownPrefixes>,
}

impl Claimant {
    /// A cluster on this host.
    pub fn on_this_host(
        system_identifier: SystemIdentifier,
        data_directory: impl Into<String>,
    ) -> Self {
        Claimant {
            system_identifier,
            hostname: hostname(),
            data_directory: data_directory.into(),
            segment_size: None,
            known_prefixes: None,
        }
    }

    /// Writes WAL segments of this size.
    #[must_use]
    pub fn with_segment_size(mut self, size: Option<SegmentSize>) -> Self {
        self.segment_size = size;
        self
    }

    /// Remembers in `data_directory` what it claims.
    #[must_use]
    pub fn remembering(mut self, data_directory: &Path) -> Self {
        self.known_prefixes = Some(KnownPrefixes::of(data_directory));
        self
    }
}

/// This host's name. Empty when the kernel does not say it.
pub(crate) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// The cluster that a prefix belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The cluster's system identifier.
    pub system_identifier: SystemIdentifier,
    /// The host that it was on when it claimed the prefix.
    #[serde(default)]
    pub hostname: String,
    /// The data directory that it had then.
    #[serde(default)]
    pub data_directory: String,
    /// When it claimed the prefix.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub claimed_at: Option<OffsetDateTime>,
    /// The size of the WAL segments that it had then. `None` when it did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_segment_bytes: Option<u64>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = place(&self.hostname, &self.data_directory);
        write!(f, "system identifier {}, claimed on {place}", self.system_identifier)
    }
}

/// Who the prefix belongs to; `None` when no cluster has claimed it yet.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when the object that says so is damaged; those of the store.
pub async fn read(store: &dyn ObjectStore) -> Result<Option<Owner>> {
    let key = layout::owner();
    let found = match store.get(&key, 0, None).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        found => found?.into_bytes(LARGEST_OWNER_BYTES).await?,
    };
    sentinel::parse(&store.url(key.as_str()), &found).map(Some).map_err(|damaged| {
        damaged.with_hint(
            "It says which cluster the prefix belongs to. Keep a copy of it, and then remove it and \"wal_e.known_prefixes\" in the data directory. The next cluster that writes to the prefix will claim it.",
        )
    })
}

/// Makes sure that the prefix belongs to `claimant`, and claims it when it
/// belongs to no cluster. Nothing is written to the prefix of another cluster.
///
/// A prefix that no cluster has claimed may hold base backups of another tool or of
/// an earlier version: the newest that names its cluster decides.
///
/// # Errors
/// * [`ErrorKind::Conflict`]: it belongs to another cluster, which is named, or to this one
///   when its WAL segments had another size.
/// * [`ErrorKind::Corrupt`]: the object that names the owner is damaged.
/// * [`ErrorKind::Config`]: `claimant` had claimed it before, and it does not say so any more.
/// * Those of the store.
pub fn claim<'a>(
    store: &'a dyn ObjectStore,
    claimant: &'a Claimant,
    notices: &'a Notices,
) -> Work<'a, Result<()>> {
    Box::pin(async move {
        if inspect(store, claimant).await?.is_none() {
            claim_unowned(store, claimant).await?;
        }
        store.require(&layout::owner());
        remember(store, claimant, notices);
        Ok(())
    })
}

/// That it cannot be remembered is no reason to stop archiving: the disk may be full
/// because WAL waits to be archived.
fn remember(store: &dyn ObjectStore, claimant: &Claimant, notices: &Notices) {
    let Some(known) = &claimant.known_prefixes else { return };
    match known.add(&place_of(store)) {
        Ok(()) => {}
        // A user who may only read the cluster has no say in what it remembers.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => {
            let error = Error::file("write file", known.path(), &error);
            notices.warning(error.message_and_detail());
        }
    }
}

async fn claim_unowned(store: &dyn ObjectStore, claimant: &Claimant) -> Result<()> {
    let owner = Owner {
        system_identifier: claimant.system_identifier,
        hostname: claimant.hostname.clone(),
        data_directory: claimant.data_directory.clone(),
        claimed_at: Some(OffsetDateTime::now_utc()),
        wal_segment_bytes: claimant.segment_size.map(SegmentSize::bytes),
    };
    let json = Bytes::from(sentinel::to_json(&owner));
    let key = layout::owner();
    // Read back after any outcome: another cluster may have been quicker, or
    // the store may not honour create-only.
    let (PutOutcome::Stored | PutOutcome::AlreadyExists) =
        store.put(&key, json, PutMode::CreateOnly, &Attributes::default()).await?;
    match read(store).await? {
        Some(owner) => compare(store, &owner, claimant),
        None => Err(Error::new(
            ErrorKind::Unavailable,
            format!("object \"{}\" vanished after it was stored", store.url(key.as_str())),
        )
        .with_hint("Find out who removes objects below the prefix.")),
    }
}

/// What [`claim`] looks at before it writes: the owner, when the prefix belongs
/// to `claimant`; `None` when it belongs to no cluster and `claimant` may claim it.
///
/// # Errors
/// Those of [`claim`].
pub fn inspect<'a>(
    store: &'a dyn ObjectStore,
    claimant: &'a Claimant,
) -> Work<'a, Result<Option<Owner>>> {
    Box::pin(async move {
        let owner = read(store).await?;
        match &owner {
            Some(owner) => compare(store, owner, claimant)?,
            None => {
                refuse_lost(store, claimant)?;
                refuse_foreign_backups(store, claimant).await?;
            }
        }
        Ok(owner)
    })
}

/// As [`inspect`], before `claimant` deletes: a cluster deletes nothing of another one.
///
/// # Errors
/// Those of [`inspect`].
pub async fn inspect_to_delete(store: &dyn ObjectStore, claimant: &Claimant) -> Result<()> {
    let looked_at = inspect(store, claimant).await;
    looked_at.map(|_| ()).map_err(|error| match error.kind() {
        ErrorKind::Conflict => error.with_hint(HINT_TO_DELETE),
        _ => error,
    })
}

/// Refuses a prefix without an owner that `claimant` had claimed.
fn refuse_lost(store: &dyn ObjectStore, claimant: &Claimant) -> Result<()> {
    let prefix = prefix_of(store);
    let place = place_of(store);
    let Some(known) = claimant.known_prefixes.as_ref().filter(|known| known.contains(&place))
    else {
        return Ok(());
    };
    let note = known.path().display();
    let (perhaps, action) = match prefix.starts_with("file:") {
        true => (
            " The mount point of a disk that is not mounted looks like that.",
            "Mount the disk, or bring back",
        ),
        false => ("", "Bring back"),
    };
    Err(Error::new(
        ErrorKind::Config,
        format!("prefix \"{prefix}\" has lost its \"{}\"", layout::owner()),
    )
    .with_detail(format!(
        "This cluster claimed the prefix before, as \"{note}\" says.{perhaps}"
    ))
    .with_hint(format!(
        "{action} what was below the prefix. If the archive was removed on purpose, remove \"{note}\": the next WAL file or base backup then begins a new one."
    )))
}

fn prefix_of(store: &dyn ObjectStore) -> String {
    store.url("").trim_end_matches('/').to_owned()
}

/// The prefix, and the server where another may have a bucket of the same name.
fn place_of(store: &dyn ObjectStore) -> String {
    let server = store.server().map(|server| format!(" {server}")).unwrap_or_default();
    format!("{}{server}", prefix_of(store))
}

fn compare(store: &dyn ObjectStore, owner: &Owner, claimant: &Claimant) -> Result<()> {
    if owner.system_identifier == claimant.system_identifier {
        return compare_segment_size(store, owner, claimant);
    }
    Err(foreign(store, claimant, format!("It belongs to the cluster with {owner}.",)))
}

/// The name of a segment means another part of the log when the size has changed.
fn compare_segment_size(store: &dyn ObjectStore, owner: &Owner, claimant: &Claimant) -> Result<()> {
    let (Some(archived), Some(now)) =
        (owner.wal_segment_bytes, claimant.segment_size.map(SegmentSize::bytes))
    else {
        return Ok(());
    };
    if archived == now {
        return Ok(());
    }
    let (archived, now) = (archived >> 20, now >> 20);
    Err(Error::new(
        ErrorKind::Conflict,
        format!("the WAL segments of this cluster had {archived} MB, and have {now} MB now"),
    )
    .with_detail(format!(
        "Prefix \"{}\" has its WAL in segments of {archived} MB. Segments of another size, as pg_resetwal can set it, have the same names for other parts of the log, so the prefix cannot hold both.",
        prefix_of(store)
    ))
    .with_hint(
        "Give the cluster a new prefix, and take a base backup: WAL from before the change does not lead to WAL from after it. What the old prefix has can still be restored from there.",
    ))
}

/// Looks at the newest base backup that names its cluster.
async fn refuse_foreign_backups(store: &dyn ObjectStore, claimant: &Claimant) -> Result<()> {
    let sentinels = catalogue::sentinels(store).await?;
    let newest = catalogue::newest_identified(store, &sentinels).await?;
    let Some(backup) = newest else { return Ok(()) };
    match backup.system_identifier {
        Some(identifier) if identifier != claimant.system_identifier => Err(foreign(
            store,
            claimant,
            format!(
                "Base backup \"{}\" in it is of the cluster with system identifier {identifier}, taken on {}.",
                backup.name,
                place(
                    backup.hostname.as_deref().unwrap_or_default(),
                    backup.data_directory.as_deref().unwrap_or_default()
                )
            ),
        )),
        _ => Ok(()),
    }
}

fn foreign(store: &dyn ObjectStore, claimant: &Claimant, theirs: String) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("prefix \"{}\" belongs to another cluster", prefix_of(store)),
    )
    .with_detail(format!(
        "{theirs} This cluster has system identifier {}, on {}.",
        claimant.system_identifier,
        place(&claimant.hostname, &claimant.data_directory)
    ))
    .with_hint(HINT)
}

fn place(hostname: &str, data_directory: &str) -> String {
    let or_unknown = |text: &str| match text {
        "" => "unknown".to_owned(),
        text => format!("\"{text}\""),
    };
    format!("host {}, data directory {}", or_unknown(hostname), or_unknown(data_directory))
}

/// Remembers that WAL is stored in `encoding`, unless it is among those that are
/// `registered` already, and returns the other encodings that WAL of this prefix
/// may have: before a file is stored in ours, it must not be there in one of these.
///
/// Ours is registered before the others are listed, so of two writers that
/// begin at the same moment with different encodings at least one sees the
/// other. WAL that another tool stored is found in the first page of the
/// listing of WAL, when an encoding is registered for the first time.
///
/// # Errors
/// Those of the store.
pub async fn register_wal_encoding(
    store: &dyn ObjectStore,
    encoding: Encoding,
    mut registered: Vec<Encoding>,
) -> Result<Vec<Encoding>> {
    if !registered.contains(&encoding) {
        // Ours last: a writer that is interrupted before that looks again.
        for found in stored_encodings(store).await? {
            if found != encoding && !registered.contains(&found) {
                put_encoding(store, found).await?;
            }
        }
        put_encoding(store, encoding).await?;
        registered = registered_wal_encodings(store).await?;
    }
    registered.retain(|other| *other != encoding);
    Ok(registered)
}

/// The encodings in which WAL of this prefix is or was stored.
///
/// # Errors
/// Those of the store.
pub async fn registered_wal_encodings(store: &dyn ObjectStore) -> Result<Vec<Encoding>> {
    let request =
        ListRequest { prefix: layout::wal_encodings(), shallow: true, ..ListRequest::default() };
    let objects = list_all(store, &request).await?;
    Ok(objects.iter().filter_map(|object| layout::encoding_of_mark(&object.key)).collect())
}

/// The encodings in the first page of the listing of WAL.
async fn stored_encodings(store: &dyn ObjectStore) -> Result<Vec<Encoding>> {
    let request = ListRequest { prefix: layout::wal(), shallow: true, ..ListRequest::default() };
    let page = store.list(&request, None).await?;
    let files = page.objects.iter().filter_map(|object| layout::wal_file_of(&object.key));
    let found: Vec<StoredEncoding> = files.map(|(_, encoding)| encoding).collect();
    let occurs = |encoding: &Encoding| found.contains(&StoredEncoding::Readable(*encoding));
    Ok(Encoding::ALL.into_iter().filter(occurs).collect())
}

async fn put_encoding(store: &dyn ObjectStore, encoding: Encoding) -> Result<()> {
    let key = layout::wal_encoding(encoding);
    let content = Bytes::from_static(b"WAL of this prefix is stored in this encoding.\n");
    let (PutOutcome::Stored | PutOutcome::AlreadyExists) =
        store.put(&key, content, PutMode::CreateOnly, &Attributes::default()).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
