//! Which of the objects among a backup's tars are its own.
//!
//! WAL-G gives a backup the name of one that was killed when both begin in the same
//! segment, as on a standby, and leaves the tars of that one in their place. It also
//! says in `TarFileSets` which tar has which file, which distinguishes the two.

use std::collections::HashSet;

use crate::codec::StoredEncoding;
use crate::layout::{self, TarKind};
use crate::postgres::data_directory::{BACKUP_LABEL, CONTROL_FILE, TABLESPACE_MAP};
use crate::sentinel::FilesMetadata;
use crate::store::ObjectInfo;

/// The objects below a backup's tars.
#[derive(Debug, Default)]
pub(crate) struct TarSet {
    /// What is to be read.
    pub(crate) own: Vec<ObjectInfo>,
    /// What another backup of the same name left.
    pub(crate) left_over: Vec<ObjectInfo>,
}

/// The name of a tar within its backup.
pub(crate) fn file_name(object: &ObjectInfo) -> &str {
    let key = object.key.as_str();
    key.rsplit('/').next().unwrap_or(key)
}

/// The tars that the list of files names and the store does not have.
pub(crate) fn lost<'a>(list: &'a FilesMetadata, objects: &[ObjectInfo]) -> Vec<&'a str> {
    let found: HashSet<&str> = objects.iter().map(file_name).collect();
    // A tar without files holds nothing that could be missed.
    let listed = list.tar_file_sets.iter().filter(|(_, names)| !names.is_empty());
    listed.map(|(tar, _)| tar.as_str()).filter(|tar| !found.contains(tar)).collect()
}

/// Separates a backup's own tars from others. All are its own where its list of files does
/// not say where each file is.
pub(crate) fn tell_apart(objects: Vec<ObjectInfo>, list: &FilesMetadata) -> TarSet {
    if !says_where_each_file_is(list) {
        return TarSet { own: objects, ..TarSet::default() };
    }
    let mut set = TarSet::default();
    let (mut labels, mut controls) = (Vec::new(), Vec::new());
    let mut listed = Vec::new();
    for object in objects {
        match layout::tar_of(&object.key) {
            Some(tar) if list.tar_file_sets.contains_key(file_name(&object)) => {
                listed.push((tar, is_copied(&object)));
                set.own.push(object);
            }
            Some((TarKind::BackupLabel, encoding)) => labels.push((encoding, object)),
            Some((TarKind::PgControl, encoding)) => controls.push((encoding, object)),
            _ => set.left_over.push(object),
        }
    }
    // The small tars are written by the same run as the label, or as any tar that was
    // not copied from an older backup.
    let has = |kind: TarKind| listed.iter().find(|((found, _), _)| *found == kind);
    let encoding = has(TarKind::BackupLabel)
        .or_else(|| listed.iter().find(|(_, is_copied)| !is_copied))
        .map(|((_, encoding), _)| *encoding);
    let (has_control, has_label) = (has(TarKind::PgControl).is_some(), lists_label(list));
    set.add(controls, has_control, encoding);
    set.add(labels, has_label, encoding);
    set
}

impl TarSet {
    /// Of tars that hold the same and are not listed, takes the one of this encoding; all
    /// of them when the encoding does not decide; none when another tar has it.
    fn add(
        &mut self,
        tars: Vec<(StoredEncoding, ObjectInfo)>,
        is_elsewhere: bool,
        encoding: Option<StoredEncoding>,
    ) {
        let is_of = |found: &StoredEncoding| Some(*found) == encoding;
        let decides = tars.len() > 1 && tars.iter().filter(|(found, _)| is_of(found)).count() == 1;
        for (found, object) in tars {
            match is_elsewhere || (decides && !is_of(&found)) {
                true => self.left_over.push(object),
                false => self.own.push(object),
            }
        }
    }
}

/// Whether WAL-G copied the tar of an older backup, unchanged.
pub(crate) fn is_copied(object: &ObjectInfo) -> bool {
    file_name(object).starts_with("copy_")
}

/// Whether all files that are stored are in the sets.
pub(crate) fn says_where_each_file_is(list: &FilesMetadata) -> bool {
    let in_sets: HashSet<&str> =
        list.tar_file_sets.values().flatten().map(String::as_str).collect();
    let is_told = |name: &str| in_sets.contains(name) || is_always_taken(name);
    !list.files.is_empty()
        && !in_sets.is_empty()
        && list.files.iter().all(|(name, file)| file.is_skipped || is_told(name))
}

/// WAL-G does not list these with the others.
fn is_always_taken(name: &str) -> bool {
    [CONTROL_FILE, BACKUP_LABEL, TABLESPACE_MAP].contains(&name.trim_start_matches('/'))
}

fn lists_label(list: &FilesMetadata) -> bool {
    let mut names = list.tar_file_sets.values().flatten();
    names.any(|name| name.trim_start_matches('/') == BACKUP_LABEL)
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::sentinel::FileMetadata;
    use crate::store::Attributes;

    fn object(name: &str) -> ObjectInfo {
        ObjectInfo {
            key: layout::tar_partition("base_1", name),
            size_bytes: 1,
            last_modified: OffsetDateTime::UNIX_EPOCH,
            etag: None,
            storage_class: None,
            attributes: Attributes::default(),
        }
    }

    fn list(sets: &[(&str, &[&str])]) -> FilesMetadata {
        let mut list = FilesMetadata::default();
        for (tar, names) in sets {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            for name in names.iter().filter(|name| name.starts_with('/')) {
                list.files.insert(name.clone(), FileMetadata::default());
            }
            list.tar_file_sets.insert((*tar).to_owned(), names);
        }
        list
    }

    fn left_over(objects: &[&str], list: &FilesMetadata) -> Vec<String> {
        let set = tell_apart(objects.iter().map(|name| object(name)).collect(), list);
        assert_eq!(set.own.len() + set.left_over.len(), objects.len());
        set.left_over.iter().map(|object| file_name(object).to_owned()).collect()
    }

    const LABEL: (&str, &[&str]) = ("backup_label.tar.zst", &["backup_label", "tablespace_map"]);

    #[test]
    fn the_list_of_files_tells_what_a_killed_backup_left() {
        let all = [
            "backup_label.tar.lz4",
            "backup_label.tar.zst",
            "copy_0.tar.lz4",
            "part_001.tar.zst",
            "part_002.tar.lz4",
            "part_002.tar.zst",
            "part_003.tar.zst",
            "pg_control.tar.lz4",
            "pg_control.tar.zst",
            "notes.txt",
        ];
        let own = [
            ("copy_0.tar.lz4", &["/base/1/1"][..]),
            ("part_001.tar.zst", &["/base/1/2"]),
            ("part_002.tar.zst", &["/base/1/3"]),
            LABEL,
        ];
        let stale = [
            "part_002.tar.lz4",
            "part_003.tar.zst",
            "notes.txt",
            "pg_control.tar.lz4",
            "backup_label.tar.lz4",
        ];
        assert_eq!(left_over(&all, &list(&own)), stale);
    }

    #[test]
    fn the_label_may_be_among_the_other_files() {
        let own = [("part_001.tar.lz4", &["/base/1/2", "backup_label"][..])];
        let all = ["part_001.tar.lz4", "backup_label.tar.lz4", "pg_control.tar.lz4"];
        assert_eq!(left_over(&all, &list(&own)), ["backup_label.tar.lz4"]);
        let silent = [("part_001.tar.lz4", &["/base/1/2"][..])];
        assert!(left_over(&all, &list(&silent)).is_empty());
    }

    #[test]
    fn nothing_is_left_over_where_the_list_does_not_tell() {
        let all = ["part_001.tar.lz4", "part_002.tar.lz4", "pg_control.tar.lz4"];
        assert!(left_over(&all, &FilesMetadata::default()).is_empty());
        let mut incomplete = list(&[("part_001.tar.lz4", &["/base/1/2"])]);
        incomplete.files.insert("/base/1/3".to_owned(), FileMetadata::default());
        assert!(left_over(&all, &incomplete).is_empty());
        if let Some(file) = incomplete.files.get_mut("/base/1/3") {
            file.is_skipped = true;
        }
        assert_eq!(left_over(&all, &incomplete), ["part_002.tar.lz4"]);
    }

    #[test]
    fn two_tars_that_nothing_tells_apart_are_both_kept() {
        let own = list(&[("part_001.tar", &["/base/1/2"])]);
        let all = ["part_001.tar", "pg_control.tar.lz4", "pg_control.tar.zst"];
        assert!(left_over(&all, &own).is_empty());
    }
}
