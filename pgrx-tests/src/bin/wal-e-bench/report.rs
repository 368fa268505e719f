//! What comes out: tables as text, and all of it as JSON.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::options::Options;
use crate::table::Table;
use crate::{PROCESSES, WAL_PROCESSES, machine};

/// The tables so far, and what they were measured on.
pub struct Report {
    file: Option<PathBuf>,
    json: Value,
}

impl Report {
    /// A report without tables.
    pub fn new(options: &Options) -> Report {
        let json = json!({
            "machine": machine::machine(),
            "versions": machine::versions(options),
            "settings": {
                "rounds": options.rounds,
                "segments": options.segments,
                "scale": options.scale,
                "transactions": options.transactions,
                "acknowledgements": options.acknowledgements,
                "archive_segments": options.archive_segments,
                "archive_backups": options.archive_backups,
                "changed_percents": options.changed_percents,
                "latencies_ms": options.latencies_ms,
                "wal_files_in_flight": WAL_PROCESSES,
                "processes": PROCESSES,
                "codec": "lz4",
            },
            "tables": [],
        });
        Report { file: options.json.clone(), json }
    }

    /// Prints a table, and writes the file anew: what is measured already is there when
    /// a later task fails.
    pub fn add(&mut self, table: &Table) {
        print!("\n{table}");
        if let Some(tables) = self.json["tables"].as_array_mut() {
            tables.push(table.to_json());
        }
        if let Some(file) = &self.file {
            fs::write(file, format!("{:#}\n", self.json))
                .unwrap_or_else(|error| panic!("could not write {}: {error}", file.display()));
        }
    }
}

/// The machine, the versions and the settings.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in ["machine", "versions", "settings"] {
            let fields = self.json[part].as_object().into_iter().flatten();
            let fields: Vec<String> = fields.map(|(name, value)| field(name, value)).collect();
            writeln!(f, "{part}: {}", fields.join("; "))?;
        }
        Ok(())
    }
}

fn field(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) => format!("{name} {text}"),
        Value::Number(number) if number.is_f64() => {
            format!("{name} {:.1}", number.as_f64().unwrap_or_default())
        }
        other => format!("{name} {other}"),
    }
}
