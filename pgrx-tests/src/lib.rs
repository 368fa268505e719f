//! Fixtures for tests on real clusters and real S3 protocol.
//!
//! * [`installation`]: PostgreSQL with wal_e installed, in a private copy.
//! * [`cluster`]: a throw-away server; [`archiving`], [`base_backup`],
//!   [`fingerprint`] and [`workload`] are more of what can be done with it.
//! * [`s3_server`], [`fault_proxy`], [`moto`]: S3, where things go wrong on demand.
//! * [`archive`]: a prefix and the place behind it, seen without wal_e.
//! * [`wal_e`], [`restore`]: the program, and clusters made with it.
//! * [`process`], [`scratch`], [`wait`]: children with a deadline, directories,
//!   polling.
//!
//! The fixtures panic when something is not as a test needs it: the message is
//! the test's report.
#![warn(missing_docs)]

pub mod archive;
pub mod archiving;
pub mod base_backup;
pub mod cluster;
pub mod fault_proxy;
pub mod fingerprint;
pub mod installation;
pub mod moto;
pub mod process;
pub mod restore;
pub mod s3_server;
pub mod scratch;
mod server_thread;
pub mod wait;
pub mod wal_e;
pub mod workload;
