//! Objects as files below a directory that exists already.
//!
//! An upload writes a temporary file beside its target, syncs it, gives it its
//! name with `link` (which cannot replace) or `rename`, and syncs the
//! directory. So an object is either whole and durable, or not there.
//!
//! The work is blocking and runs on tokio's blocking threads. Such a piece of
//! work, once begun, ends by itself also when its future is dropped.

use std::fs::{DirBuilder, File, Metadata};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;

use super::{
    Attributes, ListPage, ListRequest, MultipartUpload, ObjectBody, ObjectInfo, ObjectReader,
    ObjectStore, PutMode, PutOutcome,
};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::tasks;

mod listing;
mod temporary;
mod upload;

use temporary::TemporaryFile;
use upload::FileUpload;

/// The size of the pieces in which an object is handed out.
const CHUNK_BYTES: usize = 256 * 1024;

/// Larger than S3's: a page costs one reading of each directory it touches.
const DEFAULT_PAGE_SIZE: usize = 10_000;

/// A store whose objects are the files below one directory.
#[derive(Debug, Clone)]
pub struct FileStore {
    root: Arc<Root>,
    page_size: usize,
}

/// The directory of a store, shared with the work on blocking threads.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Device and inode of the directories whose own names are known to be durable.
    durable: Mutex<HashSet<(u64, u64)>>,
    /// Counts the pieces that were written.
    activity: AtomicU64,
    /// Without this object nothing is stored.
    required: OnceLock<ObjectKey>,
}

impl FileStore {
    /// The store of `directory`. It is never created here: the mount point of a
    /// disk that is not mounted must not be filled.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is not there or no directory.
    pub async fn open(directory: &Path) -> Result<FileStore> {
        let directory = directory.to_owned();
        blocking(move || FileStore::new(&directory)).await
    }

    /// [`FileStore::open`] where it may block.
    pub fn new(directory: &Path) -> Result<FileStore> {
        let root = Root {
            path: directory.to_owned(),
            durable: Mutex::default(),
            activity: AtomicU64::new(0),
            required: OnceLock::new(),
        };
        root.check()?;
        Ok(FileStore { root: Arc::new(root), page_size: DEFAULT_PAGE_SIZE })
    }
}

impl Root {
    /// Whether the directory is there.
    fn check(&self) -> Result<()> {
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

    fn url(&self, key: &str) -> String {
        format!("file://{}/{key}", self.path.display())
    }

    /// The file of an object.
    fn file(&self, key: &ObjectKey) -> PathBuf {
        self.path.join(key.as_str())
    }

    /// The directory of an object's file.
    fn directory(&self, key: &ObjectKey) -> PathBuf {
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
                sync_directory(directory)
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
    fn refused(&self, verb: &str, key: &ObjectKey, path: &Path, source: &io::Error) -> Error {
        let message = format!("could not {verb} object \"{}\"", self.url(key.as_str()));
        let error = Error::io(&message, source);
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::new(
                ErrorKind::Denied,
                error.message(),
            )
            .with_detail(format!("The operating system refused \"{}\".", path.display()))
            .with_hint(format!(
                "The directory \"{}\" and all below it must be readable and writable for the \
                         user that runs this process.",
                self.path.display()
            )),
            _ if error.kind() == ErrorKind::DiskFull => {
                error.with_hint(format!("Free space on the disk of \"{}\".", self.path.display()))
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

    fn write_object(&self, key: &ObjectKey, body: &[u8], mode: PutMode) -> Result<PutOutcome> {
        let directory = self.prepare_directory(key)?;
        if mode == PutMode::CreateOnly && self.file(key).is_file() {
            // Only saves the writing: the link below is what decides.
            self.make_durable(key, &directory)?;
            return Ok(PutOutcome::AlreadyExists);
        }
        let temporary = self.create_temporary_in(key, &directory)?;
        temporary.write_at(self, key, 0, body)?;
        temporary.publish(self, key, mode)
    }

    fn create_temporary(&self, key: &ObjectKey) -> Result<TemporaryFile> {
        let directory = self.prepare_directory(key)?;
        self.create_temporary_in(key, &directory)
    }

    fn create_temporary_in(&self, key: &ObjectKey, directory: &Path) -> Result<TemporaryFile> {
        TemporaryFile::create(directory)
            .map_err(|error| self.refused("put", key, directory, &error))
    }

    /// Makes the names in an object's directory durable. This matters also when
    /// the object was there before: whoever made it may have been killed before
    /// its name was durable, and our caller will rely on it. For the same reason
    /// what is required is looked for again: the disk may have gone since.
    fn make_durable(&self, key: &ObjectKey, directory: &Path) -> Result<()> {
        sync_directory(directory).map_err(|error| self.refused("put", key, directory, &error))?;
        self.check_required()
    }

    /// An object's file; `None` when it, or the root, is not there.
    fn examine(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>> {
        let path = self.file(key);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file().then(|| object_info(key.clone(), &metadata))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.refused("look for", key, &path, &error)),
        }
    }

    /// Opens an object's file.
    fn open(&self, key: &ObjectKey, if_match: Option<&str>) -> Result<(File, ObjectInfo)> {
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

/// Whether no file of that name is there; a file in the place of a directory
/// on the way means that too.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn object_info(key: ObjectKey, metadata: &Metadata) -> ObjectInfo {
    let nanoseconds =
        i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    ObjectInfo {
        key,
        size_bytes: metadata.len(),
        last_modified: OffsetDateTime::from_unix_timestamp_nanos(nanoseconds)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH),
        etag: Some(format!("{:x}-{nanoseconds:x}-{:x}", metadata.ino(), metadata.len())),
        storage_class: None,
        attributes: Attributes::default(),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tasks::blocking("work on a file", work).await
}

#[async_trait]
impl ObjectStore for FileStore {
    fn url(&self, key: &str) -> String {
        self.root.url(key)
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        mode: PutMode,
        _attributes: &Attributes,
    ) -> Result<PutOutcome> {
        let (root, key) = (Arc::clone(&self.root), key.clone());
        blocking(move || root.write_object(&key, &body, mode)).await
    }

    fn activity(&self) -> u64 {
        self.root.activity.load(Ordering::Relaxed)
    }

    fn require(&self, key: &ObjectKey) {
        // Of a store only one object is required.
        let _ = self.root.required.set(key.clone());
    }

    async fn begin_multipart(
        &self,
        key: &ObjectKey,
        mode: PutMode,
        _attributes: &Attributes,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (root, key) = (Arc::clone(&self.root), key.clone());
        let upload = blocking(move || {
            let temporary = root.create_temporary(&key)?;
            Ok(FileUpload::new(root, key, mode, temporary))
        })
        .await?;
        Ok(Box::new(upload))
    }

    async fn get_range(
        &self,
        key: &ObjectKey,
        offset: u64,
        length: Option<u64>,
        if_match: Option<&str>,
    ) -> Result<ObjectReader> {
        let (root, wanted) = (Arc::clone(&self.root), key.clone());
        let if_match = if_match.map(str::to_owned);
        let (file, info) = blocking(move || root.open(&wanted, if_match.as_deref())).await?;
        if offset > info.size_bytes {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("object \"{}\" is shorter than {offset} bytes", self.url(key.as_str())),
            ));
        }
        let body = FileBody {
            root: Arc::clone(&self.root),
            key: key.clone(),
            file: Arc::new(file),
            offset,
            end: length.map_or(info.size_bytes, |length| {
                info.size_bytes.min(offset.saturating_add(length))
            }),
            size_bytes: info.size_bytes,
        };
        Ok(ObjectReader { info, body: Box::new(body) })
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>> {
        let (root, key) = (Arc::clone(&self.root), key.clone());
        blocking(move || {
            let found = root.examine(&key)?;
            if found.is_none() {
                root.check()?;
            }
            Ok(found)
        })
        .await
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.root.path)
    }

    fn finds_by_name(&self) -> bool {
        true
    }

    async fn find(&self, keys: &[ObjectKey]) -> Result<Vec<ObjectKey>> {
        let (root, keys) = (Arc::clone(&self.root), keys.to_owned());
        blocking(move || {
            let mut found = Vec::new();
            for key in keys {
                if root.examine(&key)?.is_some() {
                    found.push(key);
                }
            }
            if found.is_empty() {
                root.check()?;
            }
            Ok(found)
        })
        .await
    }

    async fn is_empty(&self, directory: &str) -> Result<bool> {
        let (root, path) = (Arc::clone(&self.root), directory.to_owned());
        if blocking(move || listing::has_file(&root, &path)).await? {
            return Ok(false);
        }
        // There may be some in directories below.
        let request = ListRequest { prefix: directory.to_owned(), ..ListRequest::default() };
        Ok(self.list(&request, None).await?.objects.is_empty())
    }

    async fn list(&self, request: &ListRequest, page: Option<String>) -> Result<ListPage> {
        let (root, request, page_size) = (Arc::clone(&self.root), request.clone(), self.page_size);
        blocking(move || listing::list(&root, &request, page, page_size)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let (root, key) = (Arc::clone(&self.root), key.clone());
        blocking(move || {
            let path = root.file(&key);
            match std::fs::remove_file(&path) {
                Ok(()) => Ok(()),
                Err(error) if is_missing(&error) => root.check(),
                Err(error) => Err(root.refused("delete", &key, &path, &error)),
            }
        })
        .await
    }

    async fn abort_uploads(&self, directory: &str) -> Result<()> {
        let path = self.root.path.join(directory);
        blocking(move || {
            for entry in walkdir::WalkDir::new(path).into_iter().flatten() {
                if entry.file_type().is_dir() {
                    temporary::remove_older_than(entry.path(), Duration::ZERO);
                }
            }
            Ok(())
        })
        .await
    }

    async fn abort_upload(&self, _key: &ObjectKey, _id: &str) -> Result<()> {
        // None has a number. Temporary files that are left are removed by their age.
        Ok(())
    }

    async fn create_only_is_atomic(&self) -> Result<bool> {
        Ok(true)
    }
}

/// A file that is being read.
struct FileBody {
    root: Arc<Root>,
    key: ObjectKey,
    file: Arc<File>,
    offset: u64,
    /// Where to stop, at the latest at the object's end.
    end: u64,
    size_bytes: u64,
}

#[async_trait]
impl ObjectBody for FileBody {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        let wanted = (self.end - self.offset).min(CHUNK_BYTES as u64) as usize;
        if wanted == 0 {
            return Ok(None);
        }
        let (root, key) = (Arc::clone(&self.root), self.key.clone());
        let (file, offset, size_bytes) = (Arc::clone(&self.file), self.offset, self.size_bytes);
        let chunk = blocking(move || {
            let mut chunk = BytesMut::zeroed(wanted);
            file.read_exact_at(&mut chunk, offset).map_err(|error| {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    Error::new(
                        ErrorKind::Corrupt,
                        format!(
                            "object \"{}\" became shorter than its {size_bytes} bytes while it was read",
                            root.url(key.as_str())
                        ),
                    )
                } else {
                    root.refused("get", &key, &root.file(&key), &error)
                }
            })?;
            Ok(chunk.freeze())
        })
        .await?;
        self.offset += chunk.len() as u64;
        Ok(Some(chunk))
    }
}

#[cfg(test)]
mod tests;
