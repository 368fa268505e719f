//! wal_e on real clusters: fixtures, end-to-end tests, benchmark.

pub mod fault_proxy;
pub mod moto;
pub mod s3_server;
mod server_thread;
