//! What encryption costs: the same WAL and the same cluster, with a key and without one.

use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::scratch::Scratch;

use crate::SERVER;
use crate::backlog::Backlog;
use crate::contender::{Archiver, BackupTool};
use crate::disk::{self, DataFiles};
use crate::meter::{self, Cost, Watched};
use crate::on_one_cluster::megabytes;
use crate::options::Options;
use crate::table::{Column, Form, Ratio, Table};
use crate::wal_e::WalE;

const FORM: Form = Form {
    task: "encryption",
    columns: &[
        Column::with_spread("wall_s", "wall s", 2),
        Column::new("mb_per_s", "MB/s", 0),
        Column::new("cpu_s", "CPU s", 2),
        Column::new("memory_mb", "memory MB", 0),
        Column::new("stored_mb", "stored MB", 0),
    ],
    ratios: &[
        Ratio { key: "time_of_plain", title: "x plain", column: "wall_s", against: plain_one },
        Ratio { key: "cpu_of_plain", title: "x its CPU", column: "cpu_s", against: plain_one },
    ],
    note: "MB/s: of what is archived, backed up or restored. x plain: of the time, x its CPU: of the CPU time; less \
           is better.\nopenssl: encrypts what wal_e stored with its key, in one process, and throws it away: ChaCha20 \
           without the code\n(Poly1305) that proves it.",
};

/// What is done.
#[derive(Debug, Clone, Copy)]
enum Work {
    Backlog,
    BaseBackup,
    Restore,
}

/// How it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Encrypted,
    OpenSsl,
}

impl Work {
    fn by(self, way: Way) -> String {
        let work = match self {
            Work::Backlog => "backlog",
            Work::BaseBackup => "base backup",
            Work::Restore => "restore",
        };
        format!("{work}: {}", way.name())
    }
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Plain => "wal_e, plain",
            Way::Encrypted => "wal_e, encrypted",
            Way::OpenSsl => "openssl enc -chacha20",
        }
    }
}

/// The plain row of the same work, for one that is encrypted by wal_e.
fn plain_one(name: &str) -> Vec<String> {
    let work = name.strip_suffix(Way::Encrypted.name());
    work.map(|work| format!("{work}{}", Way::Plain.name())).into_iter().collect()
}

/// Measures a backlog, a base backup and a restore on `file://`.
pub fn measure(options: &Options) -> Table {
    println!("encryption: loading pgbench at scale {} ...", options.scale);
    let mut cluster = Cluster::build(PgVersion::oldest())
        .configuration_lines(SERVER.iter().map(|line| (*line).to_owned()))
        .start();
    cluster.pgbench_init(options.scale);
    println!("encryption: writing at least {} WAL segments ...", options.segments);
    let backlog = Backlog::write(&mut cluster, options.segments);
    let data_bytes = DataFiles::of(cluster.data_directory()).bytes();
    let title =
        format!("encryption, {} segments, {:.0} MB of data", backlog.len(), megabytes(data_bytes));
    let mut bench = Bench { cluster, backlog, data_bytes, table: Table::new(&FORM, title) };
    for round in 1..=options.rounds {
        let mut ways = [Way::Plain, Way::Encrypted];
        // The first has the colder caches.
        if round % 2 == 0 {
            ways.reverse();
        }
        for way in ways {
            println!("round {round} of {}: {} ...", options.rounds, way.name());
            bench.measure(way);
        }
    }
    bench.table
}

struct Bench {
    cluster: Cluster,
    backlog: Backlog,
    /// Bytes of the cluster without its WAL.
    data_bytes: u64,
    table: Table,
}

impl Bench {
    fn measure(&mut self, way: Way) {
        let is_encrypted = way == Way::Encrypted;
        let mut wal_e = WalE::on_file();
        if is_encrypted {
            wal_e = wal_e.encrypted();
        }
        self.backlog.make_ready(&mut wal_e, &mut self.cluster);
        disk::settle(&self.cluster);
        let drained = self.backlog.drain(&wal_e, &self.cluster);
        self.add(Work::Backlog, way, &drained.cost, drained.stored_bytes);
        if is_encrypted {
            self.measure_openssl(Work::Backlog, &wal_e, "wal_005");
        }

        let before = wal_e.stored_backup_bytes();
        disk::settle(&self.cluster);
        let cost = meter::measure(wal_e.watched(), || wal_e.back_up(&self.cluster));
        let stored = wal_e.stored_backup_bytes() - before;
        self.add(Work::BaseBackup, way, &cost, stored);
        if is_encrypted {
            self.measure_openssl(Work::BaseBackup, &wal_e, "basebackups_005");
        }

        let scratch = Scratch::new();
        let target = scratch.create("restored");
        disk::sync();
        // No server takes part in it.
        let program = Watched { server_processes: &[], ..wal_e.watched() };
        let cost = meter::measure(program, || wal_e.restore(&target));
        self.add(Work::Restore, way, &cost, stored);
    }

    /// What there is to encrypt in a folder of the archive, by itself.
    fn measure_openssl(&mut self, work: Work, wal_e: &WalE, folder: &str) {
        let folder = wal_e.archive().directory().join(folder);
        let stored = disk::files_below(&folder).into_iter().map(|(_, bytes)| bytes).sum();
        let cost = disk::encrypt(&folder);
        self.add(work, Way::OpenSsl, &cost, stored);
    }

    fn add(&mut self, work: Work, way: Way, cost: &Cost, stored_bytes: u64) {
        println!("    {}: {cost}", work.by(way));
        let raw_bytes = match work {
            Work::Backlog => self.backlog.bytes(),
            Work::BaseBackup | Work::Restore => self.data_bytes,
        };
        let figures = [
            ("wall_s", cost.wall.as_secs_f64()),
            ("mb_per_s", megabytes(raw_bytes) / cost.wall.as_secs_f64()),
            ("cpu_s", cost.cpu.as_secs_f64()),
            ("memory_mb", megabytes(cost.memory.sum)),
            ("stored_mb", megabytes(stored_bytes)),
        ];
        self.table.add(&work.by(way), figures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encrypted_is_held_against_the_same_that_is_not() {
        let encrypted = Work::Restore.by(Way::Encrypted);
        let ratios = FORM.ratios.iter().map(|ratio| (ratio.against)(&encrypted));
        assert!(ratios.into_iter().all(|peers| peers == [Work::Restore.by(Way::Plain)]));
        assert!(plain_one(&Work::Backlog.by(Way::OpenSsl)).is_empty());
    }
}
