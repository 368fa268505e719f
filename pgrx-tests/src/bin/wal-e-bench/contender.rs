//! Who is measured.

use std::path::Path;

use wal_e_e2e::cluster::Cluster;

use crate::bare::Copying;
use crate::meter::Watched;
use crate::options::Options;
use crate::pgbackrest::{Archiving, PgBackRest};
use crate::wal_e::WalE;
use crate::wal_rus::WalRus;

/// A product that archives WAL.
pub trait Archiver {
    /// As the table names it.
    fn name(&self) -> String;
    /// The lines of `postgresql.conf` with which the server is started, and
    /// still archives nothing.
    fn settings_idle(&self) -> Vec<String>;
    /// The line that makes archiving begin at the next reload.
    fn setting_to_begin(&self) -> String;
    /// What has to exist in the store before.
    fn prepare(&mut self, cluster: &Cluster);
    /// Whose memory counts.
    fn watched(&self) -> Watched;
    /// Bytes stored now for WAL.
    fn stored_wal_bytes(&self) -> u64;
}

/// A product that also takes base backups.
pub trait BackupTool: Archiver {
    /// Takes a base backup; returns when it is complete.
    fn back_up(&self, cluster: &Cluster);
    /// Restores the newest backup into a new directory, and syncs it.
    fn restore(&self, target: &Path);
    /// Bytes stored now for base backups.
    fn stored_backup_bytes(&self) -> u64;
}

/// Who takes part in which task.
pub enum Contender {
    Archiving(Box<dyn Archiver>),
    All(Box<dyn BackupTool>),
}

impl Contender {
    pub fn archiver(&mut self) -> &mut dyn Archiver {
        match self {
            Contender::Archiving(archiver) => archiver.as_mut(),
            Contender::All(tool) => tool.as_mut(),
        }
    }
}

/// Makes a contender when its turn has come, so that only one store holds
/// anything at a time.
pub type Entry = Box<dyn Fn(&Cluster) -> Contender>;

/// All contenders, in the order of the table.
pub fn entries(options: &Options) -> Vec<Entry> {
    let mut entries: Vec<Entry> = vec![
        Box::new(|_| Contender::Archiving(Box::new(Copying::new()))),
        Box::new(|_| Contender::All(Box::new(WalE::on_file()))),
        Box::new(|cluster| {
            Contender::All(Box::new(PgBackRest::new(cluster, Archiving::OneAtATime)))
        }),
        Box::new(|cluster| {
            Contender::Archiving(Box::new(PgBackRest::new(cluster, Archiving::Ahead)))
        }),
        Box::new(|_| Contender::All(Box::new(WalE::on_s3()))),
    ];
    for latency in options.latencies() {
        entries.push(Box::new(move |_| {
            Contender::Archiving(Box::new(WalE::on_s3_with_latency(latency)))
        }));
        entries.push(Box::new(move |_| {
            Contender::Archiving(Box::new(WalRus::on_s3_with_latency(latency)))
        }));
    }
    entries
}
