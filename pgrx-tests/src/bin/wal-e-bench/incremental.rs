//! Incremental base backups: some pages of a large table are changed, and what has changed is
//! backed up.
//!
//! Each incremental backup builds on a full one that was taken right before the change, and
//! after it there is a full one of the same state, which the next one builds on. Each way to
//! know what has changed has a cluster of its own, on each version of PostgreSQL that has it.

mod changes;
mod source;

use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::scratch::Scratch;

use crate::SERVER;
use crate::contender::{Archiver, BackupTool};
use crate::disk::{self, DataFiles};
use crate::meter::{self, Cost, Watched};
use crate::on_one_cluster::{BACKUP_WORKER, megabytes};
use crate::options::Options;
use crate::pgbackrest::{self, Archiving, PgBackRest};
use crate::table::{Column, Figures, Form, Ratio, Table};
use crate::wal_e::WalE;
use changes::{Accounts, ChangedPages};
use source::Source;

const BACKUP: Form = Form {
    task: "incremental",
    columns: &[
        Column::with_spread("wall_s", "wall s", 2),
        Column::new("cpu_s", "CPU s", 2),
        Column::new("largest_mb", "largest MB", 0),
        Column::new("read_mb", "read MB", 1),
        Column::new("stored_mb", "stored MB", 2),
        Column::new("changed_percent", "changed %", 2),
    ],
    ratios: &[
        TIME_OF_FULL,
        Ratio {
            key: "time_of_pgbackrest",
            title: "x pgBackRest",
            column: "wall_s",
            against: |name| beside(name, &[Row::Delta], Row::PgBackRest),
        },
        Ratio {
            key: "stored_of_changed",
            title: "stored x lz4",
            column: "stored_mb",
            against: |name| beside(name, &[Row::Delta, Row::PgBackRest], Row::Pages),
        },
    ],
    note: "changed: of the pages of pgbench_accounts, as wanted and, in the row of the changed pages, as counted. That \
           row has the\npages of all tables and indexes with an LSN since the full backup, compressed by one lz4. \
           read: of the cluster's files.\nx full, x pgBackRest: of the time; less is better. stored x lz4: of what \
           is stored; 1 is nothing but the pages. wal_e\nwaits until its WAL is archived; pgBackRest does not \
           (--no-archive-check), and looks at whole files: each that has\nchanged is copied. All files are in \
           the cache of the system.",
};

const RESTORE: Form = Form {
    task: "incremental-restore",
    columns: &[
        Column::with_spread("wall_s", "wall s", 2),
        Column::new("cpu_s", "CPU s", 2),
        Column::new("memory_mb", "memory MB", 0),
    ],
    ratios: &[TIME_OF_FULL],
    note: "The same state: from the full backup before the change and the incremental one, and from a full one.",
};

const TIME_OF_FULL: Ratio = Ratio {
    key: "time_of_full",
    title: "x full",
    column: "wall_s",
    against: |name| beside(name, &[Row::Delta], Row::Full),
};

/// What is measured for each share of changed pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Pages,
    Delta,
    Full,
    PgBackRest,
}

impl Row {
    fn name(self, percent: f64) -> String {
        format!("{percent}% changed: {}", self.kind())
    }

    fn kind(self) -> &'static str {
        match self {
            Row::Pages => "the pages, lz4 -1",
            Row::Delta => "wal_e, incremental",
            Row::Full => "wal_e, full",
            Row::PgBackRest => "pgBackRest, incr",
        }
    }
}

/// The row of `other` for the same share, if the row of this name is one of `rows`.
fn beside(name: &str, rows: &[Row], other: Row) -> Vec<String> {
    let share = rows.iter().find_map(|row| name.strip_suffix(row.kind()));
    share.map(|share| format!("{share}{}", other.kind())).into_iter().collect()
}

/// Measures each source of changed blocks on each version that has it: two tables for each.
pub fn measure(options: &Options) -> Vec<Table> {
    let mut tables = Vec::new();
    for version in PgVersion::complete() {
        for source in Source::ALL {
            if source.is_in(*version) && options.wants_tool(source.name()) {
                tables.extend(Bench::begin(options, *version, source).measure());
            }
        }
    }
    tables
}

/// A cluster, and what came out.
struct Bench<'a> {
    options: &'a Options,
    source: Source,
    cluster: Cluster,
    accounts: Accounts,
    wal_e: WalE,
    /// The newest full backup.
    full: String,
    pgbackrest: Option<PgBackRest>,
    backups: Table,
    restores: Table,
}

impl Bench<'_> {
    /// Loads the tables, and takes full backups of them.
    fn begin(options: &Options, version: PgVersion, source: Source) -> Bench<'_> {
        let name = format!("PostgreSQL {}, {}", version.major(), source.name());
        println!("incremental, {name}: loading pgbench at scale {} ...", options.scale);
        let wal_e = WalE::on_file();
        let cluster = Cluster::build(version)
            .configuration_lines(SERVER.iter().map(|line| (*line).to_owned()))
            // Nothing is archived twice.
            .configuration("wal_keep_size = 0")
            .configuration("archive_command = ''")
            .configuration_lines(wal_e.settings_idle())
            .configuration(wal_e.setting_to_begin())
            .configuration_lines(source.settings().iter().map(|line| (*line).to_owned()))
            .start();
        cluster.execute("CREATE EXTENSION wal_e");
        let accounts = Accounts::load(&cluster, options.scale);
        // The one of Debian 12 knows no newer version than the oldest.
        let is_compared = version == PgVersion::oldest() && options.wants_tool(pgbackrest::NAME);
        let pgbackrest = is_compared.then(|| {
            let mut pgbackrest = PgBackRest::new(&cluster, Archiving::OneAtATime);
            pgbackrest.prepare(&cluster);
            pgbackrest.back_up_without_archiving("full");
            pgbackrest
        });
        let full = cluster.query_one("SELECT wale_backup_push()");
        let bytes = DataFiles::of(cluster.data_directory()).bytes();
        let title = format!("{name}, {:.0} MB", megabytes(bytes));
        Bench {
            options,
            source,
            cluster,
            accounts,
            wal_e,
            full,
            pgbackrest,
            backups: Table::new(&BACKUP, format!("incremental, {title}")),
            restores: Table::new(&RESTORE, format!("restore, {title}")),
        }
    }

    fn measure(mut self) -> [Table; 2] {
        let rounds = self.options.rounds;
        for round in 1..=rounds {
            for percent in &self.options.changed_percents {
                println!("round {round} of {rounds}: {percent}% of the pages change ...");
                self.measure_change(*percent, round % 2 == 0);
            }
        }
        [self.backups, self.restores]
    }

    fn measure_change(&mut self, percent: f64, full_is_restored_first: bool) {
        self.accounts.change(&self.cluster, percent);
        self.cluster.archive_current_wal();
        self.settle();
        self.look_at_pages(percent);

        let log_offset = self.cluster.log_offset();
        let delta =
            self.back_up(Row::Delta, percent, "SELECT wale_backup_push(incremental => true)");
        assert!(delta.contains("_D_"), "{delta} is not incremental:\n{}", self.cluster.log_tail());
        self.source.assert_used(&self.cluster, log_offset);
        self.back_up_with_pgbackrest(percent);
        let full = self.back_up(Row::Full, percent, "SELECT wale_backup_push()");

        let mut restored = [(Row::Delta, &delta), (Row::Full, &full)];
        if full_is_restored_first {
            restored.reverse();
        }
        for (row, backup) in restored {
            self.restore(row, percent, backup);
        }
        self.wal_e.delete_before(&full);
        self.full = full;
    }

    /// What there is to be stored.
    fn look_at_pages(&mut self, percent: f64) {
        let since = self.wal_e.archive().backup_sentinel(&self.full)["LSN"].as_u64();
        let since = since.expect("a sentinel has the LSN where the backup began");
        let pages = ChangedPages::since(since, &self.cluster, &self.accounts);
        let figures = Figures::from([
            ("read_mb", megabytes(pages.bytes())),
            ("stored_mb", megabytes(pages.compressed_bytes)),
            ("changed_percent", pages.percent_of(&self.accounts)),
        ]);
        println!("    {:.1} MB in pages that have changed", megabytes(pages.bytes()));
        self.backups.add(&Row::Pages.name(percent), figures);
    }

    /// Takes a base backup, and names it.
    fn back_up(&mut self, row: Row, percent: f64, sql: &str) -> String {
        self.settle();
        let before = self.wal_e.stored_backup_bytes();
        let mut name = String::new();
        let cost = meter::measure(self.wal_e.watched(), || name = self.cluster.query_one(sql));
        println!("    {}: {cost}", row.kind());
        let stored = self.wal_e.stored_backup_bytes() - before;
        let mut figures = figures(&cost, cost.memory.largest_of(BACKUP_WORKER), stored);
        let read = self.cluster.query_one("SELECT bytes_read FROM wale_backup_progress()");
        figures.insert("read_mb", megabytes(read.parse().expect("a size is a number")));
        self.backups.add(&row.name(percent), figures);
        name
    }

    fn back_up_with_pgbackrest(&mut self, percent: f64) {
        self.settle();
        let Some(pgbackrest) = &self.pgbackrest else { return };
        let before = pgbackrest.stored_backup_bytes();
        let cost = meter::measure(pgbackrest.watched(), || {
            pgbackrest.back_up_without_archiving("incr");
        });
        println!("    {}: {cost}", Row::PgBackRest.kind());
        let stored = pgbackrest.stored_backup_bytes() - before;
        let figures = figures(&cost, cost.memory.largest(), stored);
        self.backups.add(&Row::PgBackRest.name(percent), figures);
    }

    fn restore(&mut self, row: Row, percent: f64, backup: &str) {
        let scratch = Scratch::new();
        let target = scratch.create("restored");
        // No server takes part in it.
        let program = Watched { server_processes: &[], ..self.wal_e.watched() };
        disk::sync();
        let cost = meter::measure(program, || self.wal_e.restore_backup(backup, &target));
        println!("    {}, restored: {cost}", row.kind());
        let figures = [
            ("wall_s", cost.wall.as_secs_f64()),
            ("cpu_s", cost.cpu.as_secs_f64()),
            ("memory_mb", megabytes(cost.memory.sum)),
        ];
        self.restores.add(&row.name(percent), figures);
    }

    /// No contender pays for what happened before.
    fn settle(&self) {
        disk::settle(&self.cluster);
        self.source.wait_until_settled(&self.cluster);
    }
}

fn figures(cost: &Cost, largest: Option<u64>, stored_bytes: u64) -> Figures {
    let mut figures = Figures::from([
        ("wall_s", cost.wall.as_secs_f64()),
        ("cpu_s", cost.cpu.as_secs_f64()),
        ("stored_mb", megabytes(stored_bytes)),
    ]);
    figures.extend(largest.map(|bytes| ("largest_mb", megabytes(bytes))));
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incremental_backup_is_held_against_what_has_the_same_change() {
        let delta = Row::Delta.name(5.0);
        assert_eq!(delta, "5% changed: wal_e, incremental");
        let ratios = BACKUP.ratios.iter().map(|ratio| (ratio.against)(&delta));
        let peers = [Row::Full, Row::PgBackRest, Row::Pages].map(|row| vec![row.name(5.0)]);
        assert!(ratios.eq(peers));
        assert!((TIME_OF_FULL.against)(&Row::Full.name(5.0)).is_empty());
    }
}
