use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

fn environment(variables: &[(&str, &str)]) -> Place {
    let none = [("HOME", "/nonexistent")];
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let variables = none.iter().chain(variables).map(owned);
    Place::Environment(variables.collect::<BTreeMap<_, _>>())
}

fn from(variables: &[(&str, &str)]) -> Result<Settings> {
    settings(&environment(variables))
}

/// Name, address and port of each server.
fn servers(variables: &[(&str, &str)]) -> Vec<(Option<String>, Address, u16)> {
    let settings = from(variables).unwrap_or_else(|error| panic!("{variables:?}: {error}"));
    settings.servers.into_iter().map(|one| (one.name, one.address, one.port)).collect()
}

fn tcp(address: &str) -> Address {
    Address::Tcp(address.to_owned())
}

fn socket(directory: &str) -> Address {
    Address::Socket(directory.to_owned())
}

fn name(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn servers_are_lists_of_hosts_addresses_and_ports() {
    assert_eq!(
        servers(&[("PGHOST", "/sockets,db,@abstract,"), ("PGPORT", "5433,,5435,5436")]),
        [
            (name("/sockets"), socket("/sockets"), 5433),
            (name("db"), tcp("db"), 5432),
            (name("@abstract"), socket("@abstract"), 5435),
            (None, socket(places::SOCKET_DIRECTORIES[0]), 5436),
        ]
    );
    assert_eq!(
        servers(&[("PGHOST", "a,b"), ("PGHOSTADDR", "10.0.0.1,fe80::1%eth0"), ("PGPORT", "1")]),
        [(name("a"), tcp("10.0.0.1"), 1), (name("b"), tcp("fe80::1%eth0"), 1)]
    );
    assert_eq!(servers(&[("PGHOSTADDR", "::1")]), [(None, tcp("::1"), 5432)]);
}

#[test]
fn what_cannot_be_meant_or_done_is_refused_by_the_name_of_its_variable() {
    let db = ("PGHOST", "db");
    for (variables, named) in [
        (&[("PGPORT", "x")][..], "PGPORT"),
        (&[("PGPORT", "0")], "PGPORT"),
        (&[("PGPORT", "70000")], "PGPORT"),
        (&[("PGPORT", "1,2")], "2 port numbers to 1 host"),
        (&[("PGHOST", "a,b"), ("PGHOSTADDR", "1.2.3.4")], "2 host names to 1 hostaddr"),
        (&[("PGHOSTADDR", "db.example")], "PGHOSTADDR"),
        (&[("PGCONNECT_TIMEOUT", "soon")], "PGCONNECT_TIMEOUT"),
        (&[("PGSSLMODE", "on")], "PGSSLMODE"),
        (&[db, ("PGSSLMODE", "verify-full")], "root certificate file"),
        (&[db, ("PGSSLMODE", "require"), ("PGSSLROOTCERT", "system")], "PGSSLMODE"),
        (&[db, ("PGSSLNEGOTIATION", "direct")], "direct"),
        (&[db, ("PGSSLMAXPROTOCOLVERSION", "TLSv1.1")], "PGSSLMAXPROTOCOLVERSION"),
        (&[db, ("PGSSLKEY", "pkcs11:key")], "PGSSLKEY"),
        (&[("PGTARGETSESSIONATTRS", "master")], "PGTARGETSESSIONATTRS"),
        (&[("PGLOADBALANCEHOSTS", "yes")], "PGLOADBALANCEHOSTS"),
        (&[("PGREQUIREAUTH", "kerberos")], "PGREQUIREAUTH"),
        (&[("PGCHANNELBINDING", "on")], "PGCHANNELBINDING"),
        (&[("PGGSSENCMODE", "require")], "PGGSSENCMODE"),
        (&[("PGMINPROTOCOLVERSION", "3.2")], "PGMINPROTOCOLVERSION"),
        (&[("PGSERVICE", "prod"), ("PGSYSCONFDIR", "/nonexistent")], "\"prod\""),
        (&[("PGSERVICE", "prod"), ("PGSERVICEFILE", "/nonexistent")], "/nonexistent"),
    ] {
        match from(variables) {
            Ok(_) => panic!("{variables:?} was taken"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Config, "{variables:?}");
                assert!(error.message().contains(named), "{variables:?}: {error}");
            }
        }
    }
}

#[test]
fn what_does_no_harm_is_a_warning() {
    for (variables, count) in [
        (&[("PGCLIENTENCODING", "utf-8"), ("PGGSSENCMODE", "prefer")][..], 0),
        (&[("PGCLIENTENCODING", "LATIN1")], 1),
        (&[("PGKRBSRVNAME", "pg"), ("PGGSSLIB", "gssapi")], 2),
    ] {
        let warnings = from(variables).unwrap().warnings;
        assert_eq!(warnings.len(), count, "{warnings:?}");
        assert!(warnings.iter().all(|warning| warning.starts_with("PG")), "{warnings:?}");
    }
}

#[test]
fn variables_are_read_as_libpq_reads_them() {
    let settings = from(&[
        ("PGUSER", "backup"),
        ("PGDATABASE", "db"),
        ("PGPASSWORD", "hunter2"),
        ("PGAPPNAME", "nightly"),
        ("PGCONNECT_TIMEOUT", " 1 "),
        ("PGTARGETSESSIONATTRS", "primary"),
        ("PGLOADBALANCEHOSTS", "random"),
        ("PGHOST", "db"),
        ("PGREQUIRESSL", "1"),
        ("PGREQUIREPEER", "postgres"),
    ])
    .unwrap();
    assert_eq!((settings.user.as_str(), settings.database.as_str()), ("backup", "db"));
    assert_eq!(settings.application_name, "nightly");
    assert_eq!(settings.timeout, Some(Duration::from_secs(2)));
    assert_eq!((settings.target, settings.random_order), (Target::Primary, true));
    assert_eq!(settings.tls.mode, TlsMode::Require);
    assert_eq!(settings.required_peer.as_deref(), Some("postgres"));
    let password = settings.servers[0].password.as_ref().unwrap();
    assert_eq!((password.bytes.as_slice(), &password.file), (&b"hunter2"[..], &None));

    let settings = from(&[("PGCONNECT_TIMEOUT", "0")]).unwrap();
    assert_eq!((settings.timeout, settings.database.as_str()), (None, "postgres"));
    assert_eq!(settings.user, places::user_name().unwrap());
    // At a socket there is no TLS, and none of its files is needed.
    let at_socket = from(&[("PGHOST", "/sockets"), ("PGSSLMODE", "verify-full")]).unwrap();
    assert_eq!(at_socket.tls.mode, TlsMode::Disable);
    assert_eq!(from(&[("PGHOST", "db")]).unwrap().tls.mode, TlsMode::Prefer);
}

#[test]
fn our_own_options_come_last() {
    assert_eq!(from(&[]).unwrap().options, OWN_OPTIONS);
    let settings = from(&[
        ("PGOPTIONS", "-c search_path=evil"),
        ("PGTZ", "Europe/Old Town"),
        ("PGDATESTYLE", "default"),
    ]);
    let expected = format!(r"-c search_path=evil -c TimeZone=Europe/Old\ Town {OWN_OPTIONS}");
    assert_eq!(settings.unwrap().options, expected);
}

#[test]
fn a_service_goes_before_the_environment_and_the_user_s_own_file_before_the_system_s() {
    let (home, system) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |directory: &Path| directory.to_str().unwrap().to_owned();
    let (home_path, system_path) = (at(home.path()), at(system.path()));
    let file = |directory: &Path, name: &str, content: &str| {
        fs::write(directory.join(name), content).unwrap();
    };
    file(system.path(), "pg_service.conf", "[prod]\nhost=system\n[other]\nhost=other\n");
    file(home.path(), ".pg_service.conf", "[prod]\nhost=own\nsslmode=require\n");
    let read = |service: &str| {
        from(&[
            ("HOME", home_path.as_str()),
            ("PGSYSCONFDIR", &system_path),
            ("PGSERVICE", service),
            ("PGHOST", "environment"),
            ("PGPORT", "5433"),
        ])
    };
    let settings = read("prod").unwrap();
    assert_eq!(settings.servers[0].address, tcp("own"));
    assert_eq!((settings.servers[0].port, settings.tls.mode), (5433, TlsMode::Require));
    assert_eq!(read("other").unwrap().servers[0].address, tcp("other"));
    let missing = read("test").err().unwrap();
    assert!(missing.detail().is_some_and(|detail| detail.contains(&system_path)), "{missing:?}");

    file(home.path(), ".pg_service.conf", "[prod]\nport=five\n");
    let wrong = read("prod").err().unwrap();
    assert!(wrong.message().contains("\"port\" of service \"prod\""), "{wrong}");
}

#[test]
fn a_password_file_has_a_password_for_each_server() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".pgpass");
    let lines = "localhost:5432:*:bk:of socket\n/sockets:*:*:bk:of directory\n\
                 db:5433:*:bk:of db\n10.0.0.1:*:*:*:of address\n";
    fs::write(&file, lines).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let home = home.path().to_str().unwrap();
    let passwords = |variables: &[(&str, &str)]| -> Vec<String> {
        let all = [&[("HOME", home), ("PGUSER", "bk")], variables].concat();
        let servers = from(&all).unwrap().servers.into_iter();
        let text = |server: Server| server.password.map(|password| password.bytes);
        servers.map(|server| String::from_utf8(text(server).unwrap_or_default()).unwrap()).collect()
    };
    let hosts = [("PGHOST", ",/sockets,db,db,/tmp"), ("PGPORT", "5432,1,5433,5434,5432")];
    assert_eq!(passwords(&hosts), ["of socket", "of directory", "of db", "", "of socket"]);
    assert_eq!(passwords(&[("PGHOSTADDR", "10.0.0.1")]), ["of address"]);
    assert_eq!(passwords(&[("PGUSER", "other")]), [""]);
    assert_eq!(passwords(&[("PGPASSWORD", "given")]), ["given"]);
}

#[test]
fn a_socket_is_looked_for_where_packages_have_it() {
    let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(full.path().join(".s.PGSQL.5433"), "").unwrap();
    let directories = [empty.path(), full.path()].map(|path| path.to_str().unwrap());
    assert_eq!(places::socket_directory(&directories, 5433), directories[1]);
    assert_eq!(places::socket_directory(&directories, 5432), directories[0]);
}
