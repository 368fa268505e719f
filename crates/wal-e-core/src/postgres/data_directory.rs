//! What of a data directory belongs in a base backup.
//!
//! The rules are those of PostgreSQL's own base backups (PostgreSQL 15,
//! `src/backend/backup/basebackup.c`, `excludeDirContents`, `excludeFiles` and
//! `sendDir`; documented at
//! <https://www.postgresql.org/docs/15/protocol-replication.html>), and server
//! logs and signal files are left out as WAL-G leaves them out.
//!
//! Paths here are relative to the data directory, with `/` between components.

use std::ffi::OsStr;

/// Directories whose content the server makes again; they are kept, empty.
const EMPTIED_DIRECTORIES: [&str; 11] = [
    "log",
    "pg_dynshmem",
    "pg_log",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_wal",
    "pg_xlog",
];

/// Files of the top level that must not be in a restored cluster, or that a
/// restore brings from elsewhere.
const EXCLUDED_FILES: [&str; 11] = [
    BACKUP_LABEL,
    "backup_label.old",
    BACKUP_MANIFEST,
    "current_logfiles.tmp",
    "postgresql.auto.conf.tmp",
    "postmaster.opts",
    "postmaster.pid",
    "recovery.conf",
    "recovery.signal",
    "standby.signal",
    TABLESPACE_MAP,
];

/// What stands at the top of a data directory, and belongs into every backup of it, with content
/// or without.
pub const OWN_NAMES: [&str; 22] = [
    "PG_VERSION",
    "base",
    "global",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_hba.conf",
    "pg_ident.conf",
    "pg_logical",
    "pg_multixact",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_wal",
    "pg_xact",
    "postgresql.auto.conf",
    "postgresql.conf",
];

/// What a file system, not PostgreSQL, puts into its root, which may be the data directory:
/// what `fsck` found (ext), and the snapshots of some network storage.
const OF_FILE_SYSTEM: [&str; 2] = ["lost+found", ".snapshot"];

/// Whether a file system has this at its top by itself, and no user can remove it.
pub fn is_of_file_system(name: &OsStr) -> bool {
    OF_FILE_SYSTEM.iter().any(|own| name == *own)
}

/// The control file.
pub const CONTROL_FILE: &str = "global/pg_control";

/// Says where replay begins to a server that starts from a base backup.
pub const BACKUP_LABEL: &str = "backup_label";

/// Where the tablespaces of a base backup are.
pub const TABLESPACE_MAP: &str = "tablespace_map";

/// What `pg_verifybackup` reads.
pub const BACKUP_MANIFEST: &str = "backup_manifest";

/// How the names of wal_e's own files in the data directory begin.
pub const UNFINISHED_BACKUP: &str = "wal_e.unfinished_backup";

/// Where `backup-fetch` notes what it has restored, until all is.
pub const UNFINISHED_RESTORE: &str = "wal_e.unfinished_restore";

/// What makes a server recover when it starts.
pub const RECOVERY_SIGNAL: &str = "recovery.signal";

/// What makes a server a standby when it starts.
pub const STANDBY_SIGNAL: &str = "standby.signal";

/// The permissions of a server's files: those of its data directory show whether the
/// group may read them (PostgreSQL 15, `file_perm.c`, `SetDataDirectoryCreatePerm`).
pub fn file_mode(data_directory_mode: u32) -> u32 {
    match data_directory_mode & 0o750 {
        0o750 => 0o640,
        _ => 0o600,
    }
}

/// Where a cluster remembers which prefixes it has claimed.
pub const KNOWN_PREFIXES: &str = "wal_e.known_prefixes";

/// Where a data directory remembers which base backups were taken of it.
pub const TAKEN_BACKUPS: &str = "wal_e.taken_backups";

/// Whether a directory is kept without its content.
pub fn is_emptied(directory: &str) -> bool {
    EMPTIED_DIRECTORIES.contains(&directory)
}

/// Whether a file or directory is left out altogether because of its own name.
pub fn is_excluded(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    // pg_control goes into a tar of its own.
    EXCLUDED_FILES.contains(&path)
        || OF_FILE_SYSTEM.contains(&path)
        || path == CONTROL_FILE
        || path.starts_with(UNFINISHED_BACKUP)
        || path.starts_with(KNOWN_PREFIXES)
        || path.starts_with(TAKEN_BACKUPS)
        || is_note_of_restore(path)
        || name.starts_with("pgsql_tmp")
        || name.starts_with("pg_internal.init")
        || relation_file(path).is_some_and(|file| file.temporary)
}

/// Whether a file is one of those that a restore keeps until it is finished: in the data
/// directory, and in each tablespace's own.
pub fn is_note_of_restore(path: &str) -> bool {
    let in_tablespace = path.strip_prefix("pg_tblspc/").and_then(|path| path.split_once('/'));
    in_tablespace.map_or(path, |(_oid, inside)| inside).starts_with(UNFINISHED_RESTORE)
}

/// A file of a table or index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelationFile<'a> {
    /// Directory and relation number: what all forks and segments share.
    pub relation: &'a str,
    /// `fsm`, `vm`, `init`; `None` is the main fork.
    pub fork: Option<&'a str>,
    /// Number of the segment file, from 0.
    pub segment: u32,
    /// Of a temporary table.
    pub temporary: bool,
}

/// What a path says when it is that of a table's or an index's file.
pub fn relation_file(path: &str) -> Option<RelationFile<'_>> {
    let (directory, name) = path.rsplit_once('/')?;
    let in_relation_directory = directory == "global"
        || is_in_database_directory(directory, "base/", 1)
        || is_in_database_directory(directory, "pg_tblspc/", 3);
    if !in_relation_directory {
        return None;
    }
    let temporary = name.starts_with('t');
    let (stem, segment) = match name.split_once('.') {
        None => (name, 0),
        Some((stem, segment)) => (stem, digits(segment)?),
    };
    let main = if temporary {
        // t<backend>_<relation>
        let (backend, relation) = stem[1..].split_once('_')?;
        digits(backend)?;
        relation
    } else {
        stem
    };
    let (number, fork) = match main.split_once('_') {
        None => (main, None),
        Some((number, fork @ ("fsm" | "vm" | "init"))) => (number, Some(fork)),
        Some(_) => return None,
    };
    digits(number)?;
    let relation_end = directory.len() + 1 + stem.len() - fork.map_or(0, |fork| fork.len() + 1);
    Some(RelationFile { relation: &path[..relation_end], fork, segment, temporary })
}

/// `base/<oid>` has one component after its beginning,
/// `pg_tblspc/<oid>/PG_15_.../<oid>` three.
fn is_in_database_directory(directory: &str, beginning: &str, components: usize) -> bool {
    directory.strip_prefix(beginning).is_some_and(|rest| {
        rest.split('/').count() == components
            && rest.rsplit('/').next().is_some_and(|oid| digits(oid).is_some())
    })
}

fn digits(text: &str) -> Option<u32> {
    let sound = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    sound.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_may_read_files_where_it_may_read_the_directory() {
        for (directory, file) in [
            (0o700, 0o600),
            (0o750, 0o640),
            (0o40750, 0o640),
            (0o755, 0o640),
            (0o710, 0o600),
            (0o740, 0o600),
        ] {
            assert_eq!(file_mode(directory), file, "{directory:o}");
        }
    }

    #[test]
    fn relation_files_are_recognised() {
        let file = relation_file("base/5/16384_fsm.2").unwrap();
        assert_eq!(file.relation, "base/5/16384");
        assert_eq!((file.fork, file.segment, file.temporary), (Some("fsm"), 2, false));
        let file = relation_file("pg_tblspc/16390/PG_15_202209061/5/16391").unwrap();
        assert_eq!((file.fork, file.segment), (None, 0));
        assert!(relation_file("base/5/t3_16384").unwrap().temporary);
        assert!(relation_file("global/1262").is_some());
        for path in [
            "base/5/PG_VERSION",
            "base/5/pg_filenode.map",
            "PG_VERSION",
            "base/x/1",
            "pg_xact/0000",
            "base/5/1_x",
            "base/5/1.x",
            "base/5/sub/1",
        ] {
            assert!(relation_file(path).is_none(), "{path}");
        }
    }

    #[test]
    fn what_the_server_makes_anew_is_left_out() {
        for path in [
            "postmaster.pid",
            "backup_label",
            "base/pgsql_tmp",
            "base/5/pg_internal.init",
            "global/pg_internal.init.123",
            "base/5/t3_16384_vm",
            "global/pg_control",
            "wal_e.unfinished_restore",
            "wal_e.known_prefixes",
            "wal_e.taken_backups",
            "wal_e.taken_backups.tmp9",
            "pg_tblspc/16384/wal_e.unfinished_restore",
            "lost+found",
            ".snapshot",
        ] {
            assert!(is_excluded(path), "{path}");
        }
        for path in [
            "postgresql.conf",
            "postgresql.auto.conf",
            "base/5/16384",
            "base/5/backup_label",
            "PG_VERSION",
            "pg_hba.conf",
            "global/pg_filenode.map",
        ] {
            assert!(!is_excluded(path), "{path}");
        }
        assert!(is_emptied("pg_wal") && is_emptied("pg_replslot") && !is_emptied("pg_xact"));
    }
}
