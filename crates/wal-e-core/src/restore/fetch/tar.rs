//! One tar of a backup onto disk.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::damage::DamagedObject;
use super::restore::{Restore, UNPACKING};
use crate::catalogue::stored_backup::Tar;
use crate::error::{Error, ErrorKind, Result};
use crate::restore::chain::Level;
use crate::restore::unpack::{Broken, Purpose, Unpacked, unpack};
use crate::tasks::{blocking, or_cancelled};
use crate::transfer::{Counted, cancellable, download, download_ranges};

impl Restore {
    /// Unpacks a tar. `None` when the object cannot be used: it is noted, and nothing of
    /// it is on disk.
    ///
    /// # Errors
    /// Those that say nothing of this object alone.
    pub(super) async fn fetch_tar(
        &self,
        level: &Arc<Level>,
        tar: &Tar,
        purpose: Purpose,
    ) -> Result<Option<Unpacked>> {
        let mut broken = match self.read_tar(level, tar, purpose).await {
            Ok(unpacked) => return Ok(Some(self.told(tar, unpacked))),
            Err(broken) => broken,
        };
        if matches!(broken.error.kind(), ErrorKind::Corrupt | ErrorKind::Conflict) {
            // A bit may have flipped on the way, or the object was just being replaced.
            let object = self.damaged(tar, &broken);
            self.notices.log(format!("{}; it is asked for once more", object.line()));
            broken = match self.read_tar(level, tar, purpose).await {
                Ok(unpacked) => return Ok(Some(self.told(tar, unpacked))),
                Err(broken) => broken,
            };
        }
        if !is_of_one_object(&broken.error) {
            return Err(broken.error);
        }
        let object = self.damaged(tar, &broken);
        self.notices
            .warning(format!("{}; the restore goes on with the other objects", object.line()));
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
        let outside = |error| Broken { member: None, error };
        let come = Arc::new(AtomicU64::new(0));
        let (progress, counter) = (Arc::clone(&self.progress), Arc::clone(&come));
        let source = self.open(tar).await.map_err(outside)?;
        let reader = Counted::new(source, move |bytes| {
            progress.bytes_fetched.fetch_add(bytes, Ordering::Relaxed);
            counter.fetch_add(bytes, Ordering::Relaxed);
        });
        let is_control = level.backup.control.as_ref().is_some_and(|own| own.object == tar.object);
        let (sink, level, encoding) = (Arc::clone(&self.sink), Arc::clone(level), tar.encoding);
        let unpacking = blocking(UNPACKING, move || {
            Ok(unpack(reader, encoding, &sink, &level.selection, is_control, purpose))
        });
        let unpacked = unpacking.await.map_err(outside)?;
        if unpacked.is_err() {
            self.progress.bytes_fetched.fetch_sub(come.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        unpacked
    }

    /// The bytes of a tar.
    async fn open(&self, tar: &Tar) -> Result<Box<dyn Read + Send>> {
        let key = &tar.object.key;
        Ok(match self.store.gains_by_ranges() {
            true => {
                let store = Arc::clone(&self.store);
                Box::new(download_ranges(store, key, self.cancel.clone()).await?)
            }
            false => {
                let object = or_cancelled(&self.cancel, self.store.get(key, 0, None)).await?;
                Box::new(download(cancellable(object, self.cancel.clone())))
            }
        })
    }

    /// Says what was passed over.
    fn told(&self, tar: &Tar, unpacked: Unpacked) -> Unpacked {
        let url = self.url(tar);
        if unpacked.links > 0 {
            self.notices.warning(format!(
                "{} symbolic links in object \"{url}\" are left out: WAL-G does not store where they lead",
                unpacked.links
            ));
        }
        if let Some(fifo) = &unpacked.fifo {
            self.notices.warning(format!(
                "named pipes in object \"{url}\" are left out: the first is \"{}\"",
                fifo.display()
            ));
        }
        unpacked
    }
}

/// Whether an error tells of one object, so that the others are still of use.
fn is_of_one_object(error: &Error) -> bool {
    !error.is_transient()
        && matches!(
            error.kind(),
            ErrorKind::Corrupt
                | ErrorKind::NotFound
                | ErrorKind::Conflict
                | ErrorKind::Config
                | ErrorKind::Denied
        )
}
