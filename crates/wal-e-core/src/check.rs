//! Whether a prefix can be used: one row for each thing that can be wrong.
//!
//! Nothing is written to the prefix of another cluster, and nothing is claimed.
//! To a prefix that may be used, one small object below `wal_e/check/` is
//! written, and removed again; and the store's own probe of create-only
//! uploads. Each step has a limit of time, and a store that does not answer is
//! not asked again.

use std::sync::Arc;
use std::time::Duration;

use crate::catalogue::{self, StoredSentinel};
use crate::config::{Setting, StoreConfig, StorePlace, Word};
use crate::error::{Error, ErrorKind};
use crate::layout;
use crate::notice::Notices;
use crate::owner::{self, Claimant};
use crate::sentinel::format_time;
use crate::store::{self, Ability, ListRequest, ObjectStore, retry};
use crate::tasks::Work;

mod encryption;
mod rows;
mod writing;

use rows::{Rows, within};
use writing::written;

/// How long one step may take.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// One thing that can be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it is as it should be; `None` when that was not found out, or is
    /// a matter of choice.
    pub ok: Option<bool>,
    /// What was found.
    pub detail: String,
    /// How to fix it.
    pub hint: Option<String>,
}

impl Check {
    /// It is as it should be.
    pub fn passed(name: &'static str, detail: impl Into<String>) -> Self {
        Check { name, ok: Some(true), detail: detail.into(), hint: None }
    }

    /// It is not, and `hint` says how to fix it.
    pub fn failed(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Check { name, ok: Some(false), detail: detail.into(), hint: Some(hint.into()) }
    }

    /// It could not be looked at, because of `reason`.
    pub fn not_checked(name: &'static str, reason: &str) -> Self {
        Check { name, ok: None, detail: format!("not checked: {reason}"), hint: None }
    }

    /// What a store says of itself.
    fn of_ability(ability: &Ability) -> Self {
        let Ability { name, ok, detail, hint } = ability;
        Check { name, ok: *ok, detail: detail.clone(), hint: hint.clone() }
    }

    /// It is not, as `error` says; `hint` serves where the error has none.
    pub fn of_error(name: &'static str, error: &Error, hint: &str) -> Self {
        Check::failed(name, error.message_and_detail(), error.hint().unwrap_or(hint))
    }
}

/// The checks of a prefix, in the order in which they are reported. Those after
/// [`LOCAL_CHECKS`] are made for `s3://` prefixes only.
const CHECKS: [&str; 19] = [
    PREFIX,
    READABLE,
    WRITABLE,
    LISTABLE,
    CREATE_ONLY,
    CHECKSUM,
    DELETABLE,
    OWNER,
    BASE_BACKUP,
    ENCRYPTION,
    PROXY,
    CERTIFICATES,
    CREDENTIALS,
    CLOCK_SKEW,
    UPLOAD_CHECKSUM,
    MULTIPART,
    MISSING_OBJECTS,
    LISTING_ORDER,
    SERVER_ADDRESS,
];
/// How many of the checks are of any kind of prefix.
const LOCAL_CHECKS: usize = 10;
/// What the store says of itself: [`store::Ability::name`].
const ABILITIES: [&str; 5] =
    [UPLOAD_CHECKSUM, MULTIPART, MISSING_OBJECTS, LISTING_ORDER, SERVER_ADDRESS];
/// What the settings say of the way to the store: [`ObjectStore::way`].
const WAY: [&str; 2] = [PROXY, CERTIFICATES];
const PREFIX: &str = "prefix";
const PROXY: &str = "proxy";
const CERTIFICATES: &str = "certificates";
const CREDENTIALS: &str = "credentials";
const READABLE: &str = "readable";
const WRITABLE: &str = "writable";
const LISTABLE: &str = "listable";
const CREATE_ONLY: &str = "create_only";
const CHECKSUM: &str = "checksum";
const DELETABLE: &str = "deletable";
const CLOCK_SKEW: &str = "clock_skew";
const OWNER: &str = "owner";
const BASE_BACKUP: &str = "base_backup";
const ENCRYPTION: &str = "encryption";
const UPLOAD_CHECKSUM: &str = "upload_checksum";
const MULTIPART: &str = "multipart";
const MISSING_OBJECTS: &str = "missing_objects";
const LISTING_ORDER: &str = "listing_order";
const SERVER_ADDRESS: &str = "server_address";

/// The rows when the settings name no prefix that could be opened.
pub fn without_prefix(error: &Error) -> Vec<Check> {
    let hint = format!(
        "Set {} to \"s3://bucket/path\" or \"file:///absolute/path\" and reload the configuration.",
        Setting::Prefix
    );
    let failed = Check::of_error(PREFIX, error, &hint);
    let others = CHECKS[1..LOCAL_CHECKS].iter();
    let others = others.map(|name| Check::not_checked(name, "there is no usable prefix"));
    std::iter::once(failed).chain(others).collect()
}

/// Checks the prefix of `config` as the place where `claimant` archives. Ends
/// within a few times [`STEP_LIMIT`], even if the store hangs.
pub fn prefix<'a>(
    config: &'a StoreConfig,
    claimant: &'a Claimant,
    notices: Notices,
) -> Work<'a, Vec<Check>> {
    Box::pin(async move {
        let open = store::open(config, retry::Patience::none(), notices);
        let opened = within(STEP_LIMIT, open).await;
        match opened {
            Err(error) => without_prefix(&error),
            Ok(store) => {
                let remote = matches!(config.place, StorePlace::S3(_));
                let rows = Rows::new(&config.prefix().to_string(), STEP_LIMIT);
                open_prefix(store, rows, remote, claimant).await
            }
        }
    })
}

/// The rows of an open prefix. `remote` is for a store with a clock and
/// credentials of its own.
async fn open_prefix(
    store: Arc<dyn ObjectStore>,
    mut rows: Rows,
    remote: bool,
    claimant: &Claimant,
) -> Vec<Check> {
    let store = &*store;
    // An answer is enough: that there is no such object, or that it is damaged.
    let read = within(rows.limit, owner::read(store)).await;
    let read = match read {
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(()),
        read => read.map(|_| ()),
    };
    if remote {
        way(&mut rows, store);
        rows.push(credentials(store, read.as_ref().err()));
    }
    let hint = "Allow this server to read objects below the prefix.";
    let readable = rows.reported(READABLE, read, hint);
    if readable.is_some() {
        rows.push(Check::passed(READABLE, "objects below the prefix can be read"));
    }

    let hint = "Allow this server to list the objects below the prefix.";
    let request = ListRequest { prefix: layout::wal(), shallow: true, ..ListRequest::default() };
    let listed = rows.step(LISTABLE, store.list(&request, None), hint).await;
    if listed.is_some() {
        rows.push(Check::passed(LISTABLE, "objects below the prefix can be listed"));
        base_backups(&mut rows, store, claimant).await;
        encryption::checked(&mut rows, store).await;
    } else {
        rows.skip(&[BASE_BACKUP, ENCRYPTION], "the prefix cannot be listed");
    }

    if readable.is_none() {
        rows.skip(&[OWNER], "the prefix cannot be read");
        rows.skip_writing(remote, "the owner of the prefix is not known");
    } else if owned(&mut rows, store, claimant).await {
        written(&mut rows, store, remote).await;
    } else {
        rows.skip_writing(remote, "it is not certain that the prefix is this cluster's");
    }
    rows.in_order()
}

/// What is on the way to the server.
fn way(rows: &mut Rows, store: &dyn ObjectStore) {
    let found = store.way();
    for name in WAY {
        rows.push(match found.iter().find(|part| part.name == name) {
            Some(part) => Check::passed(name, &part.detail),
            None => Check::not_checked(name, "the store says nothing of it"),
        });
    }
}

/// Where the keys came from, and whether the server takes them.
fn credentials(store: &dyn ObjectStore, error: Option<&Error>) -> Check {
    let source = store.credentials_source();
    match (error, source) {
        (Some(error), _) if error.kind() == ErrorKind::Denied => Check::of_error(
            CREDENTIALS,
            error,
            &format!(
                "Put AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY into the directory of {}.",
                Setting::EnvDir
            ),
        ),
        (Some(_), Some(source)) => Check::not_checked(
            CREDENTIALS,
            &format!("the store refused or did not answer; they are from {source}"),
        ),
        (Some(_), None) => Check::not_checked(CREDENTIALS, "the store refused or did not answer"),
        (None, Some(source)) => Check::passed(CREDENTIALS, format!("from {source}")),
        (None, None) => Check::passed(CREDENTIALS, "accepted"),
    }
}

async fn base_backups(rows: &mut Rows, store: &dyn ObjectStore, claimant: &Claimant) {
    let hint = "Allow this server to list the objects below the prefix.";
    let Some(backups) = rows.step(BASE_BACKUP, catalogue::sentinels(store), hint).await else {
        return;
    };
    // What pg_upgrade made has no backup yet, whatever the cluster has that it was made of.
    let hint = "Allow this server to read objects below the prefix.";
    let newest = catalogue::newest_identified(store, &backups);
    let newest = rows.step(BASE_BACKUP, newest, hint).await;
    let Some(newest) = newest else { return };
    if let Some(newest) = newest
        && let Some(cluster) = newest.system_identifier
        && cluster != claimant.system_identifier
    {
        rows.push(Check::failed(
            BASE_BACKUP,
            format!(
                "the newest, \"{}\", is of another cluster, with system identifier {cluster}",
                newest.name
            ),
            format!("Take one of this cluster with {}.", Word::TakeBackup),
        ));
        return;
    }
    let describe = |StoredSentinel { name, object, .. }: &StoredSentinel| {
        let stored_at = object.last_modified;
        let stored_at = stored_at.replace_nanosecond(0).unwrap_or(stored_at);
        format!("\"{name}\", complete at {}", format_time(stored_at))
    };
    rows.push(match backups.as_slice() {
        [] => Check::failed(
            BASE_BACKUP,
            "there is no complete base backup, so nothing can be restored",
            "Take one with wale_backup_push().",
        ),
        [only] => Check::passed(BASE_BACKUP, format!("one: {}", describe(only))),
        [oldest, .., newest] => Check::passed(
            BASE_BACKUP,
            format!(
                "{}; the oldest is {}; the newest is {}",
                backups.len(),
                describe(oldest),
                describe(newest)
            ),
        ),
    });
}

/// Whether the prefix is this cluster's or no cluster's.
async fn owned(rows: &mut Rows, store: &dyn ObjectStore, claimant: &Claimant) -> bool {
    let hint = "Allow this server to read and list the objects below the prefix.";
    let Some(owner) = rows.step(OWNER, owner::inspect(store, claimant), hint).await else {
        return false;
    };
    rows.push(Check::passed(
        OWNER,
        match owner {
            Some(owner) => format!("this cluster, with {owner}"),
            None => format!(
                "no cluster yet; the first WAL file or base backup claims it for system identifier {}",
                claimant.system_identifier
            ),
        },
    ));
    true
}

#[cfg(test)]
mod tests;
