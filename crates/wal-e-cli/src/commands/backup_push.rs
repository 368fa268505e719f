//! `wal-e backup-push DIR`: a base backup of a running server.
//!
//! The files are read by this process and stored by the core; the server is
//! only asked to begin and to end backup mode, in one session that stays open
//! in between. Whatever goes wrong, the session ends, and backup mode with it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use time::OffsetDateTime;
use wal_e_core::archiving::{Way, refusal_of_failing};
use wal_e_core::base_backup::{
    BackupPush, BackupStart, Incremental, Origin, Phase, Progress, PushOptions, Taker,
};
use wal_e_core::codec::Compression;
use wal_e_core::owner::{self, Claimant};
use wal_e_core::postgres::archive_status::ReadyQueue;
use wal_e_core::rate_limit::RateLimit;
use wal_e_core::{Error, Result};

use super::{Opened, open_limited, run_large};
use crate::cli::{self, DeltaOrigin};
use crate::interrupt::{Failure, Interrupt};
use crate::report::{Report, print_result};
use crate::server::{Session, check_belongs_to_server};
use crate::settings::{self, Settings};
use crate::table::{percentage, size};

/// A tar partition closes before it would pass this size.
const TAR_SIZE_THRESHOLD_BYTES: u64 = 1 << 30;

pub fn run(
    arguments: &cli::BackupPush,
    settings: &Settings,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let compression = arguments.compression.resolve(&settings.compression)?;
    run_large(async {
        let interrupt = Interrupt::listen(report)?;
        let opening = open_limited(arguments.upload_rate_limit, settings, report);
        let opened = interrupt.or_cancelled(opening).await;
        let opened = opened.map_err(|error| interrupt.failure(error))?;
        let progress = Arc::new(Progress::default());
        let work = push(arguments, compression, &opened, &interrupt, &progress);
        let name = report.attend(&opened.queue, || describe(&progress), work).await;
        let name = name.map_err(|error| interrupt.failure(error))?;
        report.log(&format!("base backup {name} is complete"));
        Ok(print_result(&format!("{name}\n"))?)
    })?
}

async fn push(
    arguments: &cli::BackupPush,
    compression: Compression,
    opened: &Opened,
    interrupt: &Interrupt,
    progress: &Arc<Progress>,
) -> Result<String> {
    let environment = settings::environment();
    let connecting = Session::connect(&environment, &opened.notices);
    let session = interrupt.or_cancelled(connecting).await?;
    let pushed =
        push_in_session(arguments, compression, opened, interrupt, progress, &session).await;
    session.close().await;
    pushed
}

async fn push_in_session(
    arguments: &cli::BackupPush,
    compression: Compression,
    opened: &Opened,
    interrupt: &Interrupt,
    progress: &Arc<Progress>,
    session: &Session,
) -> Result<String> {
    let facts = interrupt.or_cancelled(session.prepare()).await?;
    let data_directory = check_belongs_to_server(&arguments.directory, &facts)?;
    let waiting = ReadyQueue::read(&data_directory.join("pg_wal"), facts.segment_size)?;
    if let Some(failing) = refusal_of_failing(facts.attempts, &waiting, SystemTime::now()) {
        return Err(failing);
    }
    let claimant =
        Claimant::on_this_host(facts.system_identifier, facts.data_directory.to_string_lossy())
            .with_segment_size(Some(facts.segment_size))
            .remembering(&data_directory);
    let claiming = owner::claim(&*opened.store, &claimant, &opened.notices);
    interrupt.or_cancelled(claiming).await?;
    let cancel = interrupt.token();
    let start_time = OffsetDateTime::now_utc();
    let started =
        session.start_backup(&arguments.label, !arguments.spread_checkpoint, &cancel).await?;
    let start = BackupStart {
        start_lsn: started.start_lsn,
        timeline: started.timeline,
        segment_size: facts.segment_size,
        data_directory,
        log_directory: facts.log_directory,
        pg_version: facts.version,
        system_identifier: facts.system_identifier,
        start_time,
        data_checksums: facts.data_checksums,
        logs_hints: facts.logs_hints,
        summarizes_wal: facts.summarizes_wal,
        server_started_at: facts.started_at.into(),
        permanent: arguments.permanent,
        hostname: claimant.hostname,
        taker: Taker::Program,
    };
    let options = PushOptions {
        concurrency: usize::from(arguments.pool_size),
        tar_size_threshold_bytes: TAR_SIZE_THRESHOLD_BYTES,
        compression,
        read_rate_limit: arguments
            .cluster_read_rate_limit
            .map(|rate| Arc::new(RateLimit::fixed(rate))),
        exclude: arguments.exclude.clone(),
        incremental: incremental(arguments),
    };
    let (store, notices) = (Arc::clone(&opened.store), opened.notices.clone());
    let begin = BackupPush::begin(store, start, options, Arc::clone(progress), notices, cancel);
    let mut backup = interrupt.or_cancelled(begin).await?;
    if matches!(facts.archives_by, Way::UnknownCommand(_)) {
        interrupt.or_cancelled(backup.refuse_other_archive()).await?;
    }
    push_files(&mut backup, session, interrupt).await?;
    let stop = session.stop_backup().await?;
    backup.finish(stop).await
}

fn incremental(arguments: &cli::BackupPush) -> Option<Incremental> {
    let origin = match arguments.delta_origin {
        DeltaOrigin::Latest => Origin::Latest,
        DeltaOrigin::LatestFull => Origin::LatestFull,
    };
    let is_wanted = arguments.delta || arguments.delta_max_steps.is_some();
    is_wanted.then_some(Incremental { origin, max_deltas: arguments.delta_max_steps })
}

/// Files that are read after the session has gone are of no use. So the core is
/// stopped, and cleans up before this returns.
async fn push_files(
    backup: &mut BackupPush,
    session: &Session,
    interrupt: &Interrupt,
) -> Result<()> {
    let mut pushing = std::pin::pin!(backup.push_files());
    let lost: Error = tokio::select! {
        pushed = &mut pushing => return pushed,
        lost = session.lost() => lost,
    };
    interrupt.give_up();
    let _ = pushing.await;
    Err(lost)
}

fn describe(progress: &Progress) -> Option<String> {
    let phase = progress.phase();
    let (read, total) = (progress.bytes_read.load(Relaxed), progress.bytes_total.load(Relaxed));
    if phase != Phase::Uploading || total == 0 {
        return Some(phase.as_str().to_owned());
    }
    let to_send = progress.share().describe(progress.bytes_to_send.load(Relaxed));
    Some(format!(
        "{}: {}{} of {} ({}), {} stored, partition {} of {}",
        phase.as_str(),
        to_send.map(|bytes| format!("{bytes}, looked at ")).unwrap_or_default(),
        size(read),
        size(total),
        percentage(read, total),
        size(progress.bytes_uploaded.load(Relaxed)),
        progress.partitions_done.load(Relaxed),
        progress.partitions_total.load(Relaxed),
    ))
}

#[cfg(test)]
mod tests {
    use wal_e_core::base_backup::Share;

    use super::*;

    #[test]
    fn progress_is_said_in_the_words_of_its_phase() {
        let progress = Progress::default();
        assert_eq!(describe(&progress).as_deref(), Some("waiting for checkpoint"));
        progress.set_phase(Phase::Uploading);
        progress.bytes_total.store(3 << 30, Relaxed);
        progress.bytes_read.store(1 << 30, Relaxed);
        progress.bytes_uploaded.store(300 << 20, Relaxed);
        progress.partitions_total.store(3, Relaxed);
        assert_eq!(
            describe(&progress).as_deref(),
            Some("uploading files: 1024 MB of 3072 MB (33 %), 300 MB stored, partition 0 of 3")
        );
        progress.set_share(Share::Known);
        progress.bytes_to_send.store(3 << 30, Relaxed);
        assert_eq!(
            describe(&progress).as_deref(),
            Some(
                "uploading files: 3072 MB to send, looked at 1024 MB of 3072 MB (33 %), 300 MB stored, partition 0 of 3"
            )
        );
    }
}
