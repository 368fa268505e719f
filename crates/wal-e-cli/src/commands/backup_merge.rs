//! `wal-e backup-merge [NAME]`: a full base backup out of an incremental one and those that it
//! builds on.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use wal_e_core::base_backup::{self, MergeRequest, Phase, Progress};

use super::{open_limited, run_large};
use crate::cli;
use crate::interrupt::{Failure, Interrupt};
use crate::report::{Report, print_result};
use crate::settings::Settings;
use crate::table::{percentage, size};

pub fn run(
    arguments: &cli::BackupMerge,
    settings: &Settings,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let request = MergeRequest {
        name: arguments.name.clone(),
        concurrency: usize::from(arguments.pool_size),
        compression: arguments.compression.resolve(&settings.compression)?,
        temporary_directory: match &arguments.temporary_directory {
            Some(directory) => directory.clone(),
            None => std::env::temp_dir(),
        },
    };
    run_large(async {
        let interrupt = Interrupt::listen(report)?;
        let opening = open_limited(arguments.upload_rate_limit, settings, report);
        let opened = interrupt.or_cancelled(opening).await;
        let opened = opened.map_err(|error| interrupt.failure(error))?;
        let progress = Arc::new(Progress::default());
        let (counters, notices) = (Arc::clone(&progress), opened.notices.clone());
        let merge = base_backup::merge(opened.store, request, counters, notices, interrupt.token());
        let name = report.attend(&opened.queue, || describe(&progress), merge).await;
        let name = name.map_err(|error| interrupt.failure(error))?;
        report.log(&format!("base backup {name} is complete"));
        Ok(print_result(&format!("{name}\n"))?)
    })?
}

fn describe(progress: &Progress) -> Option<String> {
    let (read, total) = (progress.bytes_read.load(Relaxed), progress.bytes_total.load(Relaxed));
    match progress.phase() {
        Phase::Uploading => Some(format!(
            "merging: {} of {} read ({}), {} stored",
            size(read),
            size(total),
            percentage(read, total),
            size(progress.bytes_uploaded.load(Relaxed)),
        )),
        Phase::Finishing => Some(Phase::Finishing.as_str().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_said_once_there_is_some() {
        let progress = Progress::default();
        assert_eq!(describe(&progress), None);
        progress.set_phase(Phase::Uploading);
        progress.bytes_total.store(300 << 20, Relaxed);
        progress.bytes_read.store(75 << 20, Relaxed);
        progress.bytes_uploaded.store(50 << 20, Relaxed);
        let text = "merging: 75 MB of 300 MB read (25 %), 50 MB stored";
        assert_eq!(describe(&progress).as_deref(), Some(text));
        progress.set_phase(Phase::Finishing);
        assert_eq!(describe(&progress).as_deref(), Some("writing metadata"));
    }
}
