//! Which base backups build on one another, and what that saves.

use std::collections::HashMap;

use super::backup_info::BackupInfo;

/// What a base backup builds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupChain {
    /// Its name.
    pub backup_name: String,
    /// The backup that it is a delta of; `None` for a full one.
    pub delta_from: Option<String>,
    /// The full backup with which its chain begins: itself, if it is full. `None` when a backup
    /// of the chain is missing or damaged, so that it cannot be restored.
    pub full_backup: Option<String>,
    /// How many deltas the chain has, as far as it is there.
    pub deltas: u32,
    /// Stored bytes of the tars of the whole chain, which a restore reads.
    pub restore_bytes: Option<u64>,
    /// Bytes of all files of the cluster.
    pub cluster_bytes: Option<u64>,
    /// How many of them are not in the backup itself.
    pub saved_bytes: Option<u64>,
}

/// The chains of all backups of a prefix, in their order.
pub fn chains(backups: Vec<BackupInfo>) -> Vec<BackupChain> {
    let by_name: HashMap<&str, &BackupInfo> =
        backups.iter().map(|backup| (backup.name.as_str(), backup)).collect();
    backups.iter().map(|backup| chain_of(backup, &by_name)).collect()
}

fn chain_of(backup: &BackupInfo, by_name: &HashMap<&str, &BackupInfo>) -> BackupChain {
    let mut deltas = 0;
    let mut restore_bytes = backup.compressed_bytes;
    let mut last = backup;
    // A chain is no longer than there are backups, unless it goes in a circle.
    for _ in 0..by_name.len() {
        let Some(parent) = &last.delta_from else { break };
        deltas += 1;
        let Some(parent) = by_name.get(parent.as_str()) else { break };
        restore_bytes = restore_bytes.zip(parent.compressed_bytes).map(|(sum, of)| sum + of);
        last = parent;
    }
    let is_whole = last.unreadable.is_none() && last.delta_from.is_none();
    let BackupInfo { cluster_bytes, uncompressed_bytes, .. } = *backup;
    let saved_bytes = cluster_bytes.zip(uncompressed_bytes);
    BackupChain {
        backup_name: backup.name.clone(),
        delta_from: backup.delta_from.clone(),
        full_backup: is_whole.then(|| last.name.clone()),
        deltas,
        restore_bytes: restore_bytes.filter(|_| is_whole),
        cluster_bytes,
        saved_bytes: saved_bytes.map(|(cluster, stored)| cluster.saturating_sub(stored)),
    }
}

#[cfg(test)]
mod tests;
