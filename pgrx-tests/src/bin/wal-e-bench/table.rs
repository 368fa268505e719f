//! The table that is printed at the end.

use std::fmt;

use crate::Contender;
use crate::meter::Cost;

/// Rows in the order in which they were measured.
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
        contender: &dyn Contender,
        cost: Cost,
        raw_bytes: u64,
        stored_bytes: u64,
    ) {
        let row = Row { task, contender: contender.name(), cost, raw_bytes, stored_bytes };
        let processes = row.cost.memory.largest.iter();
        let processes: Vec<String> = processes
            .map(|(kind, bytes)| format!("{kind} {:.0} MB", *bytes as f64 / 1e6))
            .collect();
        println!(
            "    {task}: {:.1} s, {:.1} s of CPU, largest process: {}",
            row.cost.wall.as_secs_f64(),
            row.cost.cpu.as_secs_f64(),
            processes.join(", "),
        );
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:12} {:36} {:>8} {:>8} {:>8} {:>10} {:>10} {:>6}",
            "task", "tool", "wall s", "MB/s", "CPU s", "memory MB", "stored MB", "ratio"
        )?;
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        // Stable: within a task the rows stay in the order of measuring.
        rows.sort_by_key(|row| TASKS.iter().position(|task| *task == row.task));
        for row in rows {
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            let wall = row.cost.wall.as_secs_f64();
            writeln!(
                f,
                "{:12} {:36} {:8.1} {:8.0} {:8.1} {:10.0} {:10.0} {:6.2}",
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

const TASKS: [&str; 3] = ["WAL backlog", "base backup", "restore"];
