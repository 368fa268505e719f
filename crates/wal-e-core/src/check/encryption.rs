//! Whether what is stored can be read with the keys that are configured now. Who loses a key
//! should find out before a restore does.

use super::rows::Rows;
use super::{Check, ENCRYPTION};
use crate::archived::ArchivedObject;
use crate::catalogue;
use crate::codec::StoredEncoding;
use crate::error::Result;
use crate::layout::{self, ObjectKey};
use crate::owner::{self, EncryptionMarks};
use crate::store::{ListRequest, ObjectStore};

/// How much of an object is read: enough for a key to prove itself.
const BEGINNING_BYTES: u64 = 4096;

const HINT: &str = "Give the key that it was encrypted with: WALE_LIBSODIUM_OLD_KEYS_PATH names a \
                    file of keys to read with, one on each line.";

/// Adds the row.
pub(super) async fn checked(rows: &mut Rows, store: &dyn ObjectStore) {
    let hint = "Allow this server to read and list the objects below the prefix.";
    let marks = rows.step(ENCRYPTION, owner::read_encryption_marks(store), hint).await;
    let Some(marks) = marks else { return };
    let agreed = owner::would_agree_on_encryption(store, &marks);
    if rows.reported(ENCRYPTION, agreed, HINT).is_none() {
        return;
    }
    let Some(read) = rows.step(ENCRYPTION, newest_readable(store), HINT).await else { return };
    rows.push(judged(store, &marks, &read));
}

fn judged(store: &dyn ObjectStore, marks: &EncryptionMarks, read: &[String]) -> Check {
    let keyring = store.encryption().keyring;
    let known: Vec<String> =
        keyring.reading().iter().map(|key| key.fingerprint().to_string()).collect();
    let missing: Vec<&str> = marks
        .keys
        .iter()
        .map(String::as_str)
        .filter(|key| !known.iter().any(|it| it == key))
        .collect();
    if !missing.is_empty() {
        let found = format!(
            "objects were encrypted with key {}, which is not configured",
            missing.join(", ")
        );
        return Check::failed(ENCRYPTION, found, HINT);
    }
    let proof = match read {
        [] => "nothing is stored yet".to_owned(),
        read => format!("{} can be read", read.join(" and ")),
    };
    match keyring.writing() {
        Some(key) => {
            let key = key.fingerprint();
            Check::passed(ENCRYPTION, format!("new objects are encrypted with key {key}; {proof}"))
        }
        None => Check::passed(ENCRYPTION, format!("new objects are not encrypted; {proof}")),
    }
}

/// Reads the beginning of what was written last: of the newest base backup, and of WAL from its
/// start on. Returns their names.
async fn newest_readable(store: &dyn ObjectStore) -> Result<Vec<String>> {
    let mut read = Vec::new();
    let Some(newest) = catalogue::sentinels(store).await?.pop() else { return Ok(read) };
    let request =
        ListRequest { prefix: layout::tar_partitions(&newest.name), ..ListRequest::default() };
    let tars = store.list(&request, None).await?.objects;
    let tar = tars.iter().min_by_key(|tar| tar.size_bytes);
    if let Some((key, (_, encoding))) =
        tar.and_then(|tar| Some((&tar.key, layout::tar_of(&tar.key)?)))
        && is_readable(store, key, encoding).await?
    {
        read.push(format!("base backup \"{}\"", newest.name));
    }
    let Some(segment) = layout::start_segment_of_backup(&newest.name) else { return Ok(read) };
    let request = ListRequest {
        prefix: layout::wal(),
        start_after: Some(format!("{}{segment}", layout::wal())),
        shallow: true,
    };
    let wal = store.list(&request, None).await?.objects;
    let last = wal.iter().rev().find_map(|object| {
        layout::wal_file_of(&object.key).map(|(name, encoding)| (&object.key, name, encoding))
    });
    if let Some((key, name, encoding)) = last
        && is_readable(store, key, encoding).await?
    {
        read.push(format!("WAL file \"{name}\""));
    }
    Ok(read)
}

/// Whether it is in an encoding that can be read, and its beginning was.
async fn is_readable(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    encoding: StoredEncoding,
) -> Result<bool> {
    let StoredEncoding::Readable(encoding) = encoding else { return Ok(false) };
    let object = ArchivedObject::open(store, key, encoding).await?;
    object.read_at_most(BEGINNING_BYTES).await?;
    Ok(true)
}
