//! The files of all tars, against the lists that the backup has of them.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Tar;
use super::cluster_files::{ClusterFiles, KeptFile};
use super::report::{self, Report, examples};
use super::tar_content::TarContent;
use crate::layout::TarKind;
use crate::postgres::{BackupManifest, ManifestFile};
use crate::sentinel::FilesMetadata;

/// The most files of one tar where no list says how many there are: a hostile
/// tar shall not fill the memory.
const MOST_FILES: usize = 4_000_000;

/// What has been found in the tars so far.
pub(super) struct Inventory {
    lists: Option<FilesMetadata>,
    /// What the manifest lists and no tar has had yet.
    manifest: Option<HashMap<Vec<u8>, (u64, u32)>>,
    manifest_listed: usize,
    /// Every file, and the tar that has it.
    found: HashMap<String, usize>,
    /// Names of the tars that were read.
    tars: Vec<String>,
    /// Bytes of the files.
    bytes: u64,
    /// Files whose size and checksum are as the manifest says.
    proved: usize,
    kept: Vec<KeptFile>,
    /// OIDs of the tablespaces that files belong to.
    tablespaces: BTreeSet<u32>,
}

impl Inventory {
    pub(super) fn new(lists: Option<FilesMetadata>, manifest: Option<BackupManifest>) -> Self {
        let manifest = manifest.map(|manifest| {
            let facts = |file: ManifestFile| (file.path, (file.size_bytes, file.crc32c));
            manifest.files.into_iter().map(facts).collect::<HashMap<_, _>>()
        });
        Inventory {
            lists,
            manifest_listed: manifest.as_ref().map_or(0, HashMap::len),
            manifest,
            found: HashMap::new(),
            tars: Vec::new(),
            bytes: 0,
            proved: 0,
            kept: Vec::new(),
            tablespaces: BTreeSet::new(),
        }
    }

    /// How many files of a tar are to be read.
    pub(super) fn most_files(&self, file_name: &str) -> usize {
        let sets = self.lists.as_ref().map(|lists| &lists.tar_file_sets);
        // One more is enough to tell that there are too many.
        sets.and_then(|sets| sets.get(file_name)).map_or(MOST_FILES, |names| names.len() + 1)
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
        self.compare_with_list(tar, &content, report);
        self.compare_with_manifest(tar, &content, report);
        self.look_for_duplicates(tar, &content, report);
        for file in &content.files {
            self.bytes = self.bytes.saturating_add(file.size_bytes);
            let tablespace = file.path.strip_prefix("pg_tblspc/");
            let oid: Option<u32> = tablespace.and_then(|rest| rest.split('/').next()?.parse().ok());
            self.tablespaces.extend(oid);
        }
        self.kept.extend(content.kept.into_iter().map(|(path, content)| KeptFile {
            path,
            content,
            url: tar.url.clone(),
        }));
    }

    /// The members are those that `files_metadata.json` says, under these names.
    fn compare_with_list(&self, tar: &Tar, content: &TarContent, report: &mut Report) {
        let Some(sets) = self.lists.as_ref().map(|lists| &lists.tar_file_sets) else { return };
        let Some(names) = sets.get(tar.file_name()) else {
            // Other programs do not list the small tars.
            if tar.kind == TarKind::Partition && !sets.is_empty() {
                let what = "files_metadata.json does not know this tar";
                report.failed(report::FILE_LIST, &tar.url, what);
            }
            return;
        };
        let listed: HashSet<&str> = names.iter().map(String::as_str).collect();
        let held: HashSet<&str> = content.files.iter().map(|file| file.name.as_str()).collect();
        let mut tell = |names: BTreeSet<&str>, what: &str| {
            if !names.is_empty() {
                let named = examples(names);
                report.failed(report::FILE_LIST, &tar.url, format_args!("it {what} {named}"));
            }
        };
        tell(
            held.difference(&listed).copied().collect(),
            "has files that files_metadata.json does not list for it:",
        );
        if !content.ended_early {
            tell(
                listed.difference(&held).copied().collect(),
                "lacks files that files_metadata.json lists for it:",
            );
        }
    }

    fn compare_with_manifest(&mut self, tar: &Tar, content: &TarContent, report: &mut Report) {
        let Some(manifest) = &mut self.manifest else { return };
        let (mut unknown, mut different) = (BTreeSet::new(), BTreeSet::new());
        for file in &content.files {
            match manifest.remove(file.path.as_bytes()) {
                Some(listed) if listed == (file.size_bytes, file.crc32c) => self.proved += 1,
                Some(_) => drop(different.insert(file.path.as_str())),
                // A second one is told of as such.
                None if self.found.contains_key(&file.path) => {}
                None => drop(unknown.insert(file.path.as_str())),
            }
        }
        for (names, what) in [
            (different, "has files of another size or checksum than the manifest says:"),
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
        self.tars.push(tar.file_name().to_owned());
        let mut twice = BTreeSet::new();
        for file in &content.files {
            if let Some(other) = self.found.insert(file.path.clone(), own) {
                let other = self.tars.get(other).map_or("", String::as_str);
                twice.insert(format!("{} (also in {other})", file.path));
            }
        }
        if !twice.is_empty() {
            let named = examples(twice.iter().map(String::as_str));
            let what = format!("it has files that are there twice: {named}");
            report.failed(report::FILE_LIST, &tar.url, what);
        }
    }

    /// When all tars have been read: what none of them has. The URLs are those of
    /// the two lists.
    pub(super) fn finish(
        self,
        files_url: &str,
        manifest_url: &str,
        report: &mut Report,
    ) -> ClusterFiles {
        let (tars, files) = (self.tars.len(), self.found.len());
        report.passed(report::TARS, format!("{tars} tars, {files} files, {} bytes", self.bytes));
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
                report.passed(report::CHECKSUMS, format!("{what} are as the manifest says"));
            }
            None => report.not_checked(report::CHECKSUMS, "there is no manifest"),
        }
        ClusterFiles { kept: self.kept, tablespaces: self.tablespaces }
    }

    /// `Files` and `TarFileSets` name the same files: WAL-G restores only what the
    /// former names, and looks in the latter for where it is.
    fn compare_lists(&self, lists: &FilesMetadata, url: &str, report: &mut Report) {
        let in_sets: HashSet<&str> =
            lists.tar_file_sets.values().flatten().map(String::as_str).collect();
        let stored = |name: &&String| lists.files.get(*name).is_some_and(|file| !file.is_skipped);
        let mut tell = |names: BTreeSet<&str>, what: &str| {
            if !names.is_empty() {
                report.failed(report::FILE_LIST, url, format_args!("{what} {}", examples(names)));
            }
        };
        if in_sets.is_empty() {
            let lost = lists.files.keys().filter(stored).map(String::as_str);
            let lost = lost.filter(|name| !self.found.contains_key(name.trim_start_matches('/')));
            tell(lost.collect(), "it lists files that no readable tar has:");
            return;
        }
        let lost = lists.files.keys().filter(stored).map(String::as_str);
        tell(lost.filter(|name| !in_sets.contains(name)).collect(), "it lists files of no tar:");
        if lists.files.is_empty() {
            return;
        }
        // Those of the small tars need not be listed.
        let is_known =
            |name: &&&str| lists.files.contains_key(**name) || super::tar_content::is_kept(name);
        let unlisted = in_sets.iter().filter(|name| !is_known(name)).copied();
        tell(unlisted.collect(), "it has no entry for files of its tars:");
    }
}
