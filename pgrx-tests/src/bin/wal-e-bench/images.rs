//! What full-page images cost: one workload, with each `wal_compression` of the server.
//!
//! WAL-E's users asked whether the images should be stripped from archived WAL, as
//! pg_lesslog did. What that could save at most is seen from the same workload without
//! images: with `full_page_writes` off, a record has the bytes that a stripped one would
//! need. The images that are left there are those of hint bits, which protect the
//! checksums of pages and could not be stripped either.
//!
//! Each setting begins with a copy of the same cluster and runs the same transactions.
//! What was written is archived twice, by wal_e with LZ4 and with zstd, and a copy of the
//! cluster recovers from the first of these.

mod workload;

use std::time::Duration;

use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::process::run_within;
use wal_e_e2e::restore::restore_command;
use wal_e_e2e::wal_e::wal_e;

use crate::backlog::{Backlog, Drained};
use crate::contender::Archiver;
use crate::on_one_cluster::megabytes;
use crate::options::Options;
use crate::recovery;
use crate::table::{Column, Figures, Form, Ratio, Table, against};
use crate::wal_e::WalE;
use workload::{Base, Written};

const FORM: Form = Form {
    task: "images",
    columns: &[
        Column::with_spread("wal_mb", "WAL MB", 0),
        Column::new("images_mb", "images MB", 0),
        Column::new("lz4_mb", "lz4 MB", 0),
        Column::new("zstd_mb", "zstd MB", 0),
        Column::new("lz4_strippable_mb", "strip lz4", 0),
        Column::new("zstd_strippable_mb", "strip zstd", 0),
        Column::new("lz4_archiver_cpu_s", "CPU lz4 s", 2),
        Column::new("zstd_archiver_cpu_s", "CPU zstd s", 2),
        Column::new("server_cpu_s", "server CPU s", 2),
        Column::new("workload_s", "workload s", 1),
        Column::new("replay_s", "replay s", 2),
    ],
    ratios: &[Ratio {
        key: "lz4_of_no_compression",
        title: "lz4 x off",
        column: "lz4_mb",
        against: |name| against(name != UNCOMPRESSED, &[UNCOMPRESSED]),
    }],
    note: "images: their bytes in the WAL, by pg_waldump. lz4, zstd: stored by wal_e. strip: what would not be \
           stored without images:\nthe difference to the first row. CPU: of the archiver. replay: through \
           wal-fetch from what is stored with lz4.\nA value of wal_compression that has no row is one that the server was not built with.",
};

/// The row of `wal_compression = off`.
const UNCOMPRESSED: &str = "wal_compression = off";

/// The row without images.
const WITHOUT_IMAGES: &str = "full_page_writes = off";

/// The longest that one command may take before the run counts as hung.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures the settings that the server knows.
pub fn measure(options: &Options) -> Table {
    println!("images: loading pgbench at scale {} ...", options.scale);
    let base = Base::load(options.scale);
    let mut compressions = base.compressions();
    println!("images: the server knows wal_compression = {}", compressions.join(", "));
    let title = format!("{} transactions", options.transactions);
    let mut table = Table::new(&FORM, title);
    for round in 1..=options.rounds {
        let announce = |name: &str| println!("round {round} of {}: {name} ...", options.rounds);
        announce(WITHOUT_IMAGES);
        let without = figures(&base, &["full_page_writes = off"], options.transactions);
        table.add(WITHOUT_IMAGES, without.clone());
        for compression in &compressions {
            let name = format!("wal_compression = {compression}");
            announce(&name);
            let mut figures = figures(&base, &[&name], options.transactions);
            for (key, stored) in
                [("lz4_strippable_mb", "lz4_mb"), ("zstd_strippable_mb", "zstd_mb")]
            {
                figures.insert(key, figures[stored] - without[stored]);
            }
            table.add(&name, figures);
        }
        compressions.reverse();
    }
    table
}

/// Runs the workload with these lines of `postgresql.conf`; all figures but those that need
/// another run.
fn figures(base: &Base, settings: &[&str], transactions: u32) -> Figures {
    let mut cluster = base.copy(settings);
    let mut written = None;
    let backlog = Backlog::of(&mut cluster, |cluster| {
        written = Some(Written::by(cluster, transactions));
    });
    let written = written.expect("the workload was run");
    let lz4 = archive(WalE::on_file(), &backlog, &mut cluster);
    let zstd = archive(WalE::on_file().compressed_with("zstd"), &backlog, &mut cluster);
    println!(
        "    workload: {:.1} s, archived with lz4: {}",
        written.wall.as_secs_f64(),
        lz4.0.cost
    );
    cluster.stop(StopMode::Fast);
    drop(cluster);
    let recovered = recovery::measure(base.directory(), &restore_command(lz4.1.archive()));
    assert!(recovered.end >= written.end, "replay ended before the workload did");
    println!("    replay: {}", recovered.cost);
    Figures::from([
        ("wal_mb", megabytes(written.wal_bytes())),
        ("images_mb", megabytes(written.image_bytes)),
        ("lz4_mb", megabytes(lz4.0.stored_bytes)),
        ("zstd_mb", megabytes(zstd.0.stored_bytes)),
        ("lz4_archiver_cpu_s", lz4.0.cost.cpu.as_secs_f64()),
        ("zstd_archiver_cpu_s", zstd.0.cost.cpu.as_secs_f64()),
        ("server_cpu_s", written.server_cpu.as_secs_f64()),
        ("workload_s", written.wall.as_secs_f64()),
        ("replay_s", recovered.cost.wall.as_secs_f64()),
    ])
}

/// Archives the backlog, and before it what a recovery of the base needs besides.
fn archive(mut archiver: WalE, backlog: &Backlog, cluster: &mut Cluster) -> (Drained, WalE) {
    backlog.make_ready(&mut archiver, cluster);
    for name in cluster.done_files() {
        let mut push = wal_e(archiver.archive());
        push.args(["wal-push", "-p", "1"]).arg(cluster.data_directory().join("pg_wal").join(name));
        run_within(PATIENCE, &mut push).success();
    }
    let drained = backlog.drain(&archiver as &dyn Archiver, cluster);
    (drained, archiver)
}
