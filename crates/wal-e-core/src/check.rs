//! Whether a prefix can be used: one row for each thing that can be wrong.
//!
//! Nothing is written to the prefix of another cluster, and nothing is claimed.
//! To a prefix that may be used, one small object below `wal_e/check/` is
//! written, and removed again; and the store's own probe of create-only
//! uploads. Each step has a limit of time, and a store that does not answer is
//! not asked again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;

use crate::catalogue;
use crate::config::{Setting, StoreConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::notice::Notices;
use crate::owner::{self, Claimant};
use crate::sentinel::format_time;
use crate::store::{
    self, Ability, Attributes, ListRequest, ObjectStore, PutMode, PutOutcome, retry,
};

/// How long one step may take.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// S3 refuses requests whose time differs by 15 minutes.
const TOLERATED_CLOCK_SKEW: time::Duration = time::Duration::seconds(60);

/// More than a packet, less than anybody pays for.
const TEST_OBJECT_BYTES: usize = 4096;

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
    /// How to mend it.
    pub hint: Option<String>,
}

impl Check {
    /// It is as it should be.
    pub fn passed(name: &'static str, detail: impl Into<String>) -> Self {
        Check { name, ok: Some(true), detail: detail.into(), hint: None }
    }

    /// It is not, and `hint` is the mend.
    pub fn failed(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Check { name, ok: Some(false), detail: detail.into(), hint: Some(hint.into()) }
    }

    /// It could not be looked at, because of `reason`.
    pub fn not_checked(name: &'static str, reason: &str) -> Self {
        Check { name, ok: None, detail: format!("not checked: {reason}"), hint: None }
    }

    /// It is not, as `error` says; `hint` serves where the error has none.
    pub fn of_error(name: &'static str, error: &Error, hint: &str) -> Self {
        Check::failed(name, error.message_and_detail(), error.hint().unwrap_or(hint))
    }
}

/// The checks of a prefix, in the order in which they are told. Those after
/// [`LOCAL_CHECKS`] are asked of `s3://` prefixes only.
const CHECKS: [&str; 18] = [
    PREFIX,
    READABLE,
    WRITABLE,
    LISTABLE,
    CREATE_ONLY,
    CHECKSUM,
    DELETABLE,
    OWNER,
    BASE_BACKUP,
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
const LOCAL_CHECKS: usize = 9;
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
/// within a few times [`STEP_LIMIT`] whatever the store does.
pub async fn prefix(config: &StoreConfig, claimant: &Claimant, notices: Notices) -> Vec<Check> {
    let open = store::open(config, retry::Patience::none(), notices);
    let opened = within(STEP_LIMIT, open).await;
    match opened {
        Err(error) => without_prefix(&error),
        Ok(store) => {
            let remote = matches!(config, StoreConfig::S3(_));
            let rows = Rows::new(&config.prefix().to_string(), STEP_LIMIT);
            open_prefix(store, rows, remote, claimant).await
        }
    }
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
    let readable = rows.told(READABLE, read, hint);
    if readable.is_some() {
        rows.push(Check::passed(READABLE, "objects below the prefix can be read"));
    }

    let hint = "Allow this server to list the objects below the prefix.";
    let request = ListRequest { prefix: layout::wal(), shallow: true, ..ListRequest::default() };
    let listed = rows.step(LISTABLE, store.list(&request, None), hint).await;
    if listed.is_some() {
        rows.push(Check::passed(LISTABLE, "objects below the prefix can be listed"));
        base_backups(&mut rows, store).await;
    } else {
        rows.skip(&[BASE_BACKUP], "the prefix cannot be listed");
    }

    if readable.is_none() {
        rows.skip(&[OWNER], "the prefix cannot be read");
        rows.skip_writing(remote, "the owner of the prefix is not known");
    } else if owned(&mut rows, store, claimant).await {
        written(&mut rows, store, remote).await;
    } else {
        rows.skip_writing(remote, "it is not sure that the prefix is this cluster's");
    }
    rows.in_order()
}

/// Rows so far, and why the store is not asked any more.
struct Rows {
    rows: Vec<Check>,
    silent: Option<&'static str>,
    limit: Duration,
}

impl Rows {
    fn new(url: &str, limit: Duration) -> Self {
        Rows { rows: vec![Check::passed(PREFIX, url)], silent: None, limit }
    }

    fn push(&mut self, row: Check) {
        self.rows.push(row);
    }

    /// Does a step unless the store has stopped answering. A failure becomes a row.
    async fn step<T>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Result<T>>,
        hint: &str,
    ) -> Option<T> {
        if let Some(reason) = self.silent {
            self.push(Check::not_checked(name, reason));
            return None;
        }
        let result = within(self.limit, work).await;
        self.told(name, result, hint)
    }

    /// The value of a step that succeeded; else a row.
    fn told<T>(&mut self, name: &'static str, result: Result<T>, hint: &str) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if error.is_transient() {
                    self.silent = Some("the store does not answer as it should");
                }
                self.push(Check::of_error(name, &error, hint));
                None
            }
        }
    }

    fn skip(&mut self, names: &[&'static str], reason: &str) {
        let reason = self.silent.unwrap_or(reason);
        self.rows.extend(names.iter().map(|name| Check::not_checked(name, reason)));
    }

    fn skip_writing(&mut self, remote: bool, reason: &str) {
        self.skip(&[WRITABLE, CREATE_ONLY, CHECKSUM, DELETABLE], reason);
        if remote {
            self.skip(&[CLOCK_SKEW], reason);
            self.skip(&ABILITIES, reason);
        }
    }

    fn in_order(mut self) -> Vec<Check> {
        self.rows.sort_by_key(|row| CHECKS.iter().position(|name| *name == row.name));
        self.rows
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("the store did not answer within {} seconds", limit.as_secs()),
        )
        .with_hint("Check that the store is up, and the network or the mount on the way to it."))
    })
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

async fn base_backups(rows: &mut Rows, store: &dyn ObjectStore) {
    let hint = "Allow this server to list the objects below the prefix.";
    let Some(backups) = rows.step(BASE_BACKUP, catalogue::stored(store), hint).await else {
        return;
    };
    let describe = |(name, stored_at): &(String, OffsetDateTime)| {
        let stored_at = stored_at.replace_nanosecond(0).unwrap_or(*stored_at);
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

/// Whether the prefix is this cluster's or nobody's.
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
                "nobody yet; the first WAL file or base backup claims it for system identifier {}",
                claimant.system_identifier
            ),
        },
    ));
    true
}

/// Writes a small object, reads it back and removes it.
async fn written(rows: &mut Rows, store: &dyn ObjectStore, remote: bool) {
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
    match atomic {
        Some(true) => rows.push(Check::passed(
            CREATE_ONLY,
            "the store refuses to replace an object when it is asked to",
        )),
        Some(false) => rows.push(Check::failed(
            CREATE_ONLY,
            "the store replaces objects although it is asked not to, so wal_e looks before it writes",
            "Let only one server write to this prefix, or use a store that honours If-None-Match.",
        )),
        None => {}
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

/// What the server can do, and what is used where it cannot.
async fn abilities(rows: &mut Rows, store: &dyn ObjectStore) {
    let hint = "Check the store: what it can do could not be found out.";
    let Some(found) = rows.step(UPLOAD_CHECKSUM, store.abilities(), hint).await else {
        rows.skip(&ABILITIES[1..], "what the store can do could not be found out");
        return;
    };
    for name in ABILITIES {
        rows.push(match found.iter().find(|ability| ability.name == name) {
            Some(Ability { ok: Some(false), detail, hint, .. }) => Check::failed(
                name,
                detail,
                hint.as_deref().unwrap_or("Backups need it: allow it, or use another store."),
            ),
            Some(Ability { ok, detail, hint, .. }) => {
                Check { name, ok: *ok, detail: detail.clone(), hint: hint.clone() }
            }
            None => Check::not_checked(name, "the store says nothing of it"),
        });
    }
}

async fn clock_skew(
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
/// from whoever takes over the server: a matter of choice.
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
                "Archiving and backups do not need it; removing old ones does, from wherever that is done."
                    .to_owned(),
            ),
        }),
    }
}

#[cfg(test)]
mod tests;
