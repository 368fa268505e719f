//! Reads a base backup back, object by object, to find out whether it could be
//! restored. Nothing is written, and one damaged object does not keep the others
//! from being read.
//!
//! It checks the JSON objects and whether they agree (`documents`); each tar, which
//! the restore's own code unpacks into nothing (`tar_content`); all files
//! against the lists that the backup has of them (`inventory`); `pg_control`,
//! label and tablespace map (`cluster_files`); and the WAL from start to stop, from
//! record to record (`needed_wal`). Of a delta, the backups that it builds on, too. A backup
//! that passes is checked once more as a restore does before it writes.

mod cluster_files;
mod documents;
mod inventory;
mod needed_wal;
mod record;
mod report;
mod stored_control;
mod tar_content;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::{self, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::archived::ArchivedObject;
use crate::catalogue::backups::resolve;
use crate::catalogue::tar_set::{self, TarSet};
use crate::codec::Encoding;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, TarKind};
use crate::owner;
use crate::restore::TablespacePlaces;
use crate::restore::chain::{self, Chain};
use crate::restore::unpack::Budget;
use crate::sentinel::FilesMetadata;
use crate::store::{ListRequest, ObjectInfo, ObjectStore, list_all};
use crate::tasks::{Work, blocking, or_cancelled};
use documents::Documents;
use inventory::Inventory;
pub use record::{LastVerification, last_verifications};
pub use report::Finding;
use report::Report;
pub(crate) use stored_control::stored_control;
use tar_content::{Expected, TarContent};

/// What to verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyRequest {
    /// The backup's name, or `LATEST`.
    pub name: String,
    /// Objects in flight.
    pub concurrency: usize,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The backup's name.
    pub name: String,
    /// A row for each kind of check that was passed, and for each failure.
    pub findings: Vec<Finding>,
}

impl Verified {
    /// How many checks failed.
    pub fn failures(&self) -> usize {
        self.findings.iter().filter(|finding| finding.ok == Some(false)).count()
    }
}

/// Counters of a running verification.
#[derive(Debug, Default)]
pub struct VerifyProgress {
    /// Stored bytes of all tars, as far as they have been listed.
    pub bytes_total: AtomicU64,
    /// Stored bytes of tars read so far.
    pub bytes_read: AtomicU64,
    /// WAL segments from start to stop; 0 until the tars are read.
    pub segments_total: AtomicU64,
    /// WAL segments read so far.
    pub segments_read: AtomicU64,
}

/// Reads the base backup back.
///
/// # Errors
/// [`ErrorKind::NotFound`] for an unknown backup, [`ErrorKind::Cancelled`], and
/// the store's own kinds when it does not answer. A fault of the backup is not an error
/// but a [`Finding`].
///
/// # Cancel safety
/// Dropping the future ends all reading.
pub fn verify(
    store: Arc<dyn ObjectStore>,
    request: VerifyRequest,
    progress: Arc<VerifyProgress>,
    cancel: CancellationToken,
) -> Work<'static, Result<Verified>> {
    Box::pin(async move {
        let cancel = cancel.child_token();
        // Reading threads see only the token.
        let _ended = cancel.clone().drop_guard();
        let verification = Verification {
            store,
            concurrency: request.concurrency.max(1),
            progress,
            file_bytes: AtomicU64::new(0),
            cancel,
        };
        or_cancelled(&verification.cancel, verification.chain(&request.name)).await
    })
}

/// A verification under way.
struct Verification {
    store: Arc<dyn ObjectStore>,
    concurrency: usize,
    progress: Arc<VerifyProgress>,
    /// Bytes of the files in all tars read so far.
    file_bytes: AtomicU64,
    cancel: CancellationToken,
}

/// A tar of the backup that can be read.
struct Tar {
    object: ObjectInfo,
    url: String,
    kind: TarKind,
    encoding: Encoding,
}

impl Tar {
    fn file_name(&self) -> &str {
        let key = self.object.key.as_str();
        key.rsplit_once('/').map_or(key, |(_, name)| name)
    }
}

impl Verification {
    /// The backup `name`, and those that it is a delta of.
    async fn chain(&self, name: &str) -> Result<Verified> {
        let name = resolve(&*self.store, name).await?;
        let mut findings = Vec::new();
        let mut levels = vec![name.clone()];
        while let Some(level) = levels.last().cloned() {
            let mut report = Report::new((levels.len() > 1).then_some(level.as_str()));
            let parent = self.level(&level, levels.len() == 1, &mut report).await?;
            if let Some(parent) = parent {
                let url = self.store.url(layout::sentinel(&level).as_str());
                if !chain::is_name(&parent) {
                    let what = format!(
                        "it is a delta of \"{parent}\", which is not the name of a base backup"
                    );
                    report.failed(report::DELTA, &url, what);
                } else if levels.contains(&parent) {
                    let what = "its delta backups build on each other in a circle";
                    report.failed(report::DELTA, &url, what);
                } else {
                    levels.push(parent);
                }
            }
            findings.extend(report.finish());
            if levels.last() == Some(&level) {
                break;
            }
        }
        if findings.iter().all(|finding| finding.ok != Some(false)) {
            self.as_a_restore_begins(&name, levels.len() > 1, &mut findings).await?;
        }
        Ok(Verified { name, findings })
    }

    /// The checks of a restore before it writes, by the restore's own code, and its limit on
    /// bytes: nothing that a restore refuses may pass.
    async fn as_a_restore_begins(
        &self,
        name: &str,
        is_delta: bool,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let found = Chain::find(&*self.store, name).await.and_then(|chain| {
            let budget = Budget::new(chain.file_bytes());
            budget.take(self.file_bytes.load(Ordering::Relaxed))?;
            TablespacePlaces::default().of(chain.tip().sentinel.spec.as_ref(), &[])
        });
        let Err(error) = documents::hold_back(found)? else { return Ok(()) };
        let check = if is_delta { report::DELTA } else { report::TARS };
        findings.retain(|finding| finding.check_name != check || finding.ok != Some(true));
        let mut report = Report::new(None);
        let url = self.store.url(&layout::backup_directory(name));
        report.failed_with(check, &url, &error);
        findings.extend(report.finish());
        Ok(())
    }

    /// One backup; returns the one that it is a delta of. The WAL of a delta also makes the
    /// backups that it builds on consistent.
    async fn level(
        &self,
        name: &str,
        with_wal: bool,
        report: &mut Report,
    ) -> Result<Option<String>> {
        let Documents { sentinel, files, manifest } =
            documents::read(&*self.store, name, report).await?;
        let tars = self.list_tars(name, files.as_ref(), report).await?;
        let (manifest_url, manifest) = manifest.unzip();
        let mut inventory = Inventory::new(&sentinel, files, manifest, &tars);
        self.read_tars(tars, &mut inventory, report).await?;
        let files_url = self.store.url(layout::files_metadata(name).as_str());
        let manifest_url = manifest_url.unwrap_or_default();
        let cluster_files = inventory.finish(&files_url, &manifest_url, report);
        let directory = self.store.url(&layout::backup_directory(name));
        let (label, segment_size) = cluster_files.verify(name, &directory, &sentinel, report);
        if with_wal {
            let backup = needed_wal::Backup { name, sentinel: &sentinel, label: label.as_ref() };
            needed_wal::verify(self, backup, segment_size, report).await?;
        }
        Ok(sentinel.delta_from)
    }

    async fn list_tars(
        &self,
        name: &str,
        files: Option<&FilesMetadata>,
        report: &mut Report,
    ) -> Result<Vec<Tar>> {
        let request =
            ListRequest { prefix: layout::tar_partitions(name), ..ListRequest::default() };
        let objects = list_all(&*self.store, &request).await?;
        for file_name in files.into_iter().flat_map(|files| tar_set::lost(files, &objects)) {
            let url = self.store.url(layout::tar_partition(name, file_name).as_str());
            report.failed(report::TARS, &url, "it does not exist");
        }
        let bytes = objects.iter().map(|object| object.size_bytes).sum();
        self.progress.bytes_total.fetch_add(bytes, Ordering::Relaxed);
        let TarSet { own: objects, left_over } = match files {
            Some(files) => tar_set::tell_apart(objects, files),
            None => TarSet { own: objects, ..TarSet::default() },
        };
        if let Some(first) = left_over.first() {
            let what = format!(
                "a restore skips {} objects that files_metadata.json does not list; the first is \"{}\"",
                left_over.len(),
                tar_set::file_name(first)
            );
            report.noted(report::TARS, what);
        }
        let mut tars = Vec::with_capacity(objects.len());
        for object in objects {
            let url = self.store.url(object.key.as_str());
            let Some((kind, stored)) = layout::tar_of(&object.key) else {
                report.failed(report::TARS, &url, "it is not a tar");
                continue;
            };
            match stored.readable(&url) {
                Ok(encoding) => tars.push(Tar { object, url, kind, encoding }),
                Err(error) => report.failed_with(report::TARS, &url, &error),
            }
        }
        Ok(tars)
    }

    async fn read_tars(
        &self,
        tars: Vec<Tar>,
        inventory: &mut Inventory,
        report: &mut Report,
    ) -> Result<()> {
        let contents = tars.into_iter().map(|tar| {
            let expected = inventory.expected(tar.file_name());
            async move {
                let content = self.read_tar(&tar, expected).await;
                (tar, content)
            }
        });
        let contents: Vec<_> = contents.collect();
        let mut contents = stream::iter(contents).buffer_unordered(self.concurrency);
        let (mut is_read, mut not_opened) = (false, None);
        while let Some((tar, content)) = contents.next().await {
            match content {
                Ok(content) => {
                    match content.why_it_has_nothing() {
                        None => is_read = true,
                        Some(why) => {
                            let error = Error::new(ErrorKind::Corrupt, why);
                            not_opened = Some((tar.url.clone(), error));
                        }
                    }
                    let bytes = content.files.iter().map(|file| file.member_bytes).sum();
                    self.file_bytes.fetch_add(bytes, Ordering::Relaxed);
                    inventory.add(&tar, content, report);
                }
                Err(error) if keeps_others_readable(&error) => {
                    report.failed_with(report::TARS, &tar.url, &error);
                    if error.lacks_key() || error.kind() == ErrorKind::Corrupt {
                        not_opened = Some((tar.url, error));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        match not_opened {
            // Nothing is known of the backup then, and nothing should be recorded of it.
            Some((url, error)) if !is_read && (error.lacks_key() || self.lacks_keys().await?) => {
                Err(without_key(&url, &error))
            }
            // Of another program, which leaves no mark that it encrypts.
            Some(_) if !is_read && self.store.encryption().keyring.is_empty() => {
                report.noted(report::TARS, PERHAPS_ENCRYPTED);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether there is no key, and something below the prefix needs one.
    async fn lacks_keys(&self) -> Result<bool> {
        let has_none = self.store.encryption().keyring.is_empty();
        Ok(has_none && !owner::read_encryption_marks(&*self.store).await?.keys.is_empty())
    }

    async fn read_tar(&self, tar: &Tar, expected: Expected) -> Result<TarContent> {
        let (store, key) = (&*self.store, &tar.object.key);
        let object = ArchivedObject::open_until(store, key, tar.encoding, &self.cancel).await?;
        let progress = Arc::clone(&self.progress);
        let count = move |bytes| {
            progress.bytes_read.fetch_add(bytes, Ordering::Relaxed);
        };
        let object = object.counted(count);
        blocking("reading a tar", move || TarContent::read(object, &expected)).await
    }
}

/// When not one tar can be read, and there is no key.
const PERHAPS_ENCRYPTED: &str = "no tar can be read: they may be encrypted. Then give the key: \
     WALG_LIBSODIUM_KEY_PATH names the file that has it";

fn without_key(url: &str, error: &Error) -> Error {
    let why = format!("object \"{url}\" cannot be read with the keys that are configured");
    let detail = format!("No tar of the base backup can be. {}.", error.message());
    let hint = "Give the key that it was encrypted with; WALE_LIBSODIUM_OLD_KEYS_PATH names a file of keys to read with, WALG_PGP_KEY_PATH one for OpenPGP.";
    Error::new(ErrorKind::Config, why).with_detail(detail).with_hint(hint)
}

/// Nothing is written here, so an error of the operating system also belongs to an object's
/// file.
fn keeps_others_readable(error: &Error) -> bool {
    error.is_of_one_object() || error.kind() == ErrorKind::Io
}

#[cfg(test)]
mod tests;
