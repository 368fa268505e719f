use std::collections::BTreeMap;

use super::*;
use crate::config::Place;

fn environment(variables: &[(&str, &str)]) -> Variables {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Variables { places: vec![Place::Environment(variables.collect::<BTreeMap<_, _>>())] }
}

fn through(proxies: &Proxies, url: &str) -> Option<String> {
    proxies.for_url(url).map(Proxy::url)
}

#[test]
fn each_kind_of_request_has_its_variable_in_either_case() {
    for (names, http, https) in [
        (&["HTTP_PROXY"][..], true, false),
        (&["http_proxy"], true, false),
        (&["HTTPS_PROXY"], false, true),
        (&["https_proxy"], false, true),
        (&["HTTPS_PROXY", "HTTP_PROXY"], true, true),
        // A program of another kind is meant.
        (&["ALL_PROXY", "FTP_PROXY"], false, false),
    ] {
        let set: Vec<_> = names.iter().map(|name| (*name, "http://p:3128")).collect();
        let proxies = Proxies::resolve(None, &environment(&set)).unwrap();
        let expected = |used: bool| used.then(|| "http://p:3128".to_owned());
        assert_eq!(through(&proxies, "http://s3.example.com"), expected(http), "{names:?}");
        assert_eq!(through(&proxies, "https://s3.example.com"), expected(https), "{names:?}");
    }
    let both = environment(&[("HTTPS_PROXY", "http://upper:1"), ("https_proxy", "http://lower:1")]);
    let proxies = Proxies::resolve(None, &both).unwrap();
    assert_eq!(through(&proxies, "https://h").as_deref(), Some("http://lower:1"));
}

#[test]
fn a_setting_counts_before_variables_and_can_say_none() {
    let set = environment(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "*")]);
    let proxies = Proxies::resolve(Some("http://given:8080"), &set).unwrap();
    assert_eq!(through(&proxies, "https://h").as_deref(), Some("http://given:8080"));
    assert_eq!(through(&proxies, "http://h").as_deref(), Some("http://given:8080"));
    let set = environment(&[("HTTPS_PROXY", "http://p:1")]);
    assert_eq!(Proxies::resolve(Some("none"), &set).unwrap(), Proxies::default());
}

#[test]
fn hosts_are_reached_without_a_proxy_where_no_proxy_says_so() {
    for (list, url, direct) in [
        ("s3.example.com", "https://s3.example.com", true),
        ("S3.Example.com", "https://s3.example.COM.", true),
        ("s3.example.com", "https://bucket.s3.example.com", true),
        ("example.com", "https://notexample.com", false),
        (".example.com", "https://s3.example.com", true),
        ("*.example.com", "https://s3.example.com", true),
        ("other, .example.com", "https://s3.example.com", true),
        ("other .example.com", "https://s3.example.com", true),
        ("*", "https://anything", true),
        ("10.1.2.3", "http://10.1.2.3:9000", true),
        ("10.1.2.3", "http://10.1.2.30:9000", false),
        ("10.0.0.0/8", "http://10.200.3.4", true),
        ("10.0.0.0/8", "http://11.0.0.1", false),
        ("0.0.0.0/0", "http://11.0.0.1", true),
        ("10.0.0.0/8", "http://ten.example.com", false),
        ("fd00::/16", "http://[fd00::7]:9000", true),
        ("::1", "http://[::1]:9000", true),
        ("[::1]", "http://[::1]:9000", true),
        ("[::1]:9000", "http://[::1]:9000", true),
        ("[::1]:9001", "http://[::1]:9000", false),
        ("minio:9000", "http://minio:9000", true),
        ("minio:9000", "http://minio:9001", false),
        ("s3.example.com:443", "https://s3.example.com", true),
        ("", "https://s3.example.com", false),
        ("/,x/y,a:b", "https://s3.example.com", false),
    ] {
        let set = environment(&[
            ("HTTP_PROXY", "http://p:1"),
            ("HTTPS_PROXY", "http://p:1"),
            ("NO_PROXY", list),
        ]);
        let proxies = Proxies::resolve(None, &set).unwrap();
        assert_eq!(through(&proxies, url).is_none(), direct, "{list:?} {url}");
    }
}

#[test]
fn no_proxy_sees_the_keys_of_a_machine() {
    let proxies = Proxies::resolve(Some("http://p:1"), &Variables::default()).unwrap();
    for url in ["http://169.254.169.254", "http://169.254.170.2", "http://[fd00:ec2::254]"] {
        assert_eq!(through(&proxies, url), None, "{url}");
    }
}

#[test]
fn every_form_of_a_proxy_is_understood() {
    for (text, url, login) in [
        ("http://p:3128", "http://p:3128", None),
        ("p:3128", "http://p:3128", None),
        ("http://p", "http://p:80", None),
        ("https://p/", "https://p:443", None),
        ("http://[::1]:3128", "http://[::1]:3128", None),
        ("http://me:hunter2@p:1", "http://p:1", Some(("me", "hunter2"))),
        ("http://me:h%40%3A@p:1", "http://p:1", Some(("me", "h@:"))),
        ("http://me@p:1", "http://p:1", Some(("me", ""))),
        ("http://a%zz:50%@p:1", "http://p:1", Some(("a%zz", "50%"))),
    ] {
        let proxy = Proxy::parse(text, "a test".into()).unwrap();
        assert_eq!(proxy.url(), url);
        let found = proxy.login.as_ref().map(|(user, password)| (user.as_str(), password.expose()));
        assert_eq!(found, login, "{text}");
        assert!(!format!("{proxy} {proxy:?}").contains("hunter2"));
    }
}

#[test]
fn what_is_no_proxy_is_refused_without_repeating_a_password() {
    for text in ["", "http://", "ftp://p:1", "socks5://u:hunter2@p:1", "http://u:hunter2@p:x"] {
        let error = Proxies::resolve(None, &environment(&[("HTTPS_PROXY", text)]));
        match error {
            // An empty variable is not set.
            Ok(proxies) => assert_eq!((text, proxies), ("", Proxies::default())),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Config, "{text}");
                assert!(error.message().contains("HTTPS_PROXY in the environment"), "{error}");
                assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
            }
        }
    }
    let error = check_proxy("http://u:hunter2@p:1").unwrap_err();
    assert!(error.hint().unwrap().contains("HTTPS_PROXY"), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    for fine in ["", "none", "http://p:1"] {
        check_proxy(fine).unwrap();
    }
}
