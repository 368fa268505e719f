//! Messages of GnuPG and of Go's implementations.

use super::*;

macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("vectors/openpgp_", $name)).as_slice()
    };
}

const PASSPHRASE: &str = "open sesame";

/// Messages to either key, and the length of their content: see `vectors/make-openpgp`.
const OF_RSA: [(&[u8], usize); 5] = [
    (vector!("rsa_0"), 0),
    (vector!("rsa_10"), 10),
    (vector!("rsa_100000"), 100_000),
    (vector!("both_300"), 300),
    (vector!("go_20000"), 20_000),
];
const OF_CV25519: [(&[u8], usize); 10] = [
    (vector!("cv25519_0"), 0),
    (vector!("cv25519_10"), 10),
    (vector!("cv25519_100000"), 100_000),
    (vector!("pieces_20000"), 20_000),
    (vector!("whole_300"), 300),
    (vector!("armour_300"), 300),
    (vector!("both_300"), 300),
    (vector!("hidden_300"), 300),
    (vector!("signed_300"), 300),
    (vector!("proton_20000"), 20_000),
];

fn rsa() -> Vec<OpenPgpKey> {
    OpenPgpKey::parse(vector!("rsa.key"), Some(PASSPHRASE)).unwrap()
}

fn cv25519() -> Vec<OpenPgpKey> {
    OpenPgpKey::parse(vector!("cv25519.key"), None).unwrap()
}

fn keyring(keys: Vec<OpenPgpKey>) -> Keyring {
    Keyring::new(Some(key()), Vec::new(), Some(OpenPgpSecret::of_keys(keys)))
}

/// As from an object that is never plain.
fn open_it(stored: &[u8], keyring: &Keyring) -> Result<(Form, Option<Fingerprint>, Vec<u8>)> {
    let opened = open(stored, keyring, |_| false).map_err(|error| Error::from_io("", error))?;
    let (form, key) = (opened.form(), opened.key().cloned());
    Ok((form, key, read(opened)?))
}

/// The kind of error of a message that is damaged.
fn damage(stored: &[u8], keyring: &Keyring) -> ErrorKind {
    open_it(stored, keyring).expect_err("a damaged message was read").kind()
}

#[test]
fn messages_are_read() {
    for (keys, messages) in [(rsa(), &OF_RSA[..]), (cv25519(), &OF_CV25519)] {
        let fingerprint = keys[0].fingerprint();
        let keyring = keyring(keys);
        for (stored, length) in messages {
            let (form, key, content) = open_it(stored, &keyring).unwrap();
            assert_eq!((form, key.as_ref()), (Form::OpenPgp, Some(&fingerprint)));
            assert!(content == sample(*length), "{length} bytes");
            let opened = open(Pieces(*stored, 7, false), &keyring, |_| false).unwrap();
            assert!(read(Pieces(opened, 11, false)).unwrap() == sample(*length));
        }
    }
    // The right one of several.
    let keyring = keyring(rsa().into_iter().chain(cv25519()).collect());
    for (stored, length) in OF_RSA.into_iter().chain(OF_CV25519) {
        assert!(open_it(stored, &keyring).unwrap().2 == sample(length));
    }
}

#[test]
fn keys_are_read_as_gpg_and_wal_g_have_them() {
    let armoured = std::str::from_utf8(vector!("rsa.key")).unwrap();
    let one_line = armoured.replace('\n', "\\n");
    let twice = format!("\n{armoured}\n");
    for text in [armoured, &one_line, &twice] {
        let keys = OpenPgpKey::parse(text.as_bytes(), Some(PASSPHRASE)).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].fingerprint(), rsa()[0].fingerprint());
        assert_eq!(format!("{:?}", keys[0]), format!("OpenPgpKey({})", rsa()[0].fingerprint()));
    }
    assert_eq!(rsa()[0].fingerprint().as_str().len(), 16);
    // A passphrase for a key that has none is not needed.
    assert_eq!(OpenPgpKey::parse(vector!("cv25519.key"), Some("x")).unwrap().len(), 1);
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    let id = rsa()[0].fingerprint();
    let refused = |content: &[u8], passphrase| {
        let error = OpenPgpKey::parse(content, passphrase).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.message().to_owned()
    };
    let locked = vector!("rsa.key");
    assert_eq!(refused(locked, None), format!("OpenPGP key {id} is locked with a passphrase"));
    assert_eq!(
        refused(locked, Some("open barley")),
        format!("the passphrase does not unlock OpenPGP key {id}")
    );
    let truncated = &vector!("rsa.key")[..700];
    for content in
        [&b""[..], b"no key", vector!("public.key"), truncated, vector!("rsa_10"), &[0x95; 100]]
    {
        assert_eq!(refused(content, None), "it has no OpenPGP secret key that can be read");
    }
}

#[test]
fn a_message_that_no_key_opens_says_so() {
    for (stored, keys) in [
        (vector!("rsa_10"), cv25519()),
        (vector!("cv25519_10"), rsa()),
        (vector!("hidden_300"), rsa()),
        (vector!("go_20000"), Vec::new()),
        (vector!("armour_300"), Vec::new()),
        (vector!("password_300"), cv25519()),
    ] {
        let error = open_it(stored, &keyring(keys)).unwrap_err();
        assert_eq!(error.message(), "it is encrypted with OpenPGP, and no configured key opens it");
        assert_eq!(error.kind(), ErrorKind::Config);
    }
    let error = open_it(vector!("bzip2_300"), &keyring(cv25519())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.message().contains("not supported"), "{error}");
}

#[test]
fn a_message_that_ends_too_early_is_damaged() {
    let keyring = keyring(rsa().into_iter().chain(cv25519()).collect());
    for (stored, _) in OF_RSA.into_iter().chain(OF_CV25519) {
        let step = stored.len() / 40 + 1;
        for length in (20..stored.len()).step_by(step).chain(stored.len() - 4..stored.len()) {
            // The last bytes of armour are its frame.
            if stored[0] == b'-' && length > stored.len() - 30 {
                continue;
            }
            damage(&stored[..length], &keyring);
        }
    }
}

#[test]
fn a_bit_that_is_flipped_in_a_message_is_damage() {
    let keyring = keyring(cv25519());
    for stored in [vector!("whole_300"), vector!("pieces_20000"), vector!("cv25519_100000")] {
        let mut stored = stored.to_vec();
        // Behind the session key, and the header of what it encrypts.
        for place in (110..stored.len())
            .step_by(stored.len() / 50 + 1)
            .chain(stored.len() - 25..stored.len())
        {
            stored[place] ^= 0x10;
            assert_eq!(damage(&stored, &keyring), ErrorKind::Corrupt, "byte {place}");
            stored[place] ^= 0x10;
        }
        for more in [&b"x"[..], &[0; 100]] {
            assert_eq!(damage(&[&stored, more].concat(), &keyring), ErrorKind::Corrupt);
        }
    }
}

#[test]
fn content_streams() {
    /// Counts what was asked for.
    struct Counted<'a>(&'a [u8], &'a std::sync::atomic::AtomicUsize);
    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.read(buffer)?;
            self.1.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
            Ok(length)
        }
    }
    // All but the first bytes are damaged, which is not known yet.
    let mut stored = vector!("go_20000").to_vec();
    stored.extend([7; 300_000]);
    let read = std::sync::atomic::AtomicUsize::new(0);
    let mut opened = open(Counted(&stored, &read), &keyring(rsa()), |_| false).unwrap();
    let mut beginning = [0; 1000];
    opened.read_exact(&mut beginning).unwrap();
    assert_eq!(beginning, sample(1000)[..]);
    assert!(read.load(std::sync::atomic::Ordering::Relaxed) < 50_000);
}

#[test]
fn errors_of_the_store_stay_what_they_are() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(Error::new(ErrorKind::Unavailable, "the store is away").into())
        }
    }
    let keyring = keyring(cv25519());
    let stored = vector!("pieces_20000");
    for length in [10, 200, 8300, 12_000] {
        let content =
            open(stored[..length].chain(Failing), &keyring, |_| false).and_then(|mut opened| {
                let mut content = Vec::new();
                opened.read_to_end(&mut content)
            });
        let error = Error::from_io("", content.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Unavailable, "after {length} bytes");
    }
}
