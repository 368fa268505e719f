//! What verifications have found of the backups of a chain.

use crate::error::Result;
use crate::restore::chain::Chain;
use crate::store::ObjectStore;
use crate::verify::last_verifications;

/// A backup of the chain that its last verification found damaged, and how; the oldest such one.
///
/// # Errors
/// Those of the store.
pub(super) async fn found_damaged(
    store: &dyn ObjectStore,
    chain: &Chain,
) -> Result<Option<(String, String)>> {
    let verifications = last_verifications(store).await?;
    let found = chain.levels().iter().find_map(|level| {
        let name = &level.backup.name;
        let damage = verifications.get(name)?.damage.clone()?;
        Some((name.clone(), damage))
    });
    Ok(found)
}
