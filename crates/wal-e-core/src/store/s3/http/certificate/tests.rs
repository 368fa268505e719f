use std::time::Duration;

use super::*;

/// An element of DER.
fn element(tag: u8, inside: &[u8]) -> Vec<u8> {
    assert!(inside.len() < 0x80 || inside.len() < 0x100, "long enough for a test");
    let mut element = vec![tag];
    if inside.len() >= 0x80 {
        element.push(0x81);
    }
    element.push(u8::try_from(inside.len()).unwrap());
    element.extend(inside);
    element
}

fn made(from: &[u8], until: &[u8], extensions: &[u8]) -> Vec<u8> {
    let time = |text: &[u8]| element(if text.len() == 13 { 0x17 } else { 0x18 }, text);
    let name = element(SEQUENCE, &[element(6, COMMON_NAME), element(0x0C, b"s3.test")].concat());
    let key = [element(SEQUENCE, &[5, 0]), element(BIT_STRING, &[0, 7, 8, 9])].concat();
    let body = [
        element(INTEGER, &[1]),
        element(SEQUENCE, &[]),
        element(SEQUENCE, &[]),
        element(SEQUENCE, &[time(from), time(until)].concat()),
        element(SEQUENCE, &element(SET, &name)),
        element(SEQUENCE, &key),
        extensions.to_vec(),
    ];
    element(SEQUENCE, &element(SEQUENCE, &body.concat()))
}

fn name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap()
}

#[test]
fn key_names_and_times_are_read() {
    let der = made(b"700101000010Z", b"20500101000000Z", &[]);
    let certificate = Certificate::parse(&der).unwrap();
    assert_eq!(certificate.key, [7, 8, 9]);
    assert_eq!(certificate.key_algorithm, [5, 0]);
    assert!(!certificate.has_names);
    certificate.has_common_name(&name("s3.test")).unwrap();
    certificate.has_common_name(&name("S3.TEST")).unwrap();
    for other in ["s4.test", "a.s3.test", "test", "127.0.0.1"] {
        assert!(certificate.has_common_name(&name(other)).is_err(), "{other}");
    }
    let at = |seconds| certificate.is_valid_at(UnixTime::since_unix_epoch(seconds));
    assert_eq!(at(Duration::from_secs(9)), Err(CertificateError::NotValidYet));
    assert_eq!(at(Duration::from_secs(10)), Ok(()));
    assert_eq!(at(Duration::from_secs(2_524_608_000)), Ok(()));
    assert_eq!(at(Duration::from_secs(2_524_608_001)), Err(CertificateError::Expired));
}

#[test]
fn the_extension_with_names_is_found() {
    for (identifier, found) in [(SUBJECT_ALT_NAME, true), (&[0x55, 0x1D, 0x0F][..], false)] {
        let extension = element(SEQUENCE, &[element(6, identifier), element(4, &[])].concat());
        let extensions = element(EXTENSIONS, &element(SEQUENCE, &extension));
        let der = made(b"700101000010Z", b"20500101000000Z", &extensions);
        assert_eq!(Certificate::parse(&der).unwrap().has_names, found);
    }
}

#[test]
fn what_is_no_certificate_is_refused_wherever_it_ends() {
    let der = made(b"700101000010Z", b"20500101000000Z", &[]);
    for length in 0..der.len() {
        assert_eq!(Certificate::parse(&der[..length]), None, "{length}");
    }
    for (from, until) in [(&b"701301000010Z"[..], &b"20500101000000Z"[..]), (b"x", b"y")] {
        assert_eq!(Certificate::parse(&made(from, until, &[])), None);
    }
}
