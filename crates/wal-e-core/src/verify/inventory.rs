//! The files of all tars, against the lists that the backup has of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::Tar;
use super::cluster_files::{ClusterFiles, KeptFile};
use super::report::{self, Report, examples};
use super::tar_content::{Expected, TarContent, TarFile, is_kept};
use crate::layout::TarKind;
use crate::postgres::data_directory::CONTROL_FILE;
use crate::postgres::{BackupManifest, ManifestFile};
use crate::restore::selection::{self, Take};
use crate::sentinel::{FilesMetadata, Sentinel};

/// How much memory the member names of all tars of a backup may take, in bytes: a hostile
/// tar must not exhaust it. Honest ones come to about a hundred bytes a file.
const LARGEST_NAMES_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// What has been found in the tars so far.
pub(super) struct Inventory {
    lists: Option<Lists>,
    /// What the manifest lists and no tar has had yet.
    manifest: Option<HashMap<Vec<u8>, Listed>>,
    manifest_listed: usize,
    /// Every file, and the tar that has it.
    found: HashMap<String, usize>,
    /// Every directory and link.
    others: HashSet<String>,
    /// The tars that were read.
    tars: Vec<ReadTar>,
    /// Whether `pg_control` has its own tar, which takes precedence over a copy elsewhere.
    has_control_tar: bool,
    /// Whether WAL-E stored it: a restore creates its links.
    is_wal_e: bool,
    /// Symbolic links.
    links: u64,
    /// Bytes of the files.
    bytes: u64,
    /// Files whose size and checksum match the manifest.
    proved: usize,
    kept: Vec<KeptFile>,
    /// OIDs of the tablespaces that files belong to.
    tablespaces: BTreeSet<u32>,
    names: Arc<AtomicU64>,
}

/// What `files_metadata.json` lists, by paths below the data directory.
struct Lists {
    /// Files that a tar must have: all but those that an older backup has.
    stored: HashSet<String>,
    /// All others.
    skipped: HashSet<String>,
    /// Those of which only changed pages are stored.
    increments: Arc<HashSet<String>>,
    /// Of each tar. WAL-G also lists directories and files that vanished.
    sets: BTreeMap<String, Vec<String>>,
}

/// A tar that was read.
struct ReadTar {
    file_name: String,
    url: String,
    is_control: bool,
    /// To its end.
    is_whole: bool,
}

impl Lists {
    fn new(lists: FilesMetadata, is_delta: bool) -> Self {
        let (mut stored, mut skipped) = (HashSet::new(), HashSet::new());
        let mut increments = HashSet::new();
        for (name, file) in lists.files {
            let path = listed_path(&name);
            let take = Take::of(&file, is_delta);
            if take == Some(Take::Pages) {
                increments.insert(path.clone());
            }
            match take {
                Some(_) => stored.insert(path),
                None => skipped.insert(path),
            };
        }
        let sets = lists.tar_file_sets.into_iter();
        let paths = |names: Vec<String>| names.iter().map(|name| listed_path(name)).collect();
        Lists {
            stored,
            skipped,
            increments: Arc::new(increments),
            sets: sets.map(|(tar, names)| (tar, paths(names))).collect(),
        }
    }

    /// Whether the files themselves are listed, not only those of the tars.
    fn has_files(&self) -> bool {
        !self.stored.is_empty() || !self.skipped.is_empty()
    }
}

impl Inventory {
    pub(super) fn new(
        sentinel: &Sentinel,
        lists: Option<FilesMetadata>,
        manifest: Option<BackupManifest>,
        tars: &[Tar],
    ) -> Self {
        let manifest = manifest.map(|manifest| {
            let facts = |file: ManifestFile| (file.path, (file.size_bytes, file.crc32c));
            manifest.files.into_iter().map(facts).collect::<HashMap<_, _>>()
        });
        Inventory {
            lists: lists.map(|lists| Lists::new(lists, sentinel.delta_from.is_some())),
            manifest_listed: manifest.as_ref().map_or(0, HashMap::len),
            manifest,
            found: HashMap::new(),
            others: HashSet::new(),
            tars: Vec::new(),
            has_control_tar: tars.iter().any(|tar| tar.kind == TarKind::PgControl),
            is_wal_e: sentinel.is_wal_e,
            links: 0,
            bytes: 0,
            proved: 0,
            kept: Vec::new(),
            tablespaces: BTreeSet::new(),
            names: Arc::new(AtomicU64::new(LARGEST_NAMES_BYTES)),
        }
    }

    /// What is expected of a tar.
    pub(super) fn expected(&self, file_name: &str) -> Expected {
        let lists = self.lists.as_ref();
        let names = lists.and_then(|lists| lists.sets.get(file_name));
        Expected {
            // One more is enough to know that there are too many.
            most_files: names.map_or(usize::MAX, |names| names.len().saturating_add(1)),
            increments: lists.map(|lists| Arc::clone(&lists.increments)).unwrap_or_default(),
            has_manifest: self.manifest.is_some(),
            names: Arc::clone(&self.names),
        }
    }

    /// Takes in what a tar holds.
    pub(super) fn add(&mut self, tar: &Tar, content: TarContent, report: &mut Report) {
        if !content.problems.is_empty() {
            let more = match content.more_problems {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            let what = format!("{}{more}", content.problems.join("; "));
            report.failed(report::TARS, &tar.url, what);
        }
        self.links = self.links.saturating_add(content.links);
        self.compare_with_list(tar, &content, report);
        self.compare_with_manifest(tar, &content, report);
        self.look_for_duplicates(tar, &content, report);
        for file in &content.files {
            self.bytes = self.bytes.saturating_add(file.member_bytes);
            let tablespace = file.path.strip_prefix("pg_tblspc/");
            let oid: Option<u32> = tablespace.and_then(|rest| rest.split('/').next()?.parse().ok());
            self.tablespaces.extend(oid);
        }
        self.others.extend(content.others);
        for (path, content) in content.kept {
            let is_own = tar.kind == TarKind::PgControl && path == CONTROL_FILE;
            let file = KeptFile { path, content, url: tar.url.clone() };
            match self.kept.iter_mut().find(|kept| kept.path == file.path) {
                Some(kept) if is_own => *kept = file,
                // A second one is reported where it is wrong.
                Some(_) => {}
                None => self.kept.push(file),
            }
        }
    }

    /// The files are those that `files_metadata.json` says of this tar.
    fn compare_with_list(&self, tar: &Tar, content: &TarContent, report: &mut Report) {
        let Some(sets) = self.lists.as_ref().map(|lists| &lists.sets) else { return };
        let Some(names) = sets.get(tar.file_name()) else {
            // Other programs do not list the small tars.
            if tar.kind == TarKind::Partition && !sets.is_empty() {
                let what = "files_metadata.json does not list this tar";
                report.failed(report::FILE_LIST, &tar.url, what);
            }
            return;
        };
        let listed: HashSet<&str> = names.iter().map(String::as_str).collect();
        let held = content.files.iter().map(|file| file.path.as_str());
        let unlisted: BTreeSet<&str> = held.filter(|path| !listed.contains(path)).collect();
        if !unlisted.is_empty() {
            let named = examples(unlisted);
            let what = "it has files that files_metadata.json does not list for it:";
            report.failed(report::FILE_LIST, &tar.url, format_args!("{what} {named}"));
        }
    }

    fn compare_with_manifest(&mut self, tar: &Tar, content: &TarContent, report: &mut Report) {
        let Some(manifest) = &mut self.manifest else { return };
        let (mut unknown, mut different) = (BTreeSet::new(), BTreeSet::new());
        for file in &content.files {
            if is_copy_of_control(self.has_control_tar, tar.kind, &file.path) {
                continue;
            }
            match manifest.remove(file.path.as_bytes()) {
                Some(listed) if is_as_listed(file, listed) => self.proved += 1,
                Some(_) => drop(different.insert(file.path.as_str())),
                // A second one is reported as a duplicate.
                None if self.found.contains_key(&file.path) => {}
                None => drop(unknown.insert(file.path.as_str())),
            }
        }
        for (names, what) in [
            (different, "has files whose size or checksum differs from the manifest:"),
            (unknown, "has files that the manifest does not list:"),
        ] {
            if !names.is_empty() {
                let named = examples(names);
                report.failed(report::CHECKSUMS, &tar.url, format_args!("it {what} {named}"));
            }
        }
    }

    fn look_for_duplicates(&mut self, tar: &Tar, content: &TarContent, report: &mut Report) {
        let own = self.tars.len();
        self.tars.push(ReadTar {
            file_name: tar.file_name().to_owned(),
            url: tar.url.clone(),
            is_control: tar.kind == TarKind::PgControl,
            is_whole: !content.ended_early,
        });
        let mut twice = BTreeSet::new();
        for file in &content.files {
            let Some(other) = self.found.insert(file.path.clone(), own) else { continue };
            let Some(other) = self.tars.get(other) else { continue };
            let is_control = tar.kind == TarKind::PgControl;
            if file.path == CONTROL_FILE && is_control != other.is_control {
                continue;
            }
            twice.insert(format!("{} (also in {})", file.path, other.file_name));
        }
        if !twice.is_empty() {
            let named = examples(twice.iter().map(String::as_str));
            let what = format!("it has files that appear twice: {named}");
            report.failed(report::FILE_LIST, &tar.url, what);
        }
    }

    /// After all tars have been read: reports what none of them has. The URLs are those of
    /// the two lists.
    pub(super) fn finish(
        self,
        files_url: &str,
        manifest_url: &str,
        report: &mut Report,
    ) -> ClusterFiles {
        let (tars, files) = (self.tars.len(), self.found.len());
        report.passed(report::TARS, format!("{tars} tars, {files} files, {} bytes", self.bytes));
        if self.links > 0 {
            let fate = if self.is_wal_e { "makes" } else { "leaves out" };
            let what = format!("{} symbolic links, which a restore {fate}", self.links);
            report.noted(report::TARS, what);
        }
        match &self.lists {
            Some(lists) => {
                self.compare_lists(lists, files_url, report);
                report.passed(report::FILE_LIST, "the tars hold what files_metadata.json lists");
            }
            None => report.not_checked(report::FILE_LIST, "there is no files_metadata.json"),
        }
        match &self.manifest {
            Some(manifest) => {
                if !manifest.is_empty() {
                    let names: BTreeSet<_> =
                        manifest.keys().map(|path| String::from_utf8_lossy(path)).collect();
                    let named = examples(names.iter().map(AsRef::as_ref));
                    let what = format!("it lists files that no readable tar has: {named}");
                    report.failed(report::CHECKSUMS, manifest_url, what);
                }
                let what = format!("{} of {} files", self.proved, self.manifest_listed);
                report.passed(report::CHECKSUMS, format!("{what} match the manifest"));
            }
            None => report.not_checked(report::CHECKSUMS, "there is no manifest"),
        }
        ClusterFiles { kept: self.kept, tablespaces: self.tablespaces }
    }

    /// Whether a tar has a member of this path, whatever it is.
    fn is_held(&self, path: &str) -> bool {
        self.found.contains_key(path) || self.others.contains(path)
    }

    /// Every file that a restore needs is in the tars, and every file in the tars is listed.
    /// The list of all files decides: for its tars, WAL-G also lists files that vanished
    /// before they were read.
    fn compare_lists(&self, lists: &Lists, url: &str, report: &mut Report) {
        let is_wanted = |path: &str| match lists.has_files() {
            true => lists.stored.contains(path),
            false => true,
        };
        let mut report_names = |names: BTreeSet<&str>, url: &str, what: &str| {
            if !names.is_empty() {
                report.failed(report::FILE_LIST, url, format_args!("{what} {}", examples(names)));
            }
        };
        let read: HashMap<&str, &ReadTar> =
            self.tars.iter().map(|tar| (tar.file_name.as_str(), tar)).collect();
        let mut in_sets = HashSet::new();
        let mut unlisted = BTreeSet::new();
        for (file_name, paths) in &lists.sets {
            let paths = || paths.iter().map(String::as_str);
            in_sets.extend(paths());
            let is_unknown = |path: &&str| {
                lists.has_files()
                    && !lists.stored.contains(*path)
                    && !lists.skipped.contains(*path)
                    // Those of the small tars need not be listed.
                    && !is_kept(path)
            };
            unlisted
                .extend(paths().filter(|path| self.found.contains_key(*path)).filter(is_unknown));
            // That the others cannot be read is reported elsewhere.
            if let Some(tar) = read.get(file_name.as_str()).filter(|tar| tar.is_whole) {
                let lost = paths().filter(|path| is_wanted(path) && !self.is_held(path));
                let what = "it lacks files that files_metadata.json lists for it:";
                report_names(lost.collect(), &tar.url, what);
            }
        }
        let stored = lists.stored.iter().map(String::as_str);
        let lost = stored.filter(|path| !in_sets.contains(path) && !self.is_held(path));
        report_names(lost.collect(), url, "it lists files that no readable tar has:");
        report_names(unlisted, url, "it has no entry for files of its tars:");
    }
}

/// The path below the data directory that a name in a list of files means; the
/// name itself if it leads out of it, which no tar may have.
fn listed_path(name: &str) -> String {
    selection::listed_path(name).unwrap_or_else(|_| name.to_owned())
}

/// What the manifest says of a file: its size in bytes, and the CRC-32C of its content.
type Listed = (u64, Option<u32>);

/// Whether a file is what the manifest says of its size and checksum, as far as both know.
fn is_as_listed(file: &TarFile, (size_bytes, crc32c): Listed) -> bool {
    let same_content = crc32c.zip(file.crc32c).is_none_or(|(listed, found)| listed == found);
    size_bytes == file.size_bytes && same_content
}

/// Whether this is a `pg_control` among other files while it has its own tar.
fn is_copy_of_control(has_control_tar: bool, kind: TarKind, path: &str) -> bool {
    has_control_tar && kind != TarKind::PgControl && path == CONTROL_FILE
}
