//! The directory of a store: how objects become files in it, durably.

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::facts::{is_missing, object_info};
use super::naming::{KnownNaming, sync_directory};
use super::temporary::{self, TemporaryFile};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::notice::{Level, Notices};
use crate::store::{Ability, ObjectInfo, PutMode, PutOutcome};

/// The directory of a store, shared with the work on blocking threads.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) path: PathBuf,
    /// Device and inode of the directories whose own names are known to be durable.
    durable: Mutex<HashSet<(u64, u64)>>,
    /// Counts the pieces that were written.
    pub(super) activity: AtomicU64,
    /// Without this object nothing is stored.
    pub(super) required: OnceLock<ObjectKey>,
    /// How new objects get their names.
    pub(super) naming: KnownNaming,
    /// Whether a directory was met whose names the file system cannot make durable.
    forgets_names: AtomicBool,
    notices: Notices,
}

impl Root {
    /// The directory at `path`, which must exist.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it does not exist or is not a directory.
    pub(super) fn open(path: &Path, notices: Notices) -> Result<Self> {
        let root = Root {
            path: path.to_owned(),
            durable: Mutex::default(),
            activity: AtomicU64::new(0),
            required: OnceLock::new(),
            naming: KnownNaming::default(),
            forgets_names: AtomicBool::new(false),
            notices,
        };
        root.check()?;
        Ok(root)
    }

    /// Whether the directory is there.
    pub(super) fn check(&self) -> Result<()> {
        let directory = self.path.display();
        let missing = |message: String| {
            Error::new(ErrorKind::Config, message).with_hint(format!(
                "Create the directory, owned by the user that archives, for example with \
                 \"install -d -m 700 -o postgres {directory}\", or mount the disk it is on."
            ))
        };
        match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(missing(format!("prefix \"file://{directory}\" is not a directory"))),
            Err(error) if is_missing(&error) => {
                Err(missing(format!("directory \"{directory}\" does not exist")))
            }
            Err(error) => Err(Error::file("open directory", &self.path, &error)),
        }
    }

    /// Whether this is still the directory that was meant. One whose disk is not
    /// mounted any more is there, and empty.
    fn check_required(&self) -> Result<()> {
        self.check()?;
        let Some(key) = self.required.get() else { return Ok(()) };
        match std::fs::metadata(self.file(key)) {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Err(Error::new(
                ErrorKind::Config,
                format!("object \"{}\" has gone, and nothing is stored without it", self.url(key.as_str())),
            )
            .with_detail("It was there when the prefix was opened. The mount point of a disk that is not mounted looks like that.")
            .with_hint("Mount the disk, or bring back what was below the prefix.")),
            Err(error) => Err(self.refused("look for", key, &self.file(key), &error)),
        }
    }

    pub(super) fn url(&self, key: &str) -> String {
        format!("file://{}/{key}", self.path.display())
    }

    /// The file of an object.
    pub(super) fn file(&self, key: &ObjectKey) -> PathBuf {
        self.path.join(key.as_str())
    }

    /// The directory of an object's file.
    pub(super) fn directory(&self, key: &ObjectKey) -> PathBuf {
        match key.as_str().rsplit_once('/') {
            Some((directory, _)) => self.path.join(directory),
            None => self.path.clone(),
        }
    }

    /// Makes the directory of an object with all above it but the root, and
    /// makes their names durable. The first time it also clears the directory
    /// of what killed uploads left there.
    fn prepare_directory(&self, key: &ObjectKey) -> Result<PathBuf> {
        self.check_required()?;
        let target = self.directory(key);
        let mut made = false;
        let mut chain = vec![self.path.clone()];
        let components = key.as_str().split('/');
        let count = components.clone().count();
        for component in components.take(count - 1) {
            let directory = chain.last().expect("begins with the root").join(component);
            chain.push(directory);
        }
        for directory in &chain[1..] {
            match DirBuilder::new().mode(0o700).create(directory) {
                Ok(()) => made = true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.refused("put", key, directory, &error)),
            }
        }
        let identity = std::fs::metadata(&target)
            .map(|metadata| (metadata.dev(), metadata.ino()))
            .map_err(|error| self.refused("put", key, &target, &error))?;
        if made || !self.durable().contains(&identity) {
            // Another process may have made them and not yet synced: a name is
            // durable only once its directory is.
            for directory in &chain {
                self.sync_names(directory)
                    .map_err(|error| self.refused("put", key, directory, &error))?;
            }
            temporary::remove_older_than(&target, temporary::STALE_AFTER);
            self.durable().insert(identity);
        }
        Ok(target)
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, HashSet<(u64, u64)>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error for `could not VERB object`, caused by `path`.
    pub(super) fn refused(
        &self,
        verb: &str,
        key: &ObjectKey,
        path: &Path,
        source: &io::Error,
    ) -> Error {
        let message = format!("could not {verb} object \"{}\"", self.url(key.as_str()));
        let error = Error::io(&message, source);
        let place = self.path.display();
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem => {
                Error::new(ErrorKind::Denied, error.message()).with_hint(format!(
                    "The file system of \"{place}\" is mounted read-only. Mount it writable; the kernel's log says whether an error of the disk has made it so."
                ))
            }
            io::ErrorKind::StaleNetworkFileHandle => {
                Error::new(ErrorKind::Unavailable, error.message()).with_hint(format!(
                    "The server of \"{place}\" no longer knows the directory. Mount the file system again."
                ))
            }
            io::ErrorKind::QuotaExceeded => {
                error.with_hint(format!("Free space below \"{place}\", or have the quota raised."))
            }
            io::ErrorKind::PermissionDenied => Error::new(
                ErrorKind::Denied,
                error.message(),
            )
            .with_detail(format!("The operating system refused \"{}\".", path.display()))
            .with_hint(format!(
                "The directory \"{place}\" and all below it must be readable and writable for the user that runs this process."
            )),
            _ if error.kind() == ErrorKind::DiskFull => {
                error.with_hint(format!("Free space on the disk of \"{place}\"."))
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                error.with_detail(format!("The file is \"{}\".", path.display()))
            }
            // The store failed, not the file that was to go there: a disk or a
            // server of files may work again.
            _ => Error::new(ErrorKind::Unavailable, error.message())
                .with_detail(format!("The file is \"{}\".", path.display())),
        }
    }

    pub(super) fn write_object(
        &self,
        key: &ObjectKey,
        body: &[u8],
        mode: PutMode,
    ) -> Result<PutOutcome> {
        let directory = self.prepare_directory(key)?;
        if mode == PutMode::CreateOnly && self.file(key).is_file() {
            // Only saves the writing: the link below is what decides.
            self.make_durable(key, &directory)?;
            return Ok(PutOutcome::AlreadyExists);
        }
        let temporary = self.create_temporary_in(key, &directory)?;
        self.write(&temporary, key, 0, body)?;
        self.publish(&temporary, key, mode)
    }

    /// Writes a part of an object that is being made.
    pub(super) fn write(
        &self,
        temporary: &TemporaryFile,
        key: &ObjectKey,
        offset: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let written = temporary.write_at(&self.activity, offset, bytes);
        written.map_err(|error| self.refused("put", key, temporary.path(), &error))
    }

    /// Makes a file the object: durable first, then visible, then durably visible.
    pub(super) fn publish(
        &self,
        temporary: &TemporaryFile,
        key: &ObjectKey,
        mode: PutMode,
    ) -> Result<PutOutcome> {
        let refused = |path: &Path, error: &io::Error| self.refused("put", key, path, error);
        temporary.sync().map_err(|error| refused(temporary.path(), &error))?;
        let target = self.file(key);
        let outcome = temporary.publish(&target, mode, &self.naming);
        let outcome = outcome.map_err(|error| refused(&target, &error))?;
        self.make_durable(key, &self.directory(key))?;
        Ok(outcome)
    }

    pub(super) fn create_temporary(&self, key: &ObjectKey) -> Result<TemporaryFile> {
        let directory = self.prepare_directory(key)?;
        self.create_temporary_in(key, &directory)
    }

    fn create_temporary_in(&self, key: &ObjectKey, directory: &Path) -> Result<TemporaryFile> {
        TemporaryFile::create(directory)
            .map_err(|error| self.refused("put", key, directory, &error))
    }

    /// Makes the names in an object's directory durable. This matters also when
    /// the object was there before: the process that made it may have been killed before
    /// its name was durable, and our caller will rely on it. For the same reason
    /// what is required is looked for again: the disk may have gone since.
    pub(super) fn make_durable(&self, key: &ObjectKey, directory: &Path) -> Result<()> {
        self.sync_names(directory).map_err(|error| self.refused("put", key, directory, &error))?;
        self.check_required()
    }

    /// Makes the names in a directory durable, as far as the file system can.
    fn sync_names(&self, directory: &Path) -> io::Result<()> {
        let is_durable = sync_directory(directory)?;
        if !is_durable && !self.forgets_names.swap(true, Ordering::Relaxed) {
            self.notices.send(
                Level::Warning,
                format!("the file system of \"{}\" cannot sync directories", self.path.display()),
                Some("A crash of the machine that has the disk can lose objects that were stored just before. Use a file system that can sync directories, if that matters.".to_owned()),
            );
        }
        Ok(())
    }

    /// What the file system can do: found out with an empty file.
    pub(super) fn abilities(&self) -> Result<Vec<Ability>> {
        let failed = |error: io::Error| Error::file("try the file system of", &self.path, &error);
        let from = TemporaryFile::create(&self.path).map_err(failed)?;
        let to = TemporaryFile::create(&self.path).map_err(failed)?;
        // Both have names that listings leave out, and lose them here.
        std::fs::remove_file(to.path()).map_err(failed)?;
        let published = from.publish(to.path(), PutMode::CreateOnly, &self.naming);
        let (PutOutcome::Stored | PutOutcome::AlreadyExists) = published.map_err(failed)?;
        self.sync_names(&self.path).map_err(failed)?;
        let naming = self.naming.get();
        let (mut ok, mut hint) = (Some(true), None);
        let mut found = format!("new objects get their names by {naming}");
        if self.forgets_names.load(Ordering::Relaxed) {
            found += "; the file system cannot sync directories, so a crash of its machine can lose the last objects";
            (ok, hint) =
                (None, Some("Use a file system that can sync directories, if that matters."));
        }
        if !naming.is_atomic() {
            ok = Some(false);
            hint = Some(
                "Let only one server write to this prefix, or use a file system that has hard links.",
            );
        }
        Ok(vec![Ability { name: "create_only", ok, detail: found, hint: hint.map(str::to_owned) }])
    }

    /// Whether of several writers exactly one creates an object.
    pub(super) fn create_only_is_atomic(&self) -> Result<bool> {
        self.abilities()?;
        Ok(self.naming.get().is_atomic())
    }

    /// An object's file; `None` when it, or the root, is not there.
    pub(super) fn examine(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>> {
        let path = self.file(key);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file().then(|| object_info(key.clone(), &metadata))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.refused("look for", key, &path, &error)),
        }
    }

    /// Opens an object's file.
    pub(super) fn open_object(
        &self,
        key: &ObjectKey,
        if_match: Option<&str>,
    ) -> Result<(File, ObjectInfo)> {
        let path = self.file(key);
        let not_found = || {
            Error::new(
                ErrorKind::NotFound,
                format!("object \"{}\" does not exist", self.url(key.as_str())),
            )
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if is_missing(&error) => {
                self.check()?;
                return Err(not_found());
            }
            Err(error) => return Err(self.refused("get", key, &path, &error)),
        };
        let metadata = file.metadata().map_err(|error| self.refused("get", key, &path, &error))?;
        if !metadata.is_file() {
            return Err(not_found());
        }
        let info = object_info(key.clone(), &metadata);
        if if_match.is_some() && if_match != info.etag.as_deref() {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("object \"{}\" has changed", self.url(key.as_str())),
            ));
        }
        Ok((file, info))
    }
}
