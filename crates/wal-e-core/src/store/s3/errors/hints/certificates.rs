//! Why a certificate is not trusted, and how to make one that is.

use super::super::cause::has;
use crate::config::Setting;
use crate::store::s3::errors::Place;

/// What to do about a certificate that rustls refused with these words.
pub(super) fn hint(text: &str, place: &Place) -> String {
    let says = |words: &[&str]| has(text, words);
    let file = Setting::S3CaFile;
    if says(&["expired"]) {
        return "The server's certificate has expired: renew it, and check that the clock of this \
                machine is right."
            .to_owned();
    }
    if says(&["not valid yet", "notvalidyet"]) {
        return "The server's certificate is not valid yet: check the clocks of this machine and \
                of the one where it was made."
            .to_owned();
    }
    if says(&["not valid for any names"]) {
        return format!(
            "The server's certificate names no host in subjectAltName: put the certificate itself \
             into the file of {file}, or make another one, {}.",
            recipe(place)
        );
    }
    if says(&["not valid for name", "notvalidforname"]) {
        return format!(
            "Use a name in the endpoint that the certificate is for, or make a certificate for \
             \"{}\".",
            host(place)
        );
    }
    if says(&["causedasendentity"]) {
        return format!(
            "The server's certificate is marked as one of an authority (CA:TRUE): put the \
             certificate itself into the file of {file}, or make another one, {}.",
            recipe(place)
        );
    }
    if says(&["unsupportedcertversion"]) {
        return format!(
            "The server's certificate is of X.509 version 1: put the certificate itself into the \
             file of {file}, or make another one, {}.",
            recipe(place)
        );
    }
    if says(&["badsignature"]) {
        return format!(
            "The server does not hold the key of its certificate, or the authority in the file of \
             {file} has the name of the one that signed it and another key."
        );
    }
    format!(
        "Set {file} to the PEM file of the authority that signed the server's certificate, or of \
         that certificate itself. A server may also not send the certificate of an authority \
         between the two: then put that one into the file as well."
    )
}

/// The line that makes a certificate which every program takes.
fn recipe(place: &Place) -> String {
    let host = host(place);
    let kind = if host.parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" };
    format!(
        "such as by: openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -keyout key.pem -out \
         cert.pem -subj /CN={host} -addext subjectAltName={kind}:{host} -addext \
         basicConstraints=critical,CA:FALSE"
    )
}

/// The host of the endpoint, without the brackets of IPv6.
fn host(place: &Place) -> &str {
    let endpoint = place.endpoint.as_deref().unwrap_or("s3.amazonaws.com");
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or_default(),
    }
}
