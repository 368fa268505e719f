//! Which base backups a prefix holds.

use super::backup_info::{
    BackupInfo, BackupKind, StoredSentinel, describe, describe_all, named, sentinels, stored_order,
};
use super::cold;
use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::Notices;
use crate::store::ObjectStore;

/// All base backups whose sentinel can be read, oldest first, for a restore of `wanted`: a
/// name, `LATEST` or `AUTO`. One that cannot be read is said to be so, and does not keep
/// another from being restored.
///
/// # Errors
/// Those of the store, and why the one that is wanted cannot be read: an older one is
/// never taken instead of `LATEST`.
pub(crate) async fn list_sound(
    store: &dyn ObjectStore,
    wanted: &str,
    notices: &Notices,
) -> Result<Vec<BackupInfo>> {
    let (unreadable, sound): (Vec<_>, Vec<_>) = describe_all(store)
        .await?
        .into_iter()
        .partition(|backup| backup.kind() == BackupKind::Damaged);
    let latest = unreadable.last().filter(|damaged| {
        sound.last().is_none_or(|sound| stored_order(sound) < stored_order(damaged))
    });
    for backup in unreadable.iter() {
        let Some(error) = &backup.unreadable else { continue };
        let is_latest = latest.is_some_and(|latest| latest.name == backup.name);
        if wanted == backup.name || (wanted == "LATEST" && is_latest) {
            if error.kind() == ErrorKind::Config {
                cold::refuse(store, &backup.name, &Default::default()).await?;
            }
            return Err(refusal(backup, error, is_latest, sound.last()));
        }
        notices.warning(format!("base backup \"{}\" is left out: {error}", backup.name));
    }
    Ok(sound)
}

/// Why the backup `name`, whose sentinel could not be read because of `error`, cannot be
/// restored, and which one can.
pub(crate) async fn refusal_of(store: &dyn ObjectStore, name: &str, error: Error) -> Error {
    let Ok(backups) = describe_all(store).await else { return error };
    let Some(backup) = backups.iter().find(|backup| backup.name == name) else { return error };
    let is_latest = backups.last().is_some_and(|latest| latest.name == name);
    let newest = backups.iter().rev().find(|backup| backup.unreadable.is_none());
    refusal(backup, &error, is_latest, newest)
}

/// Why a backup that is wanted cannot be restored; `newest` is the newest one that can be
/// read.
fn refusal(
    backup: &BackupInfo,
    error: &Error,
    is_latest: bool,
    newest: Option<&BackupInfo>,
) -> Error {
    let what = if is_latest { "the latest base backup" } else { "base backup" };
    let refusal =
        Error::new(error.kind(), format!("{what} \"{}\" cannot be restored: {error}", backup.name));
    let refusal = match error.detail() {
        Some(detail) => refusal.with_detail(detail),
        None => refusal,
    };
    let another = newest.map(|newest| {
        format!(
            "Put a sound sentinel in its place from another copy of the archive, or restore another base backup by its name; the newest one that can be read is \"{}\".",
            newest.name
        )
    });
    let hint: Vec<&str> = error.hint().into_iter().chain(another.as_deref()).collect();
    match hint.is_empty() {
        true => refusal,
        false => refusal.with_hint(hint.join(" ")),
    }
}

/// The name of the backup that `name` asks for: itself, or with `LATEST` the one
/// whose sentinel was stored last.
///
/// # Errors
/// [`ErrorKind::NotFound`] when there is none.
pub(crate) async fn resolve(store: &dyn ObjectStore, name: &str) -> Result<String> {
    let sentinels = sentinels(store).await?;
    if let Some(found) = named(&sentinels, name) {
        return Ok(found.name.clone());
    }
    let url = store.url(&layout::base_backups());
    let error = match name {
        "LATEST" => {
            Error::new(ErrorKind::NotFound, format!("there is no base backup in \"{url}\""))
        }
        _ => Error::new(
            ErrorKind::NotFound,
            format!("there is no base backup \"{name}\" in \"{url}\""),
        ),
    };
    Err(match sentinels.last() {
        Some(latest) => error.with_hint(format!(
            "The latest base backup is \"{}\"; {} shows all.",
            latest.name,
            Word::BackupList
        )),
        None => error.with_hint(
            "Check that the prefix is the one that the cluster archives to. A base backup is listed once it is complete.",
        ),
    })
}

/// The newest base backup that says which cluster it was taken of; damaged
/// sentinels are passed over. `None` when no backup says so.
pub(crate) async fn newest_identified(
    store: &dyn ObjectStore,
    sentinels: &[StoredSentinel],
) -> Result<Option<BackupInfo>> {
    for sentinel in sentinels.iter().rev() {
        let Some(backup) = describe(store, sentinel.clone()).await? else { continue };
        match &backup.unreadable {
            None if backup.system_identifier.is_some() => return Ok(Some(backup)),
            Some(error) if error.kind() == ErrorKind::Denied => return Err(error.clone()),
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
