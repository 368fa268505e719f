//! One file for each command: arguments in, core called, result out.

use std::future::Future;
use std::sync::Arc;

use wal_e_core::notice::{NoticeQueue, Notices};
use wal_e_core::rate_limit::RateLimit;
use wal_e_core::store::{self, ObjectStore, retry::Patience};
use wal_e_core::{Error, Result, notice};

use crate::cli::{Cli, Command};
use crate::interrupt::Failure;
use crate::report::Report;
use crate::settings::{Settings, environment};

mod archiving;
mod backup_fetch;
mod backup_list;
mod backup_mark;
mod backup_merge;
mod backup_push;
mod backup_verify;
mod delete;
mod generate;
mod job_history;
mod recovery_window;
mod report;
mod restore_plan;
mod version;
mod wal_fetch;
mod wal_prefetch;
mod wal_push;
mod wal_repair;
mod wal_show;
mod wal_verify;

/// Runs the command of `cli`.
pub fn run(cli: &Cli, report: &Arc<Report>) -> Result<(), Failure> {
    match &cli.command {
        Command::Version => return Ok(version::run()?),
        Command::Generate(arguments) => return Ok(generate::run(arguments)?),
        _ => {}
    }
    let settings = Settings::resolve(&cli.store, environment())?;
    // A server that recovers asks for each WAL file, and stores nothing.
    if !matches!(cli.command, Command::WalFetch(_) | Command::WalPrefetch(_)) {
        for misfit in &settings.misfits {
            report.warning(&misfit.message);
            report.hint(&misfit.hint);
        }
    }
    match &cli.command {
        Command::BackupPush(arguments) => backup_push::run(arguments, &settings, report),
        Command::BackupFetch(arguments) => backup_fetch::run(arguments, &settings, report),
        Command::BackupList(arguments) => Ok(backup_list::run(arguments, &settings, report)?),
        Command::BackupVerify(arguments) => backup_verify::run(arguments, &settings, report),
        Command::BackupMark(arguments) => backup_mark::run(arguments, &settings, report),
        Command::BackupMerge(arguments) => backup_merge::run(arguments, &settings, report),
        Command::RestorePlan(arguments) => restore_plan::run(arguments, &settings, report),
        Command::RecoveryWindow(arguments) => {
            Ok(recovery_window::run(arguments, &settings, report)?)
        }
        Command::WalShow(arguments) => Ok(wal_show::run(arguments, &settings, report)?),
        Command::WalVerify(arguments) => wal_verify::run(arguments, &settings, report),
        Command::WalRepair(arguments) => wal_repair::run(arguments, &settings, report),
        Command::JobHistory(arguments) => Ok(job_history::run(arguments, &settings, report)?),
        Command::Report(arguments) => Ok(report::run(arguments, &settings, report)?),
        Command::Delete(arguments) => delete::run(arguments, &settings, report),
        Command::WalPush(arguments) => wal_push::run(arguments, &settings, report),
        Command::WalFetch(arguments) => wal_fetch::run(arguments, &settings, report),
        Command::WalPrefetch(arguments) => Ok(wal_prefetch::run(arguments, &settings, report)?),
        Command::Version | Command::Generate(_) => unreachable!("answered above"),
    }
}

/// The store, and the queue of its notices.
pub(super) struct Opened {
    store: Arc<dyn ObjectStore>,
    notices: Notices,
    queue: NoticeQueue,
}

async fn open(settings: &Settings, report: &Report) -> Result<Opened> {
    open_with(Patience::command(), settings, None, report).await
}

/// The store for uploads of at most so many bytes a second.
async fn open_limited(
    bytes_per_second: Option<u64>,
    settings: &Settings,
    report: &Report,
) -> Result<Opened> {
    open_with(Patience::command(), settings, bytes_per_second, report).await
}

/// The store for a question, which is not asked for long when nothing answers.
async fn open_for_question(settings: &Settings, report: &Report) -> Result<Opened> {
    open_with(Patience::question(), settings, None, report).await
}

async fn open_with(
    patience: Patience,
    settings: &Settings,
    bytes_per_second: Option<u64>,
    report: &Report,
) -> Result<Opened> {
    let (notices, queue) = notice::channel();
    let limit = bytes_per_second.map(|rate| Arc::new(RateLimit::fixed(rate)));
    let opening = store::open_limited(&settings.store, patience, notices.clone(), limit);
    let store = report.attend(&queue, || None, opening).await?;
    Ok(Opened { store, notices, queue })
}

/// Runs `work` on a runtime with one thread: enough for one object.
fn run_small<T>(work: impl Future<Output = T>) -> Result<T> {
    run_on(tokio::runtime::Builder::new_current_thread(), work)
}

/// Runs `work` on a runtime with a thread for each processor.
fn run_large<T>(work: impl Future<Output = T>) -> Result<T> {
    run_on(tokio::runtime::Builder::new_multi_thread(), work)
}

fn run_on<T>(mut builder: tokio::runtime::Builder, work: impl Future<Output = T>) -> Result<T> {
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|source| Error::io("could not start threads", &source))?;
    let output = runtime.block_on(work);
    // A read that hangs (on a dead network mount) must not keep the process from ending.
    runtime.shutdown_background();
    Ok(output)
}
