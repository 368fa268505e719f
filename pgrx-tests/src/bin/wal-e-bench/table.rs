//! A table of measurements: a row for each contender, medians over the rounds.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::statistics::{median, range};

/// A figure that is measured in each round.
#[derive(Debug)]
pub struct Column {
    /// Its name in the JSON, unit included.
    pub key: &'static str,
    /// Its head in the printed table.
    pub title: &'static str,
    /// Digits after the point.
    pub decimals: usize,
    /// Whether the smallest and the largest value are printed beside the median.
    pub spread: bool,
}

impl Column {
    /// A column without its spread.
    pub const fn new(key: &'static str, title: &'static str, decimals: usize) -> Column {
        Column { key, title, decimals, spread: false }
    }

    /// A column with its spread.
    pub const fn with_spread(key: &'static str, title: &'static str, decimals: usize) -> Column {
        Column { key, title, decimals, spread: true }
    }
}

/// The median of a column, divided by that of another row.
#[derive(Debug)]
pub struct Ratio {
    /// Its name in the JSON.
    pub key: &'static str,
    /// Its head in the printed table.
    pub title: &'static str,
    /// The key of the column.
    pub column: &'static str,
    /// Which rows the row of this name is held against; of several, the one with the
    /// smallest median counts. None: the row has no such ratio.
    pub against: fn(&str) -> Vec<String>,
}

/// What all tables of a task have in common.
#[derive(Debug)]
pub struct Form {
    /// Its name in the JSON.
    pub task: &'static str,
    pub columns: &'static [Column],
    pub ratios: &'static [Ratio],
    /// What its words mean, below the printed table.
    pub note: &'static str,
}

/// The figures of one round by the keys of their columns; one that does not apply is absent.
pub type Figures = BTreeMap<&'static str, f64>;

/// A contender and its rounds.
#[derive(Debug)]
struct Row {
    name: String,
    rounds: Vec<Figures>,
    /// What the figures of each round were made of, where that is many values.
    samples: Vec<Vec<f64>>,
}

impl Row {
    fn values(&self, key: &str) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| round.get(key).copied()).collect()
    }

    fn median(&self, key: &str) -> Option<f64> {
        median(&self.values(key))
    }
}

/// Rows in the order in which they were first measured.
#[derive(Debug)]
pub struct Table {
    form: &'static Form,
    title: String,
    rows: Vec<Row>,
}

impl Table {
    /// A table without rows.
    pub fn new(form: &'static Form, title: impl Into<String>) -> Table {
        Table { form, title: title.into(), rows: Vec::new() }
    }

    /// Adds a round of a contender.
    pub fn add(&mut self, name: &str, figures: impl IntoIterator<Item = (&'static str, f64)>) {
        let figures: Figures = figures.into_iter().collect();
        for key in figures.keys() {
            assert!(self.form.columns.iter().any(|column| column.key == *key), "no column {key}");
        }
        self.row(name).rounds.push(figures);
    }

    /// Adds a round whose figures were made of many values, which the JSON has.
    pub fn add_with_samples(
        &mut self,
        name: &str,
        figures: impl IntoIterator<Item = (&'static str, f64)>,
        samples: Vec<f64>,
    ) {
        self.add(name, figures);
        self.row(name).samples.push(samples);
    }

    fn row(&mut self, name: &str) -> &mut Row {
        let index = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), rounds: Vec::new(), samples: Vec::new() });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }

    fn ratio(&self, row: &Row, ratio: &Ratio) -> Option<f64> {
        let peers = (ratio.against)(&row.name);
        let of_peers = self.rows.iter().filter(|row| peers.contains(&row.name));
        let of_peers = of_peers.filter_map(|row| row.median(ratio.column));
        Some(row.median(ratio.column)? / of_peers.min_by(f64::total_cmp)?)
    }

    /// All that was measured, and what came of it.
    pub fn to_json(&self) -> Value {
        let columns: BTreeMap<_, _> =
            self.form.columns.iter().map(|column| (column.key, column.title)).collect();
        let rows: Vec<Value> = self.rows.iter().map(|row| self.row_to_json(row)).collect();
        json!({
            "task": self.form.task,
            "title": self.title,
            "columns": columns,
            "rows": rows,
            "note": self.form.note,
        })
    }

    fn row_to_json(&self, row: &Row) -> Value {
        let of_columns = |value: &dyn Fn(&[f64]) -> Option<f64>| -> BTreeMap<&str, f64> {
            let columns = self.form.columns.iter().map(|column| column.key);
            columns.filter_map(|key| Some((key, value(&row.values(key))?))).collect()
        };
        let ratios = self.form.ratios.iter();
        let ratios: BTreeMap<&str, f64> =
            ratios.filter_map(|ratio| Some((ratio.key, self.ratio(row, ratio)?))).collect();
        let mut object = json!({
            "name": row.name,
            "median": of_columns(&median),
            "min": of_columns(&|values| range(values).map(|(least, _)| least)),
            "max": of_columns(&|values| range(values).map(|(_, most)| most)),
            "ratios": ratios,
            "rounds": row.rounds,
        });
        if !row.samples.is_empty() {
            object["samples"] = json!(row.samples);
        }
        object
    }

    fn head(&self) -> Vec<String> {
        let mut cells = vec![self.title.clone()];
        for column in self.form.columns {
            cells.push(column.title.to_owned());
            if self.has_spread(column) {
                cells.push("min-max".to_owned());
            }
        }
        cells.extend(self.form.ratios.iter().map(|ratio| ratio.title.to_owned()));
        cells
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let text = |value: Option<f64>, decimals: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
        };
        let mut cells = vec![row.name.clone()];
        for column in self.form.columns {
            let values = row.values(column.key);
            let decimals = column.decimals;
            cells.push(text(median(&values), decimals));
            if self.has_spread(column) {
                let range = range(&values).filter(|_| values.len() > 1);
                cells.push(range.map_or_else(
                    || "-".to_owned(),
                    |(least, most)| format!("{least:.decimals$}-{most:.decimals$}"),
                ));
            }
        }
        cells.extend(self.form.ratios.iter().map(|ratio| text(self.ratio(row, ratio), 2)));
        cells
    }

    /// One round has no spread.
    fn has_spread(&self, column: &Column) -> bool {
        column.spread && self.rows.iter().any(|row| row.rounds.len() > 1)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![self.head()];
        lines.extend(self.rows.iter().map(|row| self.cells(row)));
        let width = |index: usize| lines.iter().map(|line| line[index].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
        for line in &lines {
            write!(f, "{:width$}", line[0], width = widths[0])?;
            for (cell, width) in line.iter().zip(&widths).skip(1) {
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "{}", self.form.note)
    }
}

/// The rows of a ratio that few have: none unless `holds`.
pub fn against(holds: bool, peers: &[&str]) -> Vec<String> {
    if holds { peers.iter().map(|peer| (*peer).to_owned()).collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Form = Form {
        task: "test",
        note: "a note",
        columns: &[Column::with_spread("rate", "MB/s", 1), Column::new("cpu_s", "CPU s", 1)],
        ratios: &[Ratio {
            key: "rate_of_peer",
            title: "x peer",
            column: "rate",
            against: |name| against(name == "we", &["peer", "other peer"]),
        }],
    };

    #[test]
    fn a_row_has_medians_and_is_held_against_the_slower_peer() {
        let mut table = Table::new(&FORM, "title");
        for rate in [30.0, 10.0, 20.0] {
            table.add("we", [("rate", rate)]);
            table.add("peer", [("rate", 10.0), ("cpu_s", 1.0)]);
            table.add("other peer", [("rate", 40.0)]);
        }
        let printed = table.to_string();
        let lines: Vec<Vec<&str>> =
            printed.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["we", "20.0", "10.0-30.0", "-", "2.00"]);
        assert_eq!(lines[2], ["peer", "10.0", "10.0-10.0", "1.0", "-"]);
        let row = &table.to_json()["rows"][0];
        assert_eq!(row["median"]["rate"], 20.0);
        assert_eq!(row["rounds"][0]["rate"], 30.0);
        assert_eq!(row["ratios"]["rate_of_peer"], 2.0);
        assert!(row.get("samples").is_none());
    }
}
