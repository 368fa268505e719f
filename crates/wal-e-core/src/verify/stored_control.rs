//! The control file of a stored base backup.

use tokio_util::sync::CancellationToken;

use super::tar_content::{Expected, TarContent};
use crate::archived::ArchivedObject;
use crate::catalogue::stored_backup::StoredBackup;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::ControlFile;
use crate::postgres::data_directory::CONTROL_FILE;
use crate::store::ObjectStore;
use crate::tasks::blocking;

/// Reads the control file that a backup has in a tar of its own.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it has none, or that is damaged, and those of the store.
pub(crate) async fn stored_control(
    store: &dyn ObjectStore,
    backup: &StoredBackup,
    cancel: &CancellationToken,
) -> Result<ControlFile> {
    let missing = || Error::new(ErrorKind::Corrupt, format!("it has no file \"{CONTROL_FILE}\""));
    let tar = backup.control.as_ref().ok_or_else(missing)?;
    let object = ArchivedObject::open_until(store, &tar.object.key, tar.encoding, cancel).await?;
    let read = move || TarContent::read(object, &Expected::of_small_tar());
    let content = blocking("reading a tar", read).await?;
    let kept = content.kept.into_iter().find(|(path, _)| path == CONTROL_FILE);
    let (_, bytes) = kept.ok_or_else(missing)?;
    ControlFile::parse(&bytes)
}
