//! An archive for one test: a prefix, the place that it names, and a look at what
//! is stored there that does not go through wal_e.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use wal_e_core::codec::{Compression, Compressor};

use crate::fault_proxy::FaultProxy;
use crate::installation::PgVersion;
use crate::process::ServerUser;
use crate::s3_server::S3Server;
use crate::scratch::Scratch;

/// The bucket of the archives on S3.
pub const BUCKET: &str = "wale-tests";

/// The path in the bucket. It has two components, so that no test passes by
/// taking the bucket's root for the prefix.
const PATH_IN_BUCKET: &str = "clusters/one";

/// A place to archive to.
pub struct Archive {
    place: Place,
    /// The environment directory.
    env_dir: PathBuf,
    scratch: Scratch,
}

enum Place {
    File { directory: PathBuf },
    S3 { way: WayToS3, own: Option<Box<OwnServer>> },
}

/// Where a bucket is; the keys stand in the environment directory.
struct WayToS3 {
    url: String,
    endpoint: String,
    region: String,
}

/// A server that tests can look into, and the proxy in front of it.
struct OwnServer {
    server: S3Server,
    proxy: FaultProxy,
}

/// How many bytes [`Archive::corrupt_object`] flips. One is not enough: in
/// repetitive data it may make a match of the compressor point to another place
/// with the same bytes, so that the content is what it was.
const DAMAGED_BYTES: usize = 16;

impl Archive {
    /// A directory that the server's user can write.
    pub fn file() -> Archive {
        let scratch = Scratch::new();
        let directory = scratch.create("archive");
        let env_dir = scratch.create("env");
        Archive { place: Place::File { directory }, env_dir, scratch }
    }

    /// A directory or a bucket for each tested version, in turn; for a single one both.
    pub fn for_tested_versions() -> impl Iterator<Item = (PgVersion, Archive)> {
        let versions = PgVersion::tested();
        let number = versions.len().max(2);
        let kinds = [Archive::file, Archive::s3].into_iter().cycle();
        versions.into_iter().cycle().take(number).zip(kinds.map(|make| make()))
    }

    /// A bucket on an S3 server of this process, behind a proxy where faults can
    /// be made.
    pub fn s3() -> Archive {
        let server = S3Server::start();
        server.create_bucket(BUCKET);
        let proxy = FaultProxy::start(&server.endpoint());
        let url = format!("s3://{BUCKET}/{PATH_IN_BUCKET}");
        let keys = (server.access_key().to_owned(), server.secret_key().to_owned());
        let mut archive = Archive::elsewhere(&url, &proxy.endpoint(), "us-east-1", &keys);
        let Place::S3 { own, .. } = &mut archive.place else { unreachable!("it was just made") };
        *own = Some(Box::new(OwnServer { server, proxy }));
        archive
    }

    /// A prefix on a server that is not of this process: what is stored there can only be
    /// seen through wal_e. The keys are the access key and the secret key.
    pub fn elsewhere(
        url: &str,
        endpoint: &str,
        region: &str,
        (access_key_id, secret_access_key): &(String, String),
    ) -> Archive {
        let scratch = Scratch::new();
        let way = WayToS3 {
            url: url.to_owned(),
            endpoint: endpoint.to_owned(),
            region: region.to_owned(),
        };
        let env_dir = scratch.create("env");
        let archive = Archive { place: Place::S3 { way, own: None }, env_dir, scratch };
        archive.write_variable("AWS_ACCESS_KEY_ID", access_key_id);
        archive.write_variable("AWS_SECRET_ACCESS_KEY", secret_access_key);
        archive.write_variable("AWS_REGION", region);
        archive.write_variable("AWS_ENDPOINT_URL_S3", endpoint);
        archive
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.place, Place::File { .. })
    }

    /// The prefix.
    pub fn url(&self) -> String {
        match &self.place {
            Place::File { directory } => format!("file://{}", directory.display()),
            Place::S3 { way, .. } => way.url.clone(),
        }
    }

    /// The lines of `postgresql.conf` that point a server here.
    pub fn settings(&self) -> Vec<String> {
        let mut lines = vec![format!("wal_e.prefix = '{}'", self.url())];
        if self.has_variables() {
            lines.push(format!("wal_e.env_dir = '{}'", self.env_dir.display()));
        }
        if let Place::S3 { way, .. } = &self.place {
            lines.push(format!("wal_e.s3_endpoint = '{}'", way.endpoint));
            lines.push(format!("wal_e.s3_region = '{}'", way.region));
            lines.push("wal_e.s3_force_path_style = on".to_owned());
        }
        lines
    }

    /// The options that point the program here.
    pub fn program_options(&self) -> Vec<String> {
        let prefix = match &self.place {
            Place::File { .. } => "--file-prefix",
            Place::S3 { .. } => "--s3-prefix",
        };
        let mut options = vec![prefix.to_owned(), self.url()];
        if self.has_variables() {
            options.extend(["--env-dir".to_owned(), self.env_dir.display().to_string()]);
        }
        options
    }

    /// Whether there is anything in the environment directory.
    fn has_variables(&self) -> bool {
        let mut files = fs::read_dir(&self.env_dir).expect("the directory is there");
        files.next().is_some()
    }

    /// Sets a variable of the environment directory, which a server is pointed at when there is
    /// one as it is configured.
    pub fn write_variable(&self, name: &str, value: &str) {
        let path = self.env_dir.join(name);
        fs::write(&path, value).expect("a file of the environment directory can be written");
        ServerUser::get().own(&path);
    }

    /// Removes a variable of the environment directory.
    pub fn remove_variable(&self, name: &str) {
        fs::remove_file(self.env_dir.join(name)).expect("the variable was set");
    }

    /// The S3 server.
    ///
    /// # Panics
    ///
    /// When this archive is a directory, as in all the methods about S3.
    pub fn server(&self) -> &S3Server {
        &self.own().server
    }

    /// The proxy in front of the S3 server.
    pub fn proxy(&self) -> &FaultProxy {
        &self.own().proxy
    }

    fn own(&self) -> &OwnServer {
        match &self.place {
            Place::S3 { own: Some(own), .. } => own,
            _ => panic!("{} is not on an S3 server of this process", self.url()),
        }
    }

    /// The directory of a `file://` archive.
    pub fn directory(&self) -> &Path {
        let Place::File { directory } = &self.place else { panic!("{} is a bucket", self.url()) };
        directory
    }

    /// Directories of this archive's own.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The names of all objects, without the prefix, in their order. In a
    /// directory these are all files, temporary ones included.
    pub fn objects(&self) -> Vec<String> {
        let mut names = Vec::new();
        match &self.place {
            Place::File { directory } => collect_files(directory, directory, &mut names),
            Place::S3 { .. } => {
                let prefix = format!("{PATH_IN_BUCKET}/");
                let keys = self.server().objects(BUCKET).into_iter().map(|(key, _)| key);
                names.extend(keys.filter_map(|key| Some(key.strip_prefix(&prefix)?.to_owned())));
            }
        }
        names.sort();
        names
    }

    /// How many bytes the objects have whose name begins with `folder`.
    pub fn bytes_below(&self, folder: &str) -> u64 {
        match &self.place {
            Place::File { directory } => {
                let size =
                    |name: &String| fs::metadata(directory.join(name)).map_or(0, |f| f.len());
                self.objects().iter().filter(|name| name.starts_with(folder)).map(size).sum()
            }
            Place::S3 { .. } => {
                let prefix = format!("{PATH_IN_BUCKET}/{folder}");
                let objects = self.server().objects(BUCKET).into_iter();
                objects.filter(|(key, _)| key.starts_with(&prefix)).map(|(_, bytes)| bytes).sum()
            }
        }
    }

    /// The bytes of an object, if there is one.
    pub fn object(&self, name: &str) -> Option<Vec<u8>> {
        match &self.place {
            Place::File { directory } => fs::read(directory.join(name)).ok(),
            Place::S3 { .. } => self.server().object(BUCKET, &format!("{PATH_IN_BUCKET}/{name}")),
        }
    }

    /// Puts an object in place, replacing what is there, without wal_e.
    pub fn replace_object(&self, name: &str, bytes: Vec<u8>) {
        match &self.place {
            Place::File { directory } => {
                let path = directory.join(name);
                create_parents(directory, &path);
                // Written anew: an archived file may have been made read-only.
                if path.exists() {
                    fs::remove_file(&path).expect("an archived file can be removed");
                }
                fs::write(&path, bytes).expect("a file of the archive can be written");
                ServerUser::get().own(&path);
            }
            Place::S3 { .. } => {
                self.server().put_object(BUCKET, &format!("{PATH_IN_BUCKET}/{name}"), bytes);
            }
        }
    }

    /// Removes an object, without wal_e.
    pub fn remove_object(&self, name: &str) {
        match &self.place {
            Place::File { directory } => {
                fs::remove_file(directory.join(name)).expect("an archived file can be removed");
            }
            Place::S3 { .. } => {
                let removed =
                    self.server().delete_object(BUCKET, &format!("{PATH_IN_BUCKET}/{name}"));
                assert!(removed, "{name} is not there");
            }
        }
    }

    /// Flips bits in the middle of an object.
    pub fn corrupt_object(&self, name: &str) {
        match &self.place {
            Place::File { .. } => {
                let mut bytes = self.object(name).expect("the object exists");
                let middle = bytes.len() / 2;
                bytes[middle..middle + DAMAGED_BYTES].iter_mut().for_each(|byte| *byte ^= 0xff);
                self.replace_object(name, bytes);
            }
            Place::S3 { .. } => {
                let middle = self.object(name).expect("the object exists").len() / 2;
                for offset in middle..middle + DAMAGED_BYTES {
                    self.server().corrupt_object(
                        BUCKET,
                        &format!("{PATH_IN_BUCKET}/{name}"),
                        offset,
                    );
                }
            }
        }
    }

    /// Cuts an object to half its length.
    pub fn truncate_object(&self, name: &str) {
        let mut bytes = self.object(name).expect("the object exists");
        bytes.truncate(bytes.len() / 2);
        match &self.place {
            Place::File { .. } => self.replace_object(name, bytes),
            Place::S3 { .. } => {
                self.server().truncate_object(
                    BUCKET,
                    &format!("{PATH_IN_BUCKET}/{name}"),
                    bytes.len(),
                );
            }
        }
    }

    /// Moves an object of a bucket to another storage class, as a lifecycle rule does.
    pub fn set_storage_class(&self, name: &str, class: &'static str) {
        self.server().set_storage_class(BUCKET, &format!("{PATH_IN_BUCKET}/{name}"), class);
    }

    /// Makes an object of a bucket readable for a while, whatever its storage class.
    pub fn restore_object(&self, name: &str) {
        self.server().restore_object(BUCKET, &format!("{PATH_IN_BUCKET}/{name}"));
    }

    /// The names of the objects of archived WAL files, such as
    /// `wal_005/000000010000000000000001.lz4`.
    pub fn wal_objects(&self) -> Vec<String> {
        self.objects().into_iter().filter(|name| name.starts_with("wal_005/")).collect()
    }

    /// The object of the WAL file `name`, if it is archived with lz4.
    pub fn wal_object(&self, name: &str) -> Option<Vec<u8>> {
        self.object(&format!("wal_005/{name}.lz4"))
    }

    /// The bytes of the archived WAL file `name`.
    ///
    /// # Panics
    ///
    /// When it is not there, or is not exactly one LZ4 frame.
    #[track_caller]
    pub fn wal_file(&self, name: &str) -> Vec<u8> {
        let frame = self.wal_object(name).unwrap_or_else(|| panic!("{name} is not archived"));
        decompress(&frame)
    }

    /// The names of the backups that have a sentinel, in their order.
    pub fn backups(&self) -> Vec<String> {
        let in_folder = |object: String| {
            let name = object.strip_prefix("basebackups_005/")?;
            Some(name.strip_suffix("_backup_stop_sentinel.json")?.to_owned())
        };
        self.objects().into_iter().filter_map(in_folder).collect()
    }

    /// A JSON object of the backup `name`: `metadata.json` or
    /// `files_metadata.json`.
    #[track_caller]
    pub fn backup_json(&self, name: &str, file: &str) -> serde_json::Value {
        let object = format!("basebackups_005/{name}/{file}");
        let bytes = self.object(&object).unwrap_or_else(|| panic!("{object} is not there"));
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{object}: {error}"))
    }

    /// The sentinel of the backup `name`.
    #[track_caller]
    pub fn backup_sentinel(&self, name: &str) -> serde_json::Value {
        let object = format!("basebackups_005/{name}_backup_stop_sentinel.json");
        let bytes = self.object(&object).unwrap_or_else(|| panic!("{object} is not there"));
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{object}: {error}"))
    }

    /// What is left of uploads that neither ended nor were given up: open
    /// multipart uploads of a bucket, files that are not named as objects are in
    /// a directory.
    pub fn unfinished_uploads(&self) -> Vec<String> {
        match &self.place {
            Place::File { .. } => {
                let is_object = |name: &String| {
                    let folder = ["wal_005/", "basebackups_005/", "wal_e/"];
                    folder.iter().any(|folder| name.starts_with(folder))
                        && !name.contains("tmp")
                        && !name.contains("/.")
                };
                self.objects().into_iter().filter(|name| !is_object(name)).collect()
            }
            Place::S3 { .. } => self.server().open_multipart_uploads(BUCKET),
        }
    }
}

/// The content as one LZ4 frame, as wal_e stores it.
#[track_caller]
pub fn compress(content: &[u8]) -> Vec<u8> {
    let writer = Compressor::new(Vec::new(), Compression::default());
    let written = writer.and_then(|mut writer| {
        writer.write_all(content)?;
        writer.finish()
    });
    written.expect("memory can be written")
}

/// The content of bytes that are exactly one LZ4 frame.
#[track_caller]
pub fn decompress(frame: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let length = lzzzz::lz4f::decompress_to_vec(frame, &mut content).expect("it is an LZ4 frame");
    assert_eq!(length, content.len());
    content
}

/// Makes what is missing between `root` and `path`, owned by the server's user.
fn create_parents(root: &Path, path: &Path) {
    let parents: Vec<_> = path.ancestors().skip(1).take_while(|parent| *parent != root).collect();
    for parent in parents.into_iter().rev().filter(|parent| !parent.exists()) {
        ServerUser::get().create_directory(parent, 0o700);
    }
}

fn collect_files(root: &Path, directory: &Path, names: &mut Vec<String>) {
    // A file may vanish while a server works here.
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect_files(root, &path, names);
        } else {
            let name = path.strip_prefix(root).expect("an entry lies below the root");
            names.push(name.to_string_lossy().into_owned());
        }
    }
}
