//! Keys as they are given.

use super::*;

const HEX: &str = "0102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F20";
const BASE64: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

#[test]
fn keys_are_those_of_wal_g() {
    let parsed = |text: &str, transform| Key::parse(text.as_bytes(), transform).unwrap();
    assert_eq!(parsed(HEX, KeyTransform::Hex), key());
    assert_eq!(parsed(BASE64, KeyTransform::Base64), key());
    // Go's decoder reads over line ends and bits that belong to no byte.
    assert_eq!(parsed(&BASE64.replace("MDQ4", "M\r\nDQ4"), KeyTransform::Base64), key());
    assert_eq!(parsed(&BASE64.replace("yA=", "yB="), KeyTransform::Base64), key());
    // As it is: cut off, or followed by zeros.
    let text = "abcdefghijklmnopqrstuvwxyz0123456789";
    let bytes = |key: &Key| *key.expose();
    assert_eq!(bytes(&parsed(text, KeyTransform::None)), text.as_bytes()[..32]);
    let mut padded = [0; 32];
    padded[..25].copy_from_slice(&text.as_bytes()[..25]);
    assert_eq!(bytes(&parsed(&text[..25], KeyTransform::None)), padded);
    let bytes = [0xFF; 32];
    assert_eq!(Key::parse(&bytes, KeyTransform::None).unwrap().expose(), &bytes);
}

#[test]
fn white_space_around_a_key_is_part_of_it_unless_it_is_a_file() {
    for (text, transform) in [(HEX, KeyTransform::Hex), (BASE64, KeyTransform::Base64)] {
        let content = format!("\u{b}\u{a0} \t{text}\r\n\n");
        assert_eq!(Key::of_file(content.as_bytes(), transform).unwrap(), key());
        assert!(Key::parse(content.as_bytes(), transform).is_err());
    }
    let text = "a key with spaces that is long";
    let file = format!(" {text}\n");
    let of_file = Key::of_file(file.as_bytes(), KeyTransform::None).unwrap();
    assert_eq!(of_file, Key::parse(text.as_bytes(), KeyTransform::None).unwrap());
    assert_ne!(of_file, Key::parse(file.as_bytes(), KeyTransform::None).unwrap());
    // What is not text has ends, too.
    let content = [&b"\n"[..], &[0xFE; 32][..], b"\n"].concat();
    assert_eq!(Key::of_file(&content, KeyTransform::None).unwrap(), Key::new([0xFE; 32]));
}

#[test]
fn a_key_of_the_wrong_form_is_refused_without_a_word_of_it() {
    for (text, transform, expected) in [
        ("only twenty-four bytes..", KeyTransform::None, "the key has less than 25 bytes"),
        ("", KeyTransform::None, "the key has less than 25 bytes"),
        ("", KeyTransform::Hex, "the key is of 0 bytes instead of 32"),
        (&HEX[2..], KeyTransform::Hex, "the key is of 31 bytes instead of 32"),
        (&HEX[1..], KeyTransform::Hex, "the key has an odd number of hexadecimal digits"),
        (BASE64, KeyTransform::Hex, "the key has characters that are no hexadecimal digits"),
        ("+1", KeyTransform::Hex, "the key has characters that are no hexadecimal digits"),
        (HEX, KeyTransform::Base64, "the key is of 48 bytes instead of 32"),
        (&BASE64[..43], KeyTransform::Base64, "the key is not valid base64 with padding"),
        ("not base64!", KeyTransform::Base64, "the key is not valid base64 with padding"),
    ] {
        let error = Key::parse(text.as_bytes(), transform).unwrap_err();
        assert_eq!(error.message(), expected);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(text.is_empty() || !format!("{error:?}").contains(text));
    }
    let error = HEX.parse::<KeyTransform>().unwrap_err();
    assert!(!format!("{error:?}").contains(HEX));
}

#[test]
fn transforms_have_the_names_of_wal_g() {
    for transform in [KeyTransform::None, KeyTransform::Hex, KeyTransform::Base64] {
        assert_eq!(transform.to_string().parse(), Ok(transform));
    }
    assert_eq!(KeyTransform::default(), KeyTransform::None);
    assert!("HEX".parse::<KeyTransform>().is_err());
}

#[test]
fn a_key_is_shown_as_its_fingerprint() {
    // printf 'wal-e key fingerprint\0\1\2...' | sha256sum
    let fingerprint = key().fingerprint();
    assert_eq!(fingerprint.as_str(), "dc4ff40f");
    assert_eq!(format!("{:?}", key()), format!("Key({fingerprint})"));
    assert_ne!(fingerprint, other_key().fingerprint());
    let keyring = Keyring::new(Some(key()), vec![other_key()], None);
    let shown = format!("{keyring:?}");
    assert!(shown.contains(fingerprint.as_str()), "{shown}");
    assert!(!shown.contains("7, 7"), "{shown}");
}

#[test]
fn the_key_to_write_with_is_tried_first_and_none_twice() {
    let third = Key::new([9; 32]);
    let keyring =
        Keyring::new(Some(third.clone()), vec![key(), third.clone(), other_key(), key()], None);
    assert_eq!(keyring.writing(), Some(&third));
    assert_eq!(keyring.reading(), [third, key(), other_key()]);
    let keyring = Keyring::new(None, vec![key()], None);
    assert_eq!(keyring.writing(), None);
    assert_eq!(keyring.reading(), [key()]);
    assert!(!keyring.is_empty());
    assert!(Keyring::empty().is_empty());
    assert_eq!(Keyring::empty().writing(), None);
}
