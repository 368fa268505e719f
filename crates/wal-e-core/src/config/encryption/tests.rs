use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::config::Place;

const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn resolve(policy: Option<EncryptionPolicy>, environment: &[(&str, &str)]) -> Result<Encryption> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let environment: BTreeMap<String, String> = environment.iter().map(owned).collect();
    Encryption::resolve(policy, &Variables { places: vec![Place::Environment(environment)] })
}

#[test]
fn a_key_is_taken_from_a_variable_or_from_the_file_that_it_names() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    fs::write(&file, format!("{HEX}\n")).unwrap();
    let path = file.to_str().unwrap();
    let by_value = [("WALG_LIBSODIUM_KEY", HEX), ("WALG_LIBSODIUM_KEY_TRANSFORM", "hex")];
    let by_path = [("WALE_LIBSODIUM_KEY_PATH", path), ("WALG_LIBSODIUM_KEY_TRANSFORM", "hex")];
    let (value, path) = (resolve(None, &by_value).unwrap(), resolve(None, &by_path).unwrap());
    assert_eq!(value, path);
    assert!(value.keyring.writing().is_some());
    assert_eq!(resolve(None, &[]).unwrap(), Encryption::default());
    // As it is written, the key is another one.
    assert_ne!(resolve(None, &by_value[..1]).unwrap().keyring, value.keyring);
}

#[test]
fn keys_of_before_are_read_with_and_not_written_with() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("old");
    fs::write(&file, format!("{OTHER}\r\n\n{HEX}\n")).unwrap();
    let old = file.to_str().unwrap();
    let hex = ("WALG_LIBSODIUM_KEY_TRANSFORM", "hex");
    let namespaced = ("WALE_LIBSODIUM_OLD_KEYS_PATH", old);
    let both = [namespaced, hex, ("WALG_LIBSODIUM_KEY", HEX)];
    let keyring = resolve(None, &both).unwrap().keyring;
    assert_eq!((keyring.reading().len(), keyring.writing()), (2, keyring.reading().first()));
    let keyring = resolve(None, &both[..2]).unwrap().keyring;
    assert_eq!((keyring.reading().len(), keyring.writing()), (2, None));
    let off = resolve(Some(EncryptionPolicy::Off), &both).unwrap().keyring;
    assert_eq!((off.reading().len(), off.writing()), (2, None));

    fs::write(&file, format!("{OTHER}\nabc\n")).unwrap();
    let error = resolve(None, &both).unwrap_err();
    assert!(error.detail().unwrap().contains("line 2"), "{error:?}");
    assert!(!format!("{error:?}").contains("abc"), "{error:?}");
}

#[test]
fn what_cannot_be_used_is_an_error_that_says_nothing_of_a_key() {
    for environment in [
        &[("WALG_LIBSODIUM_KEY_PATH", "/no/such/file")][..],
        &[("WALG_LIBSODIUM_KEY", "secret words")],
        &[("WALG_LIBSODIUM_KEY", "secret words"), ("WALG_LIBSODIUM_KEY_TRANSFORM", "hex")],
        &[("WALG_LIBSODIUM_KEY", HEX), ("WALG_LIBSODIUM_KEY_TRANSFORM", "secret words")],
        &[("WALE_LIBSODIUM_OLD_KEYS_PATH", "/dev/null/x")],
        &[("WALE_ENCRYPTION", "yes")],
    ] {
        let error = resolve(None, environment).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert!(error.detail().is_some() && error.hint().is_some(), "{error:?}");
        assert!(!format!("{error:?}").contains("secret words"), "{error:?}");
    }
}

#[test]
fn the_setting_counts_before_the_variable() {
    let variable = [("WALE_ENCRYPTION", "required")];
    assert_eq!(resolve(None, &variable).unwrap().policy, EncryptionPolicy::Required);
    let off = Some(EncryptionPolicy::Off);
    assert_eq!(resolve(off, &variable).unwrap().policy, EncryptionPolicy::Off);
}
