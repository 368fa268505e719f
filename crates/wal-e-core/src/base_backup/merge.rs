//! A full base backup that is made of a delta backup and those that it builds on, out of the
//! store: no database is read.
//!
//! The chain is read as a restore reads it, the newest backup first. What a backup has whole goes
//! straight into a tar of the new one: one for each tar that is read. Of a file of which it has
//! pages, these wait in a temporary directory until an older backup has the whole file, which
//! then becomes one with them. So the disk needs room for the changed pages, and for nothing
//! else.
//!
//! The new backup is the delta in another form: the same files, LSNs and times, and the name
//! that a full backup would have got in its place. The next incremental backup may build on it
//! where it may build on the delta. Nothing of the chain is changed or deleted.
//!
//! * `name`: what the new backup is called, and whether its name is free.
//! * `spool`: the pages that wait.
//! * `tar`: one tar of the chain, into one of the new backup.

mod name;
mod spool;
mod tar;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::draft::{ClusterFacts, Draft};
use super::under_way::this_process;
use super::verified::found_damaged;
use super::{Phase, Progress};
use crate::catalogue::backup_info::sentinels;
use crate::catalogue::cold;
use crate::catalogue::stored_backup::StoredBackup;
use crate::codec::Compression;
use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::Notices;
use crate::owner::{self, Claimant, hostname};
use crate::postgres::WalRange;
use crate::postgres::data_directory::{BACKUP_LABEL, CONTROL_FILE};
use crate::restore::chain::{Chain, Level};
use crate::restore::manifest::Manifest;
use crate::sentinel::{Begun, Sentinel};
use crate::store::ObjectStore;
use crate::tasks::{Work, in_slots, or_cancelled};
use spool::Spool;
use tar::{Output, Parts};

/// Which backup is merged, and how.
#[derive(Debug, Clone)]
pub struct MergeRequest {
    /// The delta backup's name, or `LATEST`.
    pub name: String,
    /// Tars that are read at the same time.
    pub concurrency: usize,
    /// How the new backup is compressed.
    pub compression: Compression,
    /// Changed pages wait in a directory below this one.
    pub temporary_directory: PathBuf,
}

/// Makes a full backup of a delta backup. Returns its name.
///
/// `progress` counts stored bytes of the chain as what is looked at and read.
///
/// # Errors
/// [`ErrorKind::Config`] for a backup that is no delta, not the latest one, or not taken by wal_e;
/// [`ErrorKind::Conflict`] when there is a full backup of that name, or one is being made;
/// [`ErrorKind::Corrupt`] for an object of the chain that is damaged or missing;
/// [`ErrorKind::DiskFull`]; and those of the store. There is no new backup then, and what was
/// stored of it is deleted by the next attempt, or by the next deletion of old backups.
pub fn merge(
    store: Arc<dyn ObjectStore>,
    request: MergeRequest,
    progress: Arc<Progress>,
    notices: Notices,
    cancel: CancellationToken,
) -> Work<'static, Result<String>> {
    Box::pin(async move {
        let prepared = or_cancelled(&cancel, prepare(&*store, &request, &notices)).await?;
        let Prepared { chain, name, cluster, parts } = prepared;
        let begun = Begun {
            hostname: hostname(),
            data_directory: chain.tip().sentinel.data_dir.clone().unwrap_or_default(),
            started_at: OffsetDateTime::now_utc(),
            ended_at: None,
            process: this_process(),
        };
        progress.bytes_total.store(chain.bytes(), Ordering::Relaxed);
        progress.set_phase(Phase::Uploading);
        notices.log(format!("merging base backup \"{}\" into \"{name}\"", chain.tip().name));
        let draft =
            Draft::new(store, name, begun, request.compression, progress, cancel.child_token());
        let mut merge = Merge {
            draft,
            parts: Arc::new(parts),
            concurrency: request.concurrency,
            partitions: 0,
        };
        merge.draft.say_begun().await?;
        let merged = merge.run(chain, cluster).await;
        if merged.is_err() {
            merge.draft.say_ended().await;
        }
        merged.map(|()| merge.draft.name)
    })
}

/// What is known before anything is stored.
struct Prepared {
    chain: Chain,
    /// The new backup's.
    name: String,
    cluster: ClusterFacts,
    parts: Parts,
}

async fn prepare(
    store: &dyn ObjectStore,
    request: &MergeRequest,
    notices: &Notices,
) -> Result<Prepared> {
    cold::refuse(store, &request.name, &Default::default()).await?;
    let tip = StoredBackup::find(store, &request.name).await?;
    if tip.sentinel.delta_from.is_none() {
        return Err(Error::new(
            ErrorKind::Config,
            format!("base backup \"{}\" is a full one: there is nothing to merge", tip.name),
        )
        .with_hint(format!("Name an incremental one; {} shows them.", Word::BackupList)));
    }
    let Some(cluster) = cluster_facts(&tip) else { return Err(not_ours(&tip.name)) };
    let Some(manifest) = Manifest::find(store, &tip.name, notices).await? else {
        return Err(not_ours(&tip.name));
    };
    let name = layout::full_name(&tip.name).to_owned();
    name::refuse_taken(store, &name).await?;
    refuse_older(store, &tip.name).await?;
    check_owner(store, &cluster, &tip).await?;
    let listed = tar::listed(&tip.files)?;
    let chain = Chain::of(store, tip).await?;
    if let Some((backup, damage)) = found_damaged(store, &chain).await? {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!("the last verification of \"{backup}\" found that {damage}"),
        )
        .with_hint(format!(
            "Find out what happened to it. Then verify it again, or take a full base backup with {}.",
            Word::TakeBackup
        )));
    }
    let marks = owner::read_encryption_marks(store).await?;
    owner::agree_on_encryption(store, marks).await?;
    name::make_free(store, &name).await?;
    let spool = Spool::new(&request.temporary_directory)?;
    let parts = Parts::new(listed, manifest, chain.file_bytes(), spool);
    Ok(Prepared { chain, name, cluster, parts })
}

/// `None` for a sentinel that wal_e did not write.
fn cluster_facts(tip: &StoredBackup) -> Option<ClusterFacts> {
    let Sentinel { lsn, finish_lsn, pg_version, system_identifier, .. } = tip.sentinel;
    let timeline = layout::timeline_of_backup(&tip.name)?;
    let wal = WalRange { timeline, start_lsn: lsn?, end_lsn: finish_lsn? };
    Some(ClusterFacts { pg_version: pg_version?, system_identifier: system_identifier?, wal })
}

fn not_ours(name: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        format!(
            "base backup \"{name}\" has no backup manifest that can be read: it cannot be merged"
        ),
    )
    .with_detail("Incremental backups of wal_e have one; those of WAL-G have none.")
    .with_hint(format!("Take a full base backup with {} instead.", Word::TakeBackup))
}

/// Makes sure that the prefix is not another cluster's, and that it does not become an empty
/// directory below which nothing is mounted.
async fn check_owner(
    store: &dyn ObjectStore,
    cluster: &ClusterFacts,
    tip: &StoredBackup,
) -> Result<()> {
    let Sentinel { hostname, data_dir, .. } = tip.sentinel.clone();
    let claimant = Claimant {
        hostname: hostname.unwrap_or_default(),
        ..Claimant::on_this_host(cluster.system_identifier, data_dir.unwrap_or_default())
    };
    let owner = owner::inspect(store, &claimant).await.map_err(|error| match error.kind() {
        ErrorKind::Conflict => error.with_hint(
            "Find out how base backups of two clusters have come there, and give each a prefix of its own.",
        ),
        _ => error,
    })?;
    match owner {
        Some(_) => {
            store.require(&layout::owner());
            Ok(())
        }
        None => Err(Error::new(
            ErrorKind::Config,
            format!("object \"{}\" is not there", store.url(layout::owner().as_str())),
        )
        .with_detail("It says whose the prefix is. The archive has lost it, or was copied without it.")
        .with_hint("Bring it back from where the archive was; or let the server claim the prefix: it does when it archives or takes a base backup.")),
    }
}

/// Whoever asks for `LATEST` gets the backup that was stored last, so that what is made of an older
/// one would come before a newer one.
async fn refuse_older(store: &dyn ObjectStore, name: &str) -> Result<()> {
    match sentinels(store).await?.pop() {
        Some(latest) if latest.name != name => Err(Error::new(
            ErrorKind::Config,
            format!("base backup \"{name}\" is not the latest one, which is \"{}\"", latest.name),
        )
        .with_detail("What is made of it would be stored last, and be taken for the latest.")
        .with_hint("Take an incremental base backup, and merge that.")),
        _ => Ok(()),
    }
}

/// After all tars of a backup: its files are in the new one.
fn all_came(level: &Level) -> Result<()> {
    match level.selection.missing() {
        None => Ok(()),
        Some((number, first)) => Err(lacks(&level.backup.name, number, first)),
    }
}

fn lacks(backup: &str, number: usize, first: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("base backup \"{backup}\" lacks {number} of its files; the first is \"{first}\""),
    )
    .with_hint(format!("Take a full base backup with {}.", Word::TakeBackup))
}

/// A merge that has begun.
struct Merge {
    draft: Draft,
    parts: Arc<Parts>,
    concurrency: usize,
    /// Tar partitions of the new backup so far.
    partitions: u32,
}

impl Merge {
    async fn run(&mut self, chain: Chain, cluster: ClusterFacts) -> Result<()> {
        let tip = chain.tip().name.clone();
        let sentinel = chain.tip().sentinel.clone();
        let levels: Vec<Arc<Level>> = chain.into_levels().into_iter().rev().map(Arc::new).collect();
        for level in &levels {
            self.merge_level(level).await?;
        }
        self.copy_small_tars(&levels[0]).await?;
        for level in &levels {
            all_came(level)?;
        }
        self.draft.progress.set_phase(Phase::Finishing);
        let sentinel = Sentinel {
            lsn: sentinel.lsn,
            finish_lsn: sentinel.finish_lsn,
            pg_version: sentinel.pg_version,
            system_identifier: sentinel.system_identifier,
            uncompressed_size: Some(self.draft.member_bytes),
            spec: sentinel.spec,
            start_time: sentinel.start_time,
            finish_time: sentinel.finish_time,
            hostname: sentinel.hostname,
            data_dir: sentinel.data_dir,
            wal_directory: sentinel.wal_directory,
            merged_from: Some(tip.clone()),
            ..self.draft.sentinel()
        };
        self.draft.push_documents(&sentinel, cluster).await?;
        self.prove_listed(&tip).await?;
        self.draft.push_sentinel(&sentinel).await
    }

    /// The partitions of one backup, several at once.
    async fn merge_level(&mut self, level: &Arc<Level>) -> Result<()> {
        let cancel = self.draft.cancel.child_token();
        let mut jobs = Vec::new();
        for (index, tar) in level.tars().iter().enumerate() {
            // Directories are in the first one.
            let has_directories = level.selection.is_tip() && index == 0;
            let output = match has_directories || level.may_have_whole_files(tar) {
                true => {
                    self.partitions += 1;
                    Output::Partition(self.partitions)
                }
                false => Output::None,
            };
            jobs.push(self.job(level, tar.clone(), output, &cancel).run());
        }
        self.draft.progress.partitions_total.store(u64::from(self.partitions), Ordering::Relaxed);
        let take = |tar| {
            if let Some(tar) = tar {
                self.draft.progress.partitions_done.fetch_add(1, Ordering::Relaxed);
                self.draft.record(tar);
            }
        };
        in_slots("merging a tar", self.concurrency, &cancel, jobs, take).await
    }

    /// Control file and label.
    async fn copy_small_tars(&mut self, tip: &Arc<Level>) -> Result<()> {
        let backup = &tip.backup;
        let small = [
            (&backup.control, Output::Control, CONTROL_FILE),
            (&backup.label, Output::Label, BACKUP_LABEL),
        ];
        for (tar, output, path) in small {
            if let Some(tar) = tar {
                let job = self.job(tip, tar.clone(), output, &self.draft.cancel.clone());
                if let Some(tar) = job.run().await? {
                    self.draft.record(tar);
                }
            }
            // A list of files may lack it.
            if !self.draft.manifest.iter().any(|file| file.path == path.as_bytes()) {
                return Err(lacks(&backup.name, 1, path));
            }
        }
        Ok(())
    }

    /// Of one that was deleted meanwhile, the WAL that the new backup needs may have gone, too.
    async fn prove_listed(&self, tip: &str) -> Result<()> {
        match self.draft.store.head(&layout::sentinel(tip)).await? {
            Some(_) => Ok(()),
            None => Err(Error::new(
                ErrorKind::Conflict,
                format!("base backup \"{tip}\" was deleted while it was merged"),
            )
            .with_detail("The WAL that the new one needs may be deleted with it.")),
        }
    }
}

#[cfg(test)]
mod tests;
