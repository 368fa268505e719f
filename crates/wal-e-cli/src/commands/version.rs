//! `wal-e version`.

use wal_e_core::Result;

use crate::report::print_result;

pub fn run() -> Result<()> {
    print_result(concat!("wal-e ", env!("CARGO_PKG_VERSION"), "\n"))
}
