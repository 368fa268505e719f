//! Whether two databases hold the same data.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, describe, rows};

/// Number of rows and a hash of all of them, for each user table of a database.
///
/// The hash does not depend on the order of rows: it is the sum of the hashes
/// of the rows' text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<String, TableFingerprint>);

/// Number of rows of a table and a hash of all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFingerprint {
    /// How many rows there are.
    pub rows: u64,
    /// The sum of the hashes of the rows.
    pub hash: String,
}

impl Fingerprint {
    /// The table `name`, with its schema.
    pub fn table(&self, name: &str) -> Option<&TableFingerprint> {
        self.0.get(name)
    }

    /// How many tables there are.
    pub fn tables(&self) -> usize {
        self.0.len()
    }
}

const TABLES: &str = "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind = 'r' AND c.relpersistence = 'p' \
     AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1";

impl Cluster {
    /// The fingerprint of the database "postgres", of one snapshot.
    #[track_caller]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut client = self.client();
        let mut ask = |sql: &str| {
            rows(&mut client, sql).unwrap_or_else(|error| panic!("{sql}\n{}", describe(&error)))
        };
        // Names with their schema, and text that does not depend on settings.
        ask("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        ask("SET LOCAL search_path = pg_catalog");
        let tables = ask(TABLES).into_iter().filter_map(|row| row.into_iter().next().flatten());
        let fingerprints = tables.map(|table| {
            let sql = format!(
                "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM {table} t"
            );
            let mut answer = ask(&sql).remove(0).into_iter().flatten();
            let mut value = || answer.next().expect("an aggregate without GROUP BY is one full row");
            let rows = value().parse().expect("a count is a number");
            (table, TableFingerprint { rows, hash: value() })
        });
        Fingerprint(fingerprints.collect())
    }
}
