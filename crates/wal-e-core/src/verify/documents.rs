//! The objects beside the tars: sentinel, metadata, list of files, manifest.

use super::keeps_others_readable;
use super::report::{self, Report};
use crate::catalogue::backup_info::read_sentinel;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::postgres::BackupManifest;
use crate::restore::manifest::StoredManifest;
use crate::sentinel::{self, FilesMetadata, Metadata, Sentinel};
use crate::store::ObjectStore;

/// Metadata are small; a larger object is damaged.
const LARGEST_SMALL_BYTES: u64 = 16 * 1024 * 1024;

/// The largest list of files that is read: some hundred bytes a file.
const LARGEST_LIST_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// What a backup says about itself, as far as it can be read.
pub(super) struct Documents {
    /// Empty when it cannot be read.
    pub(super) sentinel: Sentinel,
    pub(super) files: Option<FilesMetadata>,
    /// With the URL of its object.
    pub(super) manifest: Option<(String, BackupManifest)>,
}

pub(super) async fn read(
    store: &dyn ObjectStore,
    backup: &str,
    report: &mut Report,
) -> Result<Documents> {
    let mut sentinel = sentinel(store, backup, report).await?;
    metadata(store, backup, &sentinel, report).await?;
    let files = files_metadata(store, backup, &mut sentinel, report).await?;
    let manifest = backup_manifest(store, backup, &sentinel, report).await?;
    Ok(Documents { sentinel, files, manifest })
}

/// An object's content, or what is wrong with it; an error when the store does not
/// answer.
async fn load<T>(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    limit_bytes: u64,
    parse: impl FnOnce(&str, &[u8]) -> Result<T>,
) -> Result<Result<T>> {
    let loaded = async {
        let bytes = store.get(key, 0, None).await?.into_bytes(limit_bytes).await?;
        parse(&store.url(key.as_str()), &bytes)
    };
    hold_back(loaded.await)
}

/// An error of one object becomes a value; others stay errors.
pub(super) fn hold_back<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(error) if !keeps_others_readable(&error) => Err(error),
        result => Ok(result),
    }
}

async fn sentinel(store: &dyn ObjectStore, backup: &str, report: &mut Report) -> Result<Sentinel> {
    let key = layout::sentinel(backup);
    let url = store.url(key.as_str());
    let sentinel = match hold_back(read_sentinel(store, backup).await)? {
        Ok(sentinel) => sentinel,
        Err(error) => {
            report.failed_with(report::SENTINEL, &url, &error);
            return Ok(Sentinel::default());
        }
    };
    match (sentinel.lsn, sentinel.finish_lsn) {
        (Some(start), Some(stop)) if start > stop => report.failed(
            report::SENTINEL,
            &url,
            format_args!("its start LSN {start} is after its stop LSN {stop}"),
        ),
        (Some(start), Some(stop)) => {
            report.passed(report::SENTINEL, format!("from LSN {start} to {stop}"));
        }
        _ => report.passed(
            report::SENTINEL,
            "it has no start or stop LSN, as in backups of older programs",
        ),
    }
    Ok(sentinel)
}

async fn metadata(
    store: &dyn ObjectStore,
    backup: &str,
    sentinel: &Sentinel,
    report: &mut Report,
) -> Result<()> {
    let key = layout::metadata(backup);
    let url = store.url(key.as_str());
    let metadata: Metadata = match load(store, &key, LARGEST_SMALL_BYTES, sentinel::parse).await? {
        Ok(metadata) => metadata,
        Err(error) if may_be_missing(&error, sentinel) => {
            report.not_checked(report::METADATA, "the backup has no metadata.json");
            return Ok(());
        }
        Err(error) => {
            report.failed_with(report::METADATA, &url, &error);
            return Ok(());
        }
    };
    let own = sentinel.metadata();
    for (what, differs) in [
        ("start LSN", differ(metadata.start_lsn, own.start_lsn)),
        ("stop LSN", differ(metadata.finish_lsn, own.finish_lsn)),
        ("system identifier", differ(metadata.system_identifier, own.system_identifier)),
        ("version of PostgreSQL", differ(metadata.pg_version, own.pg_version)),
    ] {
        if differs {
            report.failed(
                report::METADATA,
                &url,
                format_args!("its {what} differs from that of the sentinel"),
            );
        }
    }
    report.passed(report::METADATA, "agrees with the sentinel");
    Ok(())
}

fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

/// WAL-E and old versions of WAL-G wrote less.
fn may_be_missing(error: &Error, sentinel: &Sentinel) -> bool {
    error.kind() == ErrorKind::NotFound && sentinel.version.is_none_or(|version| version < 2)
}

async fn files_metadata(
    store: &dyn ObjectStore,
    backup: &str,
    sentinel: &mut Sentinel,
    report: &mut Report,
) -> Result<Option<FilesMetadata>> {
    if sentinel.files_metadata_disabled || sentinel.is_wal_e {
        report.not_checked(report::FILES_METADATA, "the backup was made without it");
        return Ok(None);
    }
    let inline = std::mem::take(&mut sentinel.inline_files);
    if !inline.files.is_empty() {
        let (count, tars) = (inline.files.len(), inline.tar_file_sets.len());
        let what = format!("the sentinel lists {count} files in {tars} tars");
        report.passed(report::FILES_METADATA, what);
        return Ok(Some(inline));
    }
    let key = layout::files_metadata(backup);
    let loaded = load(store, &key, LARGEST_LIST_BYTES, sentinel::parse::<FilesMetadata>).await?;
    match loaded {
        Ok(files) => {
            let count = files.files.len();
            let tars = files.tar_file_sets.len();
            report.passed(report::FILES_METADATA, format!("lists {count} files in {tars} tars"));
            return Ok(Some(files));
        }
        Err(error) if may_be_missing(&error, sentinel) => {
            report.not_checked(report::FILES_METADATA, "the backup was made without it");
        }
        Err(error) => {
            report.failed_with(report::FILES_METADATA, &store.url(key.as_str()), &error);
        }
    }
    Ok(None)
}

async fn backup_manifest(
    store: &dyn ObjectStore,
    backup: &str,
    sentinel: &Sentinel,
    report: &mut Report,
) -> Result<Option<(String, BackupManifest)>> {
    let Some(stored) = StoredManifest::find(store, backup).await? else {
        report.not_checked(
            report::MANIFEST,
            "the backup has none, so the files' sizes and checksums are unknown",
        );
        return Ok(None);
    };
    let loaded = hold_back(stored.content(store).await)?;
    let parsed = loaded.and_then(|bytes| BackupManifest::parse(&bytes));
    let url = stored.url;
    let manifest = match parsed {
        Ok(manifest) => manifest,
        Err(error) => {
            report.failed_with(report::MANIFEST, &url, &error);
            return Ok(None);
        }
    };
    if differ(manifest.system_identifier, sentinel.system_identifier) {
        report.failed(
            report::MANIFEST,
            &url,
            "its system identifier differs from that of the sentinel",
        );
    }
    let covers = |lsn| manifest.wal_ranges.iter().any(|range| range.start_lsn == lsn);
    let ends = |lsn| manifest.wal_ranges.iter().any(|range| range.end_lsn == lsn);
    if !sentinel.lsn.is_none_or(covers) || !sentinel.finish_lsn.is_none_or(ends) {
        report.failed(report::MANIFEST, &url, "its WAL ranges do not span start to stop LSN");
    }
    report.passed(report::MANIFEST, format!("lists {} files", manifest.files.len()));
    Ok(Some((url, manifest)))
}
