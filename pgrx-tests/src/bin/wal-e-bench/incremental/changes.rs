//! The large table of pgbench: some of its pages are changed, and what has changed in the
//! cluster is found without wal_e.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::process::{run_within, wait_for_end};
use wal_e_e2e::scratch::Scratch;

use crate::disk::files_below;

/// Size of a page in bytes.
const PAGE: usize = 8192;

/// The longest that one command may take before the run counts as hung.
const PATIENCE: Duration = Duration::from_secs(3600);

/// `pgbench_accounts`.
pub struct Accounts {
    pages: u64,
    rows_per_page: u64,
    /// Its first file, below the data directory.
    path: String,
}

impl Accounts {
    /// Loads the tables of pgbench. Each page has room for another version of some rows, so
    /// that a change stays on its page.
    pub fn load(cluster: &Cluster, scale: u32) -> Accounts {
        let mut pgbench = cluster.client_program("pgbench");
        pgbench.args(["--initialize", "--quiet", "--fillfactor=90", "postgres"]);
        pgbench.arg(format!("--scale={scale}"));
        run_within(PATIENCE, &mut pgbench).success();
        let number = |sql: &str| cluster.query_one(sql).parse().expect("it is a number");
        Accounts {
            pages: number(
                "SELECT pg_relation_size('pgbench_accounts') / \
                 current_setting('block_size')::int",
            ),
            // All rows have the same size, and were loaded in order.
            rows_per_page: number("SELECT count(*) FROM pgbench_accounts WHERE ctid < '(1,0)'"),
            path: cluster.query_one("SELECT pg_relation_filepath('pgbench_accounts')"),
        }
    }

    /// Changes one row in so many of a hundred pages, evenly spread.
    pub fn change(&self, cluster: &Cluster, percent: f64) {
        let Accounts { pages, rows_per_page, .. } = self;
        let last = (*pages as f64 * percent / 100.0).ceil() - 1.0;
        cluster.execute(&format!(
            "UPDATE pgbench_accounts SET abalance = (random() * 1000000)::int WHERE aid = ANY (ARRAY( \
             SELECT (1 + floor(i * 100 / {percent}::numeric) * {rows_per_page})::int \
             FROM generate_series(0, {last}) i))"
        ));
    }
}

/// The pages of tables and indexes that have changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ChangedPages {
    /// How many there are.
    all: u64,
    /// How many of them are of the one table.
    of_accounts: u64,
    /// What they are all together, compressed by `lz4 -1`.
    pub compressed_bytes: u64,
}

impl ChangedPages {
    /// Those whose LSN is not before this one. There was a checkpoint just now.
    pub fn since(lsn: u64, cluster: &Cluster, accounts: &Accounts) -> ChangedPages {
        let scratch = Scratch::new();
        let output = scratch.path().join("pages.lz4");
        let mut lz4 = Command::new("lz4")
            .args(["-1", "-q", "-c"])
            .stdin(Stdio::piped())
            .stdout(File::create(&output).expect("a file of the scratch directory can be made"))
            .spawn()
            .expect("lz4 can be started");
        let mut input = lz4.stdin.take().expect("its input is a pipe");
        let directory = cluster.data_directory();
        let mut pages = ChangedPages::default();
        for (file, _) in ["base", "global"].map(|name| files_below(&directory.join(name))).concat()
        {
            let path = file.strip_prefix(directory).expect("it is below it");
            if is_main_fork(path) {
                let count =
                    copy_changed(&file, lsn, &mut input).expect("the pages of an idle server");
                pages.all += count;
                if is_file_of(path, &accounts.path) {
                    pages.of_accounts += count;
                }
            }
        }
        drop(input);
        let status = wait_for_end(&mut lz4, PATIENCE).expect("lz4 ends");
        assert!(status.success(), "lz4: {status}");
        pages.compressed_bytes = output.metadata().expect("lz4 has written it").len();
        pages
    }

    /// Their size.
    pub fn bytes(&self) -> u64 {
        self.all * PAGE as u64
    }

    /// How many of a hundred pages of the table they are.
    pub fn percent_of(&self, accounts: &Accounts) -> f64 {
        self.of_accounts as f64 * 100.0 / accounts.pages as f64
    }
}

/// Whether a file has pages of a table or an index; its maps of free space and of visibility
/// are files of their own.
fn is_main_fork(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// Whether a file is one of the relation whose first file is this.
fn is_file_of(path: &Path, first: &str) -> bool {
    let path = path.to_str().unwrap_or_default();
    path.strip_prefix(first).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Writes the pages of a file whose LSN is not before this one, and says how many.
fn copy_changed(file: &Path, since: u64, output: &mut impl Write) -> io::Result<u64> {
    let mut file = BufReader::with_capacity(PAGE * 32, File::open(file)?);
    let mut page = [0; PAGE];
    let mut count = 0;
    loop {
        match file.read_exact(&mut page) {
            Ok(()) if lsn_of(&page) >= since => {
                output.write_all(&page)?;
                count += 1;
            }
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(count),
            Err(error) => return Err(error),
        }
    }
}

/// Where the last change of a page ends in WAL; `PageHeaderData.pd_lsn` has the upper half first.
fn lsn_of(page: &[u8; PAGE]) -> u64 {
    let half = |at: usize| u64::from(u32::from_ne_bytes([0, 1, 2, 3].map(|byte| page[at + byte])));
    (half(0) << 32) | half(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(upper: u32, lower: u32) -> Vec<u8> {
        let mut page = [upper.to_ne_bytes(), lower.to_ne_bytes()].concat();
        page.resize(PAGE, 7);
        page
    }

    #[test]
    fn a_page_has_changed_that_has_the_lsn_or_a_later_one() {
        let file = tempfile::NamedTempFile::new().expect("a file can be made");
        let pages = [page(1, 0xff), page(1, 0x100), page(0, 0x101), page(2, 0), vec![0; PAGE]];
        std::fs::write(file.path(), pages.concat()).expect("a file can be written");
        let mut changed = Vec::new();
        let count = copy_changed(file.path(), 0x1_0000_0100, &mut changed).expect("it is there");
        assert_eq!(count, 2);
        assert!(changed == [page(1, 0x100), page(2, 0)].concat());
    }

    #[test]
    fn only_main_forks_have_pages_that_count() {
        let is = |path: &str| is_main_fork(Path::new(path));
        assert!(is("base/5/16384") && is("base/5/16384.1") && is("global/1262"));
        assert!(!is("base/5/16384_vm") && !is("base/5/PG_VERSION") && !is("global/pg_control"));
        let is_accounts = |path: &str| is_file_of(Path::new(path), "base/5/163");
        assert!(is_accounts("base/5/163") && is_accounts("base/5/163.1"));
        assert!(!is_accounts("base/5/1631") && !is_accounts("base/4/163"));
    }
}
