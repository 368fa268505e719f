//! One WAL file into the store.

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::postgres::WalFileName;
use crate::store::ObjectStore;

/// What became of a WAL file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// It is stored now.
    Stored,
    /// It was stored before, with the same content.
    AlreadyThere,
}

/// A WAL file that is in the store, confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Whether this call stored it.
    pub outcome: PushOutcome,
    /// Size of the file in bytes.
    pub bytes_read: u64,
    /// Bytes that were sent to the store.
    pub bytes_stored: u64,
}

/// Stores the WAL file at `path` under `name`, compressed, and returns once the
/// store has confirmed it.
pub async fn push(store: Arc<dyn ObjectStore>, name: &WalFileName, path: &Path) -> Result<Pushed> {
    let _ = (store, name, path);
    todo!()
}
