//! The keys that requests are signed with: where they come from, how long they
//! are kept in memory, and when they are fetched anew.
//!
//! The SDK's own cache would keep keys until they are due, and no answer of the
//! server can empty it. This one is told of refusals: see [`Keys::refused`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{
    ProvideCredentials, Result as Provided, SharedCredentialsProvider, future,
};

use crate::config::{EnvDir, StaticCredentials};
use crate::error::{Error, ErrorKind, Result};
use crate::tasks::blocking;

mod chain;
mod container;
mod profile;
mod services;
mod words;

pub(super) use chain::{chain, instance_metadata};
pub(super) use profile::Profile;
pub(super) use services::Services;

/// How long keys of a directory are used before it is read again.
const KEEP_FROM_ENV_DIR: Duration = Duration::from_secs(30);

/// How long keys of the chain are used when they do not say when they expire:
/// those of a profile, which somebody may rewrite.
const KEEP_FROM_CHAIN: Duration = Duration::from_secs(15 * 60);

/// Keys are fetched anew so long before they expire: clocks differ.
const BEFORE_EXPIRY: Duration = Duration::from_secs(10);

/// Other services that hand out keys are not asked more often.
const ASK_CHAIN_EVERY: Duration = Duration::from_secs(5);

/// Names the place where the keys in use were found, for error messages. Clones
/// share what they know.
#[derive(Debug, Clone, Default)]
pub(super) struct CredentialSource {
    found: Arc<Mutex<Option<String>>>,
}

impl CredentialSource {
    fn set(&self, source: &str) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.as_deref() != Some(source) {
            *found = Some(source.to_owned());
        }
    }

    /// A phrase that fits after "from"; `None` before any were found.
    pub(super) fn get(&self) -> Option<String> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A source that is known from the start.
    pub(super) fn known(source: &str) -> Self {
        let known = CredentialSource::default();
        known.set(source);
        known
    }
}

/// How the server refused keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It says that they have expired, or are not valid any more.
    Expired,
    /// It does not say why (an answer to HEAD has no room for it): with a
    /// session token that is mostly its expiry.
    PerhapsExpired,
    /// It does not know them, or another secret for them: where they were good
    /// before, they have been replaced.
    NotKnown,
    /// For another reason.
    Other,
}

/// The keys in use. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    shared: Arc<Shared>,
}

struct Shared {
    origin: Origin,
    source: CredentialSource,
    /// For one fetch.
    limit: Duration,
    /// Changes when the keys do.
    generation: AtomicU64,
    /// Whether the server has taken keys from here.
    were_good: AtomicBool,
    /// Locked while keys are fetched, so that one fetch serves all requests.
    held: tokio::sync::Mutex<Option<Held>>,
}

enum Origin {
    Given(Credentials),
    EnvDir(PathBuf),
    /// Makes the chain anew for each fetch: the SDK's providers remember the
    /// files that they have read.
    Chain(Box<dyn Fn() -> SharedCredentialsProvider + Send + Sync>),
}

/// Keys in memory.
struct Held {
    credentials: Credentials,
    fetched: Instant,
    until: Instant,
}

impl Keys {
    /// The keys that the caller found; they stay as they are.
    pub(super) fn given(credentials: &StaticCredentials) -> Keys {
        let source = CredentialSource::known(&credentials.source);
        Keys::of(Origin::Given(signing_keys(credentials)), source, Duration::MAX)
    }

    /// The keys of an envdir directory, read again every half a minute, and
    /// when the server refuses them. `limit` is for reading it.
    pub(super) fn env_dir(directory: &Path, limit: Duration) -> Keys {
        let source = CredentialSource::known(&format!("env_dir \"{}\"", directory.display()));
        Keys::of(Origin::EnvDir(directory.to_owned()), source, limit)
    }

    /// The keys of a provider that `make` makes and that notes in `source` where
    /// it found them. `limit` is for one fetch.
    pub(super) fn chain(
        make: impl Fn() -> SharedCredentialsProvider + Send + Sync + 'static,
        source: CredentialSource,
        limit: Duration,
    ) -> Keys {
        Keys::of(Origin::Chain(Box::new(make)), source, limit)
    }

    fn of(origin: Origin, source: CredentialSource, limit: Duration) -> Keys {
        let (generation, were_good) = (AtomicU64::new(0), AtomicBool::new(false));
        let held = tokio::sync::Mutex::default();
        Keys { shared: Arc::new(Shared { origin, source, limit, generation, were_good, held }) }
    }

    /// Where they were found.
    pub(super) fn source(&self) -> CredentialSource {
        self.shared.source.clone()
    }

    /// A number for the keys in use; to be noted before a request is made.
    pub(super) fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Relaxed)
    }

    /// Takes note that the server took the keys of a request.
    pub(super) fn accepted(&self) {
        self.shared.were_good.store(true, Ordering::Relaxed);
    }

    /// Whether keys that are not known any more may only have been replaced: the server has
    /// taken them before, and their source may have others some time.
    pub(super) fn may_be_replaced(&self) -> bool {
        self.shared.were_good.load(Ordering::Relaxed) && self.shared.may_change()
    }

    /// Takes note that the server refused the keys of a request that was made
    /// under `generation`, and tells whether another attempt has a chance:
    /// because there are other keys by now, or because these have expired and
    /// their source can have new ones.
    pub(super) async fn refused(&self, generation: u64, refusal: Refusal) -> bool {
        self.shared.refused(generation, refusal).await
    }
}

impl Shared {
    async fn provide(&self) -> Provided {
        if let Origin::Given(credentials) = &self.origin {
            return sendable(credentials.clone());
        }
        let fetch = async {
            let mut held = self.held.lock().await;
            match held.as_ref().filter(|held| Instant::now() < held.until) {
                Some(held) => Ok(held.credentials.clone()),
                None => self.fetch_into(&mut held).await,
            }
        };
        // Whoever waits for another's fetch waits no longer than for one of its own.
        tokio::time::timeout(self.limit, fetch)
            .await
            .unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(self.limit)))
    }

    /// On failure what was held is left as it was.
    async fn fetch_into(&self, held: &mut Option<Held>) -> Provided {
        let credentials = match &self.origin {
            Origin::Given(credentials) => credentials.clone(),
            Origin::EnvDir(directory) => {
                read_env_dir(directory).await.map_err(CredentialsError::provider_error)?
            }
            Origin::Chain(make) => make().provide_credentials().await?,
        };
        let credentials = sendable(credentials)?;
        if held.as_ref().is_some_and(|held| !are_same(&held.credentials, &credentials)) {
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
        let fetched = Instant::now();
        let keep = self.how_long_to_keep(&credentials);
        *held = Some(Held { credentials: credentials.clone(), fetched, until: fetched + keep });
        Ok(credentials)
    }

    fn how_long_to_keep(&self, credentials: &Credentials) -> Duration {
        if matches!(self.origin, Origin::EnvDir(_)) {
            return KEEP_FROM_ENV_DIR;
        }
        let Some(expiry) = credentials.expiry() else { return KEEP_FROM_CHAIN };
        let left = expiry.duration_since(SystemTime::now()).unwrap_or_default();
        left.saturating_sub(BEFORE_EXPIRY).max(ASK_CHAIN_EVERY)
    }

    async fn refused(&self, generation: u64, refusal: Refusal) -> bool {
        if matches!(self.origin, Origin::Given(_)) {
            return false;
        }
        // As in `provide`, no waiting for ever; keys that could not be fetched
        // here are fetched, or complained of, by the next attempt.
        let look = tokio::time::timeout(self.limit, self.look_after(generation, refusal));
        let have_expired = look.await.unwrap_or(refusal == Refusal::Expired);
        (have_expired && self.may_change()) || self.generation.load(Ordering::Relaxed) != generation
    }

    /// Whether the source may have other keys some time.
    fn may_change(&self) -> bool {
        // What a process finds in its environment stays.
        !matches!(self.origin, Origin::Given(_))
            && self.source.get().as_deref() != Some(chain::ENVIRONMENT)
    }

    /// Looks for other keys, or makes the next request do so. Whether the
    /// refused ones have expired.
    async fn look_after(&self, generation: u64, refusal: Refusal) -> bool {
        let mut held = self.held.lock().await;
        let Some(keys) = held.as_mut() else { return refusal == Refusal::Expired };
        let have_expired = match refusal {
            Refusal::Expired => true,
            Refusal::PerhapsExpired => keys.credentials.session_token().is_some(),
            Refusal::NotKnown | Refusal::Other => false,
        };
        if self.generation.load(Ordering::Relaxed) != generation {
            return have_expired;
        }
        match self.origin {
            Origin::EnvDir(_) => {
                // Someone may be in the middle of writing new ones.
                let _ = self.fetch_into(&mut held).await;
                if have_expired && let Some(keys) = held.as_mut() {
                    keys.until = keys.fetched;
                }
            }
            _ if have_expired => keys.until = keys.until.min(keys.fetched + ASK_CHAIN_EVERY),
            _ => {}
        }
        have_expired
    }
}

async fn read_env_dir(directory: &Path) -> Result<Credentials> {
    let directory = directory.to_owned();
    blocking("reading credentials", move || {
        let keys = EnvDir::read(&directory)?.credentials().ok_or_else(|| {
            let directory = directory.display();
            let message =
                format!("there are no credentials in environment directory \"{directory}\"");
            Error::new(ErrorKind::Config, message)
                .with_hint("Put AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY into it.")
        })?;
        Ok(signing_keys(&keys))
    })
    .await
}

fn signing_keys(credentials: &StaticCredentials) -> Credentials {
    Credentials::new(
        &credentials.access_key_id,
        credentials.secret_access_key.expose(),
        credentials.session_token.as_ref().map(|token| token.expose().to_owned()),
        None,
        "wal_e",
    )
}

/// The keys as a request can carry them. What a variable or a file got them from often ends
/// with a newline, which is not part of them; the SDK panics at one.
fn sendable(keys: Credentials) -> Provided {
    let token = keys.session_token().map(|token| token.trim().to_owned());
    let id = keys.access_key_id().trim().to_owned();
    for (what, text) in [("access key", Some(&id)), ("session token", token.as_ref())] {
        if text.is_some_and(|text| text.contains(char::is_control)) {
            let message =
                format!("the {what} has a newline or another control character within it");
            return Err(CredentialsError::invalid_configuration(message));
        }
    }
    let secret = keys.secret_access_key().trim();
    Ok(Credentials::new(id, secret, token, keys.expiry(), "wal_e"))
}

/// Whether requests are signed the same with both.
fn are_same(a: &Credentials, b: &Credentials) -> bool {
    (a.access_key_id(), a.secret_access_key(), a.session_token())
        == (b.access_key_id(), b.secret_access_key(), b.session_token())
}

impl ProvideCredentials for Keys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.shared.provide())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("source", &self.source).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
