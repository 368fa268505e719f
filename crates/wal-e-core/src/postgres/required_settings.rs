//! The settings that must not be lower on a server that recovers than they were on the one
//! that wrote the WAL.
//!
//! A server with lower ones shuts down or, with hot standby, pauses without end, with any
//! target action: PostgreSQL 15, `src/backend/access/transam/xlogrecovery.c`,
//! `RecoveryRequiresIntParameter`. The values are in the control file and, when they
//! change, in a record of the WAL (`XLOG_PARAMETER_CHANGE`).

/// Their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // Each is the setting of its name.
pub struct RequiredSettings {
    pub max_connections: u32,
    pub max_worker_processes: u32,
    pub max_wal_senders: u32,
    pub max_prepared_transactions: u32,
    pub max_locks_per_transaction: u32,
}

impl RequiredSettings {
    /// PostgreSQL's defaults, from 12 to 18.
    pub const DEFAULT: Self = RequiredSettings {
        max_connections: 100,
        max_worker_processes: 8,
        max_wal_senders: 10,
        max_prepared_transactions: 0,
        max_locks_per_transaction: 64,
    };

    /// Each setting's larger value.
    #[must_use]
    pub fn largest(self, other: Self) -> Self {
        RequiredSettings {
            max_connections: self.max_connections.max(other.max_connections),
            max_worker_processes: self.max_worker_processes.max(other.max_worker_processes),
            max_wal_senders: self.max_wal_senders.max(other.max_wal_senders),
            max_prepared_transactions: self
                .max_prepared_transactions
                .max(other.max_prepared_transactions),
            max_locks_per_transaction: self
                .max_locks_per_transaction
                .max(other.max_locks_per_transaction),
        }
    }

    /// Name and value of each. A value of 0 asks for nothing.
    pub fn named(self) -> [(&'static str, u32); 5] {
        [
            ("max_connections", self.max_connections),
            ("max_worker_processes", self.max_worker_processes),
            ("max_wal_senders", self.max_wal_senders),
            ("max_prepared_transactions", self.max_prepared_transactions),
            ("max_locks_per_transaction", self.max_locks_per_transaction),
        ]
    }
}
