//! What the harness knows of a history: every write with its transaction, and the
//! branches on which servers wrote.

use std::collections::{BTreeSet, HashMap};

use wal_e_core::postgres::Lsn;

/// The rows of the table `moments`, each of them a number.
pub type Rows = BTreeSet<u32>;

/// A transaction as the WAL names it. The time distinguishes those of several
/// branches that have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// Its number.
    pub xid: u32,
    /// When it was committed, in microseconds since 1970.
    pub time: i64,
}

/// A transaction that changed `moments`.
#[derive(Debug, Clone)]
pub struct Write {
    /// The number of its branch.
    pub branch: usize,
    /// Its transaction.
    pub transaction: Transaction,
    /// Where its commit record begins.
    pub commit: Lsn,
    /// The row it added.
    pub adds: u32,
    /// The row it removed.
    pub removes: Option<u32>,
}

impl Write {
    /// Does to `rows` what the transaction did.
    pub fn apply(&self, rows: &mut Rows) {
        rows.insert(self.adds);
        if let Some(removed) = self.removes {
            rows.remove(&removed);
        }
    }
}

/// What one server, or several in turn, wrote since it went a way of its own.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Its timeline. Two branches may have the same: a copied directory that is
    /// started goes on along the timeline of its original.
    pub timeline: u32,
    /// The rows when it began.
    pub base: Rows,
    /// Between which two times it began, in microseconds since 1970.
    pub born: (i64, i64),
    /// Its writes, by their place in [`Model::writes`].
    pub writes: Vec<usize>,
}

/// A restore point.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Its name; others may have the same.
    pub name: String,
}

/// A base backup that `wale_backup_push()` has reported as complete.
#[derive(Debug, Clone)]
pub struct Backup {
    /// Its name.
    pub name: String,
    /// The number of its branch.
    pub branch: usize,
    /// Where the WAL begins that it needs.
    pub start: Lsn,
    /// When it was complete, in microseconds since 1970.
    pub finished: i64,
    /// Where the tablespaces were.
    pub tablespaces: Vec<String>,
}

/// All that is known.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// In the order of their beginning.
    pub branches: Vec<Branch>,
    /// In the order of their commit.
    pub writes: Vec<Write>,
    /// Transactions that were rolled back.
    pub rolled_back: Vec<u32>,
    /// In the order of their making.
    pub marks: Vec<Mark>,
    /// In the order of their end.
    pub backups: Vec<Backup>,
    by_transaction: HashMap<Transaction, usize>,
}

impl Model {
    /// Adds a branch and says its number.
    pub fn add_branch(&mut self, timeline: u32, base: Rows, born: (i64, i64)) -> usize {
        self.branches.push(Branch { timeline, base, born, writes: Vec::new() });
        self.branches.len() - 1
    }

    /// Adds a write to its branch.
    pub fn add_write(&mut self, write: Write) {
        let index = self.writes.len();
        self.by_transaction.insert(write.transaction, index);
        self.branches[write.branch].writes.push(index);
        self.writes.push(write);
    }

    /// The write of a transaction.
    pub fn write_of(&self, transaction: Transaction) -> Option<&Write> {
        self.by_transaction.get(&transaction).map(|index| &self.writes[*index])
    }

    /// The rows of a branch now.
    pub fn rows(&self, branch: usize) -> Rows {
        self.rows_at(branch, Lsn(u64::MAX))
    }

    /// The rows of a branch at an LSN of its own part of the log.
    pub fn rows_at(&self, branch: usize, lsn: Lsn) -> Rows {
        let branch = &self.branches[branch];
        let mut rows = branch.base.clone();
        let writes = branch.writes.iter().map(|index| &self.writes[*index]);
        for write in writes.filter(|write| write.commit < lsn) {
            write.apply(&mut rows);
        }
        rows
    }

    /// Whether servers of two branches wrote on `timeline`, so that the archiver of
    /// one of them has to stop.
    pub fn is_contested(&self, timeline: u32) -> bool {
        self.branches.iter().filter(|branch| branch.timeline == timeline).count() > 1
    }

    /// When the first branch of `timeline` began.
    pub fn born(&self, timeline: u32) -> Option<(i64, i64)> {
        let of_timeline = self.branches.iter().filter(|branch| branch.timeline == timeline);
        of_timeline.map(|branch| branch.born).min()
    }

    /// The base backup of a name.
    pub fn backup(&self, name: &str) -> Option<&Backup> {
        self.backups.iter().rev().find(|backup| backup.name == name)
    }
}
