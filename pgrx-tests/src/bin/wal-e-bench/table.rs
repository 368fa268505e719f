//! The tables that are printed at the end.

use std::fmt;

use crate::backlog::Backlog;
use crate::meter::Cost;

/// How the backlog was archived, in the order of measuring.
#[derive(Debug, Default)]
pub struct BacklogTable {
    rows: Vec<BacklogRow>,
    /// CPU time per byte of bare lz4, of each round.
    yardsticks: Vec<f64>,
}

#[derive(Debug)]
struct BacklogRow {
    contender: String,
    cost: Cost,
    segments: usize,
    raw_bytes: u64,
    stored_bytes: u64,
}

impl BacklogRow {
    fn cpu_seconds_per_byte(&self) -> f64 {
        self.cost.cpu.as_secs_f64() / self.raw_bytes as f64
    }
}

impl BacklogTable {
    /// Adds what bare lz4 needed for the same bytes.
    pub fn add_yardstick(&mut self, cost: Cost, backlog: &Backlog, stored_bytes: u64) {
        self.add("lz4 -1, nothing else".to_owned(), cost, backlog, stored_bytes);
        self.yardsticks.extend(self.rows.last().map(BacklogRow::cpu_seconds_per_byte));
    }

    /// Adds a measurement.
    pub fn add(&mut self, contender: String, cost: Cost, backlog: &Backlog, stored_bytes: u64) {
        print_at_once("backlog", &cost);
        let (segments, raw_bytes) = (backlog.len(), backlog.bytes());
        self.rows.push(BacklogRow { contender, cost, segments, raw_bytes, stored_bytes });
    }
}

impl fmt::Display for BacklogTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:32} {:>8} {:>10} {:>8} {:>8} {:>7} {:>10} {:>6}",
            "WAL backlog",
            "wall s",
            "segments/s",
            "MB/s",
            "CPU s/GB",
            "x lz4",
            "memory MB",
            "ratio"
        )?;
        let of_lz4 = self.yardsticks.iter().sum::<f64>() / self.yardsticks.len() as f64;
        for row in &self.rows {
            let wall = row.cost.wall.as_secs_f64();
            writeln!(
                f,
                "{:32} {:8.1} {:10.1} {:8.0} {:8.2} {:7.2} {:10.0} {:6.2}",
                row.contender,
                wall,
                row.segments as f64 / wall,
                megabytes(row.raw_bytes) / wall,
                row.cpu_seconds_per_byte() * 1e9,
                row.cpu_seconds_per_byte() / of_lz4,
                megabytes(row.cost.memory.sum),
                row.stored_bytes as f64 / row.raw_bytes as f64,
            )?;
        }
        Ok(())
    }
}

/// Base backups and restores, in the order in which they were measured.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    task: &'static str,
    contender: String,
    cost: Cost,
    raw_bytes: u64,
    stored_bytes: u64,
}

impl Table {
    /// Adds a measurement: `raw_bytes` went in or came out, `stored_bytes` of the
    /// store held them.
    pub fn add(
        &mut self,
        task: &'static str,
        contender: String,
        cost: Cost,
        raw_bytes: u64,
        stored_bytes: u64,
    ) {
        print_at_once(task, &cost);
        self.rows.push(Row { task, contender, cost, raw_bytes, stored_bytes });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:12} {:32} {:>8} {:>8} {:>8} {:>10} {:>10} {:>6}",
            "task", "tool", "wall s", "MB/s", "CPU s", "memory MB", "stored MB", "ratio"
        )?;
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        // Stable: within a task the rows stay in the order of measuring.
        rows.sort_by_key(|row| row.task);
        for row in rows {
            let wall = row.cost.wall.as_secs_f64();
            writeln!(
                f,
                "{:12} {:32} {:8.1} {:8.0} {:8.1} {:10.0} {:10.0} {:6.2}",
                row.task,
                row.contender,
                wall,
                megabytes(row.raw_bytes) / wall,
                row.cost.cpu.as_secs_f64(),
                megabytes(row.cost.memory.sum),
                megabytes(row.stored_bytes),
                row.stored_bytes as f64 / row.raw_bytes as f64,
            )?;
        }
        Ok(())
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A line while the rest is still being measured.
fn print_at_once(task: &str, cost: &Cost) {
    let processes = cost.memory.largest.iter();
    let processes: Vec<String> =
        processes.map(|(kind, bytes)| format!("{kind} {:.0} MB", megabytes(*bytes))).collect();
    println!(
        "    {task}: {:.1} s, {:.1} s of CPU, largest process: {}",
        cost.wall.as_secs_f64(),
        cost.cpu.as_secs_f64(),
        processes.join(", "),
    );
}
