use std::process::Command;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::*;

/// A certificate for `s3.test`, valid from the first to the last second of 2026.
fn made(names: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(directory.path())
            .output()
            .expect("the tests need the program openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(directory.path().join("index.txt"), "").unwrap();
    std::fs::write(
        directory.path().join("ca.cnf"),
        format!(
            "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\n\
             default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n{names}"
        ),
    )
    .unwrap();
    openssl("req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=s3.test");
    let times = "-startdate 20260101000000Z -enddate 20261231235959Z";
    let extensions = if names.is_empty() { "" } else { "-extensions names" };
    openssl(&format!(
        "ca -batch -config ca.cnf -selfsign -keyfile key.pem -in request.pem -out cert.pem \
         -notext {times} {extensions}"
    ));
    CertificateDer::from_pem_file(directory.path().join("cert.pem")).unwrap().to_vec()
}

#[test]
fn it_is_valid_from_its_first_to_its_last_second() {
    const FIRST: u64 = 1_767_225_600;
    const LAST: u64 = 1_798_761_599;
    let certificate = Certificate::parse(&made("")).unwrap();
    let at =
        |seconds| certificate.check_time(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
    assert_eq!(at(FIRST - 1), Err(CertificateError::NotValidYet));
    assert_eq!(at(FIRST), Ok(()));
    assert_eq!(at(LAST), Ok(()));
    assert_eq!(at(LAST + 1), Err(CertificateError::Expired));
}

#[test]
fn its_names_are_read_in_both_places() {
    let by_common_name = Certificate::parse(&made("")).unwrap();
    by_common_name.check_host("S3.TEST", CommonName::WithoutOthers).unwrap();
    for other in ["s4.test", "a.s3.test", "test", "127.0.0.1"] {
        let said = by_common_name.check_host(other, CommonName::WithoutOthers).unwrap_err();
        assert_eq!(
            said,
            format!("the server's certificate is for \"s3.test\", not for host \"{other}\"")
        );
    }
    let names = "[names]\nsubjectAltName=DNS:*.b.test,IP:127.0.0.1,IP:::1\n";
    let by_other_names = Certificate::parse(&made(names)).unwrap();
    for host in ["a.b.test", "127.0.0.1", "::1"] {
        by_other_names.check_host(host, CommonName::WithoutOthers).unwrap();
    }
    let said = by_other_names.check_host("s3.test", CommonName::WithoutOthers).unwrap_err();
    assert!(said.contains("is for \"*.b.test\", \"127.0.0.1\", \"::1\""), "{said}");
}

#[test]
fn a_part_of_a_certificate_is_refused_wherever_it_ends() {
    let der = made("");
    for length in 0..der.len() {
        assert!(Certificate::parse(&der[..length]).is_err(), "{length}");
    }
}
