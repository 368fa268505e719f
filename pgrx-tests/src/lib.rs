//! Fixtures for tests on real clusters and real S3 protocol.
//!
//! * [`installation`]: PostgreSQL with wal_e installed, in a private copy.
//! * [`cluster`]: a throw-away server, with [`archiving`], [`fingerprint`] and
//!   [`workload`] beside it.
//! * [`process`], [`scratch`], [`wait`]: children with a deadline, directories,
//!   polling.
//!
//! The fixtures panic when something is not as a test needs it: the message is
//! the test's report.
#![warn(missing_docs)]

pub mod archiving;
pub mod cluster;
pub mod fingerprint;
pub mod installation;
pub mod process;
pub mod scratch;
pub mod wait;
pub mod workload;
