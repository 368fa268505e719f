//! Fixtures for tests on real clusters and real S3 protocol.
//!
//! * [`installation`]: PostgreSQL with wal_e installed, in a private copy.
//! * [`cluster`]: a throw-away server; [`archiving`], [`base_backup`],
//!   [`fingerprint`], [`pg_upgrade`], [`prefetch`], [`standby`], [`witness`] and
//!   [`workload`] are more of what can be done with it.
//! * [`s3_server`], [`fault_proxy`], [`moto`]: S3, where things go wrong on demand;
//!   [`real_server`]: an S3 server that was not written here.
//! * [`forward_proxy`], [`tls_front`], [`key_service`]: what is on the way to S3, and hands out
//!   keys for it.
//! * [`disk_full`]: a disk without space, on demand.
//! * [`archive`]: a prefix and the place that it names, seen without wal_e;
//!   [`wal_comparison`] with what a server has.
//! * [`foreign_archive`]: archives as WAL-G and WAL-E write them.
//! * [`large_archive`]: an archive of many years.
//! * [`keys`]: with what an archive is encrypted, now and then.
//! * [`chains`]: base backups that build on one another.
//! * [`made_backup`]: base backups that should never have been written.
//! * [`wal_e`], [`restore`]: the program, and clusters made with it.
//! * [`torture`]: random histories, and whether what wal_e says of them is true.
//! * [`browser`]: what becomes of a page of HTML.
//! * [`certificates`], [`pooler`]: what stands between a program and its server.
//! * [`process`], [`random`], [`scratch`], [`wait`]: children with a deadline,
//!   moments, directories, polling.
//!
//! The fixtures panic when something is not as a test needs it: the message is
//! the test's report.
#![warn(missing_docs)]

pub mod archive;
pub mod archiving;
pub mod base_backup;
pub mod browser;
pub mod certificates;
pub mod chains;
pub mod changes;
pub mod cluster;
pub mod disk_full;
pub mod fault_proxy;
pub mod fingerprint;
pub mod foreign_archive;
pub mod forward_proxy;
pub mod installation;
pub mod key_service;
pub mod keys;
pub mod large_archive;
pub mod lesser_file_system;
pub mod made_backup;
pub mod moto;
pub mod pages;
pub mod pg_upgrade;
pub mod plain_http;
pub mod pooler;
pub mod prefetch;
pub mod preload;
pub mod process;
pub mod random;
pub mod real_server;
pub mod restore;
pub mod s3_server;
pub mod scratch;
mod server_thread;
pub mod standby;
pub mod tls_front;
pub mod torture;
pub mod wait;
pub mod wal_comparison;
pub mod wal_e;
pub mod witness;
pub mod workload;
