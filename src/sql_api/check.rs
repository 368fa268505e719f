//! `wale_check()`.

use std::time::{Duration, SystemTime};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use time::OffsetDateTime;
use wal_e_core::archiving::Way;
use wal_e_core::base_backup::{self, Cluster};
use wal_e_core::check::{self, Check};

use super::extension_version;
use crate::archiver_stats;
use crate::error::{Failure, Result, in_words};
use crate::gucs;
use crate::jobs::backup::backup_start;
use crate::pg::text::Text;
use crate::pg::{server, shared_memory};

/// An archiver that works takes a file within seconds.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Everything that can be wrong with a set-up, each with the way to fix it.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn wale_check() -> Result<
    TableIterator<
        'static,
        (
            name!(check_name, &'static str),
            name!(ok, Option<bool>),
            name!(detail, Text),
            name!(hint, Option<Text>),
        ),
    >,
    ErrorReport,
> {
    Ok(TableIterator::new(checks()?.into_iter().map(|row| {
        (row.name, row.ok, Text(in_words(&row.detail)), row.hint.as_deref().map(in_words).map(Text))
    })))
}

/// What `wale_check()` returns.
pub(super) fn checks() -> Result<Vec<Check>> {
    let mut rows = vec![preload(), extension_version::check()?];
    rows.extend([archive_mode(), archive_library(), wal_level()]);
    rows.extend(prefix()?);
    rows.push(data_directory()?);
    rows.extend(incremental()?);
    rows.extend([variables(), compression(), archiver(), lag()]);
    Ok(rows)
}

fn preload() -> Check {
    const NAME: &str = "preload";
    match shared_memory::is_available() {
        true => Check::passed(NAME, "wal_e was loaded when the server started"),
        false => Check::failed(
            NAME,
            "wal_e was not loaded when the server started: no base backups by wale_backup_push(), and no statistics",
            "Add wal_e to \"shared_preload_libraries\" and restart the server.",
        ),
    }
}

fn archive_mode() -> Check {
    const NAME: &str = "archive_mode";
    match server::setting(c"archive_mode").as_str() {
        "off" => Check::failed(
            NAME,
            "\"archive_mode\" is off",
            "Set \"archive_mode\" to on and restart the server.",
        ),
        "on" if server::in_recovery() => Check::passed(
            NAME,
            "on; this standby archives once it is promoted (with \"always\" it would do so now)",
        ),
        mode => Check::passed(NAME, mode),
    }
}

fn archive_library() -> Check {
    const NAME: &str = "archive_library";
    let library = server::setting(c"archive_library");
    let command = server::setting(c"archive_command");
    let set_library = "Set \"archive_command\" to '' and \"archive_library\" to wal_e, and reload the configuration.";
    match Way::of(&library, &command) {
        Way::Extension if ["", "(disabled)"].contains(&command.as_str()) => {
            Check::passed(NAME, library)
        }
        Way::Extension => Check::failed(
            NAME,
            "\"archive_command\" is set as well as \"archive_library\", which PostgreSQL 16 and later refuse",
            "Set \"archive_command\" to '' and reload the configuration.",
        ),
        Way::Program => Check::passed(
            NAME,
            "not set; \"archive_command\" runs the program wal-e, of which there are no statistics",
        ),
        Way::Nothing => Check::failed(
            NAME,
            "neither \"archive_library\" nor \"archive_command\" is set",
            "Set \"archive_library\" to wal_e and reload the configuration.",
        ),
        Way::OtherCommand(_) => {
            Check::failed(NAME, "\"archive_command\" archives in another way", set_library)
        }
        Way::UnknownCommand(_) => Check::failed(
            NAME,
            "\"archive_command\" archives in a way that is not known: a base backup finds out whether it is to this prefix",
            set_library,
        ),
        Way::OtherLibrary(other) => Check::failed(
            NAME,
            format!("WAL is archived by another library, \"{other}\""),
            "Set \"archive_library\" to wal_e and reload the configuration.",
        ),
    }
}

fn wal_level() -> Check {
    const NAME: &str = "wal_level";
    match server::setting(c"wal_level").as_str() {
        "minimal" => Check::failed(
            NAME,
            "\"wal_level\" is minimal: its WAL cannot be used for recovery from a base backup",
            "Set \"wal_level\" to replica and restart the server.",
        ),
        level => Check::passed(NAME, level),
    }
}

fn variables() -> Check {
    const NAME: &str = "variables";
    let misfits = gucs::misfits();
    match misfits.as_slice() {
        [] => Check::passed(NAME, "every variable that matters is understood"),
        misfits => {
            let join = |parts: Vec<&str>, between| parts.join(between);
            Check::failed(
                NAME,
                join(misfits.iter().map(|misfit| misfit.message.as_str()).collect(), "; "),
                join(misfits.iter().map(|misfit| misfit.hint.as_str()).collect(), " "),
            )
        }
    }
}

fn compression() -> Check {
    const NAME: &str = "compression";
    match gucs::compression() {
        Ok(compression) => Check::passed(NAME, compression.to_string()),
        Err(error) => Check::failed(
            NAME,
            [Some(error.message()), error.detail()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(". "),
            error
                .hint()
                .unwrap_or("Set \"wal_e.compression_level\" to 0 and reload the configuration."),
        ),
    }
}

fn prefix() -> Result<Vec<Check>> {
    let config = match gucs::store_config() {
        Ok(config) => config,
        Err(error) => return Ok(check::without_prefix(&error)),
    };
    let claimant = server::claimant();
    super::run(|notices| async move { Ok(check::prefix(&config, &claimant, notices).await) })
}

/// Whether a base backup could read all that belongs into it.
fn data_directory() -> Result<Check> {
    let exclude = match gucs::backup_exclude() {
        Ok(exclude) => exclude,
        Err(error) => return Ok(Check::of_error("data_directory", &error, "Correct the setting.")),
    };
    let cluster = Cluster {
        data_directory: server::data_directory(),
        pg_version: server::version(),
        log_directory: Some(server::log_directory()),
        exclude,
    };
    let store = gucs::store_config().ok();
    super::run(|_| async move { Ok(base_backup::check(cluster, store.as_ref()).await) })
}

/// What an incremental base backup would be now; no row where none are wanted.
fn incremental() -> Result<Option<Check>> {
    let max_deltas = gucs::backup_max_deltas();
    let unknown = |why| (max_deltas > 0).then(|| Check::not_checked("incremental", why));
    if server::in_recovery() {
        return Ok(unknown("a standby takes no base backups"));
    }
    let (Ok(config), Some(lsn)) = (gucs::store_config(), server::wal_position()) else {
        return Ok(unknown("there is no usable prefix"));
    };
    let hostname = server::claimant().hostname;
    let start = backup_start(lsn, OffsetDateTime::now_utc(), false, hostname)?;
    super::run(|notices| async move {
        Ok(base_backup::check_incremental(config, start, max_deltas, notices).await)
    })
}

fn archiver() -> Check {
    const NAME: &str = "archiver";
    if !shared_memory::is_available() {
        return Check::not_checked(NAME, "wal_e was not loaded when the server started");
    }
    let view = archiver_stats::view();
    let text = |failure: &Failure| match &failure.detail {
        Some(detail) => format!("{}: {detail}", failure.message),
        None => failure.message.clone(),
    };
    match (view.last_failure, view.last_failed_time, view.last_archived_time) {
        (Some(failure), Some(failed), archived) if archived.is_none_or(|time| time < failed) => {
            let file = view.last_failed_file.unwrap_or_default();
            Check::failed(
                NAME,
                format!("the last attempt, with \"{file}\", failed: {}", text(&failure)),
                failure.hint.as_deref().unwrap_or("See the server log."),
            )
        }
        (_, _, Some(_)) => Check::passed(
            NAME,
            format!("\"{}\" was archived last", view.last_archived_file.unwrap_or_default()),
        ),
        _ => Check::not_checked(NAME, "wal_e has archived nothing since the server was started"),
    }
}

fn lag() -> Check {
    const NAME: &str = "lag";
    let queue = match archiver_stats::queue() {
        Ok(queue) => queue,
        Err(failure) => {
            let hint = "Find out why the server cannot read its own directory.";
            return Check::failed(NAME, failure.message, failure.hint.as_deref().unwrap_or(hint));
        }
    };
    let archived = match shared_memory::is_available() {
        true => archiver_stats::view().archived,
        false => Default::default(),
    };
    let Some(lag) = archiver_stats::lag(archived, &queue) else {
        return Check::not_checked(NAME, "this server does not archive now");
    };
    let waits =
        format!("{} files wait, {} bytes of WAL are not archived yet", queue.files, lag.bytes);
    let oldest = queue.oldest_segment.and_then(|oldest| Some((oldest.name, oldest.since?)));
    match oldest
        .map(|(name, since)| (name, SystemTime::now().duration_since(since).unwrap_or_default()))
    {
        Some((name, waited)) if waited > LONGEST_WAIT => Check::failed(
            NAME,
            format!("{waits}; \"{name}\" has waited for {} s", waited.as_secs()),
            "If the archiver fails, fix that first. If it does not, it is too slow for this server: see bytes_per_second of wale_stat_archiver.",
        ),
        _ => Check::passed(NAME, waits),
    }
}
