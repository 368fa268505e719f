//! What a prefix remembers of encryption, so that a key that is missing one day does not mean that
//! what is stored from then on can be read by everybody.

use bytes::Bytes;

use crate::config::{EncryptionPolicy, Setting};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::store::{Attributes, ListRequest, ObjectStore, PutMode, PutOutcome, list_all};

/// How a key is given.
const GIVE_A_KEY: &str = "Give the key: WALG_LIBSODIUM_KEY_PATH names the file that has it, and \
                          WALG_LIBSODIUM_KEY_TRANSFORM says whether it is in \"hex\" or \
                          \"base64\".";

/// What a prefix says of encryption.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncryptionMarks {
    /// Nothing may be stored that is not encrypted.
    pub required: bool,
    /// Fingerprints of the keys that wal_e has written with.
    pub keys: Vec<String>,
}

/// Reads what the prefix says of encryption.
///
/// # Errors
/// Those of the store.
pub async fn read_encryption_marks(store: &dyn ObjectStore) -> Result<EncryptionMarks> {
    let prefix = layout::encryption_marks();
    let request = ListRequest { prefix, shallow: true, ..ListRequest::default() };
    let objects = list_all(store, &request).await?;
    let keys = objects.iter().filter_map(|object| layout::fingerprint_of_mark(&object.key));
    Ok(EncryptionMarks {
        required: objects.iter().any(|object| object.key == layout::encryption_required()),
        keys: keys.map(str::to_owned).collect(),
    })
}

/// Makes sure, before anything is archived, that it will be encrypted if the settings or the
/// prefix ask for that, and marks the prefix if it will be. `marks` is what the prefix says now.
///
/// # Errors
/// [`ErrorKind::Config`] when it should be encrypted and would not be; nothing is written then.
/// Those of the store.
pub async fn agree_on_encryption(store: &dyn ObjectStore, marks: EncryptionMarks) -> Result<()> {
    would_agree_on_encryption(store, &marks)?;
    let encryption = store.encryption();
    let Some(key) = encryption.keyring.writing() else { return Ok(()) };
    let fingerprint = key.fingerprint();
    if !marks.keys.iter().any(|marked| marked == fingerprint.as_str()) {
        mark(store, &layout::key_mark(&fingerprint)).await?;
    }
    if encryption.policy == EncryptionPolicy::Required && !marks.required {
        mark(store, &layout::encryption_required()).await?;
    }
    Ok(())
}

/// As [`agree_on_encryption`], without marking anything.
///
/// # Errors
/// [`ErrorKind::Config`].
pub fn would_agree_on_encryption(store: &dyn ObjectStore, marks: &EncryptionMarks) -> Result<()> {
    let encryption = store.encryption();
    if encryption.keyring.writing().is_some() {
        return Ok(());
    }
    let policy = encryption.policy;
    let prefix = store.url("");
    let prefix = prefix.trim_end_matches('/');
    if policy == EncryptionPolicy::Required {
        return Err(Error::new(ErrorKind::Config, "there is no key to encrypt with")
            .with_detail(format!("{} is \"required\".", Setting::Encryption))
            .with_hint(GIVE_A_KEY));
    }
    if marks.required {
        let mark = store.url(layout::encryption_required().as_str());
        return Err(Error::new(
            ErrorKind::Config,
            format!("prefix \"{prefix}\" takes nothing that is not encrypted"),
        )
        .with_detail(format!("Object \"{mark}\" says so, and nothing would be encrypted now."))
        .with_hint(format!(
            "{GIVE_A_KEY} To store without encryption from now on, remove that object."
        )));
    }
    if policy == EncryptionPolicy::Auto && !marks.keys.is_empty() {
        return Err(Error::new(
            ErrorKind::Config,
            format!(
                "prefix \"{prefix}\" has encrypted objects, and there is no key to encrypt with"
            ),
        )
        .with_detail(format!("They were encrypted with key {}.", marks.keys.join(", ")))
        .with_hint(format!(
            "{GIVE_A_KEY} To store without encryption from now on, set {} to \"off\".",
            Setting::Encryption
        )));
    }
    Ok(())
}

async fn mark(store: &dyn ObjectStore, key: &ObjectKey) -> Result<()> {
    let content =
        Bytes::from_static(b"Objects of this prefix are encrypted; see the docs of wal_e.\n");
    let (PutOutcome::Stored | PutOutcome::AlreadyExists) =
        store.put(key, content, PutMode::CreateOnly, &Attributes::default()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Encryption;
    use crate::encryption::{Key, Keyring};
    use crate::store::memory::MemoryStore;

    async fn agree(
        store: &MemoryStore,
        policy: EncryptionPolicy,
        key: Option<u8>,
    ) -> Result<EncryptionMarks> {
        let keyring = Keyring::new(key.map(|byte| Key::new([byte; 32])), Vec::new(), None);
        let store = store.clone().encrypted(Encryption { policy, keyring });
        agree_on_encryption(&store, read_encryption_marks(&store).await?).await?;
        read_encryption_marks(&store).await
    }

    #[tokio::test]
    async fn a_prefix_that_has_encrypted_objects_takes_no_other_unless_it_is_said() {
        use EncryptionPolicy::{Auto, Off, Required};
        let store = MemoryStore::new();
        assert_eq!(agree(&store, Auto, None).await.unwrap(), EncryptionMarks::default());
        assert_eq!(agree(&store, Off, Some(1)).await.unwrap().keys.len(), 1);
        let marks = agree(&store, Auto, Some(2)).await.unwrap();
        assert!(marks.keys.len() == 2 && !marks.required, "{marks:?}");
        let error = agree(&store, Auto, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.detail().unwrap().contains(&marks.keys[0]), "{error:?}");
        agree(&store, Off, None).await.unwrap();

        assert!(agree(&store, Required, None).await.is_err());
        assert!(!agree(&store, Off, None).await.unwrap().required);
        assert!(agree(&store, Required, Some(2)).await.unwrap().required);
        for policy in [Auto, Off, Required] {
            assert_eq!(agree(&store, policy, None).await.unwrap_err().kind(), ErrorKind::Config);
            agree(&store, policy, Some(2)).await.unwrap();
        }
    }
}
