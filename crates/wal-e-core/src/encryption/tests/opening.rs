//! Which key opens what.

use super::*;

const MAGIC: &[u8] = b"plain";

fn looks_plain(beginning: &[u8]) -> bool {
    beginning.starts_with(MAGIC)
}

fn open_it(stored: &[u8], keyring: &Keyring) -> Result<(Form, Option<Fingerprint>, Vec<u8>)> {
    let opened = open(Pieces(stored, 1000, false), keyring, looks_plain)
        .map_err(|error| Error::from_io("", error))?;
    let (form, key) = (opened.form(), opened.key().cloned());
    Ok((form, key, read(opened)?))
}

#[test]
fn the_right_key_is_found() {
    let keyring = Keyring::new(Some(Key::new([9; 32])), vec![other_key(), key()], None);
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 100_000] {
        let content = sample(length);
        for key in keyring.reading() {
            let opened = open_it(&encrypt(&content, key), &keyring).unwrap();
            assert_eq!(opened, (Form::Libsodium, Some(key.fingerprint()), content.clone()));
        }
    }
}

#[test]
fn plain_content_is_passed_on() {
    for length in [0, 1, 24, 41, CHUNK, 100_000] {
        let content = [MAGIC, &sample(length)].concat();
        for keyring in [Keyring::empty(), Keyring::new(Some(key()), Vec::new(), None)] {
            assert_eq!(open_it(&content, &keyring), Ok((Form::Plain, None, content.clone())));
        }
    }
}

#[test]
fn what_is_neither_is_not_opened() {
    let keyring = Keyring::new(Some(key()), Vec::new(), None);
    let mut damaged = encrypt(&sample(100), &key());
    damaged[0] ^= 1;
    let of_other_key = encrypt(MAGIC, &other_key());
    for stored in [&damaged[..], &of_other_key, &of_other_key[..30], b"x", &sample(50_000)] {
        let error = open_it(stored, &keyring).unwrap_err();
        assert_eq!(error.message(), "no configured key opens it");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.is_unusable_object());
        // Without keys, the decoder says what is wrong.
        let opened = open_it(stored, &Keyring::empty()).unwrap();
        assert_eq!(opened, (Form::Plain, None, stored.to_vec()));
    }
    let opened = open_it(b"", &keyring).unwrap();
    assert_eq!(opened, (Form::Plain, None, Vec::new()), "the decoder says that it is empty");
}

#[test]
fn damage_after_the_beginning_is_damage() {
    let keyring = Keyring::new(None, vec![other_key(), key()], None);
    let stored = encrypt(&sample(50_000), &key());
    let mut altered = stored.clone();
    altered[HEADER_BYTES + STORED_CHUNK_BYTES] ^= 1;
    for damaged in [&altered[..], &stored[..stored.len() - 1], &stored[..20_000]] {
        let error = open_it(damaged, &keyring).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

#[test]
fn an_error_of_the_store_is_none_of_the_key() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(Error::new(ErrorKind::Unavailable, "the store is away").into())
        }
    }
    let keyring = Keyring::new(Some(key()), Vec::new(), None);
    let stored = encrypt(&sample(10), &key());
    let error = open(stored[..20].chain(Failing), &keyring, looks_plain).err().unwrap();
    assert_eq!(Error::from_io("", error).kind(), ErrorKind::Unavailable);
}
