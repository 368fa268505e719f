//! One tar of a backup onto disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::damage::DamagedObject;
use super::restore::{Restore, UNPACKING};
use crate::archived::ArchivedObject;
use crate::catalogue::stored_backup::Tar;
use crate::error::Result;
use crate::restore::chain::Level;
use crate::restore::unpack::{Broken, Purpose, Unpacked, onto_disk};
use crate::tasks::blocking;

impl Restore {
    /// Unpacks a tar. `None` when the object cannot be used: it is noted, and nothing of
    /// it is on disk.
    ///
    /// # Errors
    /// Those that are not of this object alone.
    pub(super) async fn fetch_tar(
        &self,
        level: &Arc<Level>,
        tar: &Tar,
        purpose: Purpose,
    ) -> Result<Option<Unpacked>> {
        let mut broken = match self.read_tar(level, tar, purpose).await {
            Ok(unpacked) => return Ok(Some(self.report_skipped(tar, unpacked))),
            Err(broken) => broken,
        };
        if broken.error.is_damage() {
            // A bit may have flipped on the way, or the object was just being replaced.
            let object = self.damaged(tar, &broken);
            self.notices.log(format!("{}; it is read once more", object.line()));
            broken = match self.read_tar(level, tar, purpose).await {
                Ok(unpacked) => return Ok(Some(self.report_skipped(tar, unpacked))),
                Err(broken) => broken,
            };
        }
        if !broken.error.is_of_one_object() {
            return Err(broken.error);
        }
        let object = self.damaged(tar, &broken);
        self.notices
            .warning(format!("{}; the restore continues with the other objects", object.line()));
        self.progress.damage.add(object);
        Ok(None)
    }

    fn url(&self, tar: &Tar) -> String {
        self.store.url(tar.object.key.as_str())
    }

    fn damaged(&self, tar: &Tar, broken: &Broken) -> DamagedObject {
        DamagedObject::new(self.url(tar), broken.member.clone(), &broken.error)
    }

    /// Reads a tar from its beginning to its end.
    async fn read_tar(
        &self,
        level: &Arc<Level>,
        tar: &Tar,
        purpose: Purpose,
    ) -> Result<Unpacked, Broken> {
        let come = Arc::new(AtomicU64::new(0));
        let (progress, counter) = (Arc::clone(&self.progress), Arc::clone(&come));
        let (store, key) = (&self.store, &tar.object.key);
        let object = ArchivedObject::open_large(store, key, tar.encoding, &self.cancel).await;
        let object = object.map_err(Broken::outside)?.counted(move |bytes| {
            progress.bytes_fetched.fetch_add(bytes, Ordering::Relaxed);
            counter.fetch_add(bytes, Ordering::Relaxed);
        });
        let is_control = level.backup.control.as_ref().is_some_and(|own| own.object == tar.object);
        let (sink, level) = (Arc::clone(&self.sink), Arc::clone(level));
        let unpacking = blocking(UNPACKING, move || {
            Ok(onto_disk(object, &sink, &level.selection, is_control, purpose))
        });
        let unpacked = unpacking.await.map_err(Broken::outside)?;
        if unpacked.is_err() {
            self.progress.bytes_fetched.fetch_sub(come.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        unpacked
    }

    /// Reports what was skipped.
    fn report_skipped(&self, tar: &Tar, unpacked: Unpacked) -> Unpacked {
        let url = self.url(tar);
        if unpacked.links > 0 {
            self.notices.warning(format!(
                "skipped {} symbolic links in object \"{url}\": WAL-G does not store where they lead",
                unpacked.links
            ));
        }
        if let Some(fifo) = &unpacked.fifo {
            self.notices.warning(format!(
                "skipped named pipes in object \"{url}\"; the first is \"{}\"",
                fifo.display()
            ));
        }
        unpacked
    }
}
