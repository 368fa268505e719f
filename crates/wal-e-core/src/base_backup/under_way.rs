//! A base backup without a sentinel: whether it is still being made, and how it goes.

use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use time::{Duration, OffsetDateTime};

use super::push::killed_backups;
use crate::catalogue::read_begun;
use crate::error::Result;
use crate::layout::{self, ObjectKey};
use crate::owner::hostname;
use crate::sentinel::Begun;
use crate::store::{ListRequest, ObjectStore, list_all};

/// A backup that has stored something this lately may still be under way. One of wal_e stores
/// something every ten minutes; the others at least for each tar.
const MAY_BE_UNDER_WAY: Duration = Duration::days(1);

/// Whether the backup, whose newest object was stored at `newest`, may still be under way. It
/// is not when it said that it was given up, or was taken on this host by a process that was
/// killed.
///
/// # Errors
/// Those of the store.
pub(crate) async fn is_under_way(
    store: &dyn ObjectStore,
    backup: &str,
    newest: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<bool> {
    if newest < now.checked_sub(MAY_BE_UNDER_WAY).unwrap_or(now) {
        return Ok(false);
    }
    let Some(begun) = read_begun(store, &layout::begun(backup)).await? else { return Ok(true) };
    Ok(begun.ended_at.is_none() && !is_killed(backup, &begun))
}

/// As far as that can be seen on this host.
fn is_killed(backup: &str, begun: &Begun) -> bool {
    if begun.hostname != hostname() {
        return false;
    }
    match &begun.process {
        Some(process) => has_ended(process),
        None => killed_backups(Path::new(&begun.data_directory)).iter().any(|it| it == backup),
    }
}

/// This process among all others; `None` where the system does not say. Hosts and containers of
/// one name have processes of one number.
pub(super) fn this_process() -> Option<String> {
    Some(format!("{} {}", numbered_by()?, std::process::id()))
}

/// Who gives processes their numbers: a kernel since it was booted, in a namespace.
fn numbered_by() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// Whether it is certain that the process that wrote this of itself has ended.
fn has_ended(process: &str) -> bool {
    let Some((numbered, number)) = process.rsplit_once(' ') else { return false };
    let Ok(number) = number.parse::<u32>() else { return false };
    let Some(id) = i32::try_from(number).ok().and_then(Pid::from_raw) else { return false };
    let is_numbered_here = numbered_by().is_some_and(|here| here == numbered);
    // The number of this process was another's before.
    let runs = || number != std::process::id() && test_kill_process(id) != Err(Errno::SRCH);
    is_numbered_here && !runs()
}

/// Deletes all objects of a base backup. Returns how many there were.
///
/// # Errors
/// Those of the store: some objects may have gone, but the sentinel goes before any other.
pub(crate) async fn delete_objects(store: &dyn ObjectStore, backup: &str) -> Result<u64> {
    let prefix = layout::backup_directory(backup);
    // Uploads that a killed process had begun occupy space, too.
    store.abort_uploads(&prefix).await?;
    let objects = list_all(store, &ListRequest { prefix, ..ListRequest::default() }).await?;
    let count = objects.len() as u64;
    // That it was given up is known as long as anything else of it is there.
    let begun = layout::begun(backup);
    let keys = objects.into_iter().map(|object| object.key);
    let (last, mut keys): (Vec<ObjectKey>, Vec<ObjectKey>) = keys.partition(|key| *key == begun);
    // Should the backup have become complete meanwhile, it must not be listed without these.
    keys.push(layout::sentinel(backup));
    keys.extend([true, false].map(|sound| layout::verification(backup, sound)));
    store.delete_all(&keys).await?;
    store.delete_all(&last).await?;
    Ok(count)
}
