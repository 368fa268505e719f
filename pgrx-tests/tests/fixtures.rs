//! What the other tests rest on does what it says: comparisons see differences,
//! and faults happen.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::fault_proxy::{Fault, FaultProxy};
use wal_e_e2e::installation::PgVersion;

#[test]
fn a_fingerprint_changes_with_each_row_and_not_with_their_order() {
    let cluster = Cluster::build(PgVersion::oldest()).start();
    cluster.execute("CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')");
    let before = cluster.fingerprint();
    assert_eq!(before.table("public.t").map(|table| table.rows), Some(2));

    cluster.execute("UPDATE t SET v = 'c' WHERE id = 1");
    let changed = cluster.fingerprint();
    assert_ne!(before, changed);
    cluster.execute("TRUNCATE t; INSERT INTO t VALUES (2, 'b'), (1, 'c')");
    assert_eq!(cluster.fingerprint(), changed);
    cluster.execute("CREATE TABLE u ()");
    assert_ne!(cluster.fingerprint(), changed);
}

#[test]
fn a_killed_server_starts_again_with_its_data() {
    for &version in PgVersion::complete() {
        let mut cluster = Cluster::build(version).start();
        cluster.pgbench_init(1);
        let load = cluster.start_pgbench();
        let before = cluster.fingerprint();
        cluster.kill_postmaster();
        load.stop();
        cluster.start();
        let after = cluster.fingerprint();
        assert_eq!(
            after.table("public.pgbench_accounts").map(|table| table.rows),
            before.table("public.pgbench_accounts").map(|table| table.rows),
        );
        cluster.amcheck();
        cluster.stop(StopMode::Fast);
        cluster.check_page_checksums().success();
    }
}

/// Answers each connection's one request, and says where.
fn upstream(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be had");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection can be accepted");
            thread::spawn(move || {
                let mut request = [0; 1024];
                // A proxy that goes away is what the tests are about.
                if stream.read(&mut request).is_ok_and(|length| length > 0) {
                    let _ = stream.write_all(answer);
                }
            });
        }
    });
    endpoint
}

/// A connection on which a GET of `path` was sent.
fn ask(proxy: &FaultProxy, path: &str) -> TcpStream {
    let address = proxy.endpoint();
    let address = address.strip_prefix("http://").expect("it begins so");
    let mut stream = TcpStream::connect(address).expect("the proxy listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request can be sent");
    stream
}

/// As much of the answer as arrives at once; empty when none does.
fn first_bytes(proxy: &FaultProxy, path: &str) -> String {
    let mut answer = [0; 1024];
    let length = ask(proxy, path).read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// The answer until the connection ends, and how that was.
fn get(proxy: &FaultProxy, path: &str) -> (String, Option<ErrorKind>) {
    let mut stream = ask(proxy, path);
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer).err().map(|error| error.kind());
    (String::from_utf8_lossy(&answer).into_owned(), end)
}

#[test]
fn the_proxy_resets_answers_in_their_head_and_in_their_body() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
    let proxy = FaultProxy::start(&upstream(ANSWER));
    assert_eq!(get(&proxy, "/a"), (String::from_utf8_lossy(ANSWER).into_owned(), None));
    for (fault, what_may_arrive) in [
        (Fault::ResetInAnswerHead, "HTTP/1.1 20"),
        (Fault::ResetInAnswerBody, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nb"),
    ] {
        proxy.next(1, "/a", fault);
        let (answer, end) = get(&proxy, "/a");
        assert_eq!(end, Some(ErrorKind::ConnectionReset), "{fault:?}");
        // A reset may overtake what was sent before it.
        assert!(what_may_arrive.starts_with(&answer), "{fault:?}: {answer}");
        assert_eq!(proxy.faults_to_come(), 0);
    }
    assert_eq!(proxy.count_lost_answers("/a"), 2);
    assert_eq!(proxy.count_requests("GET", "/a"), 3);
}

#[test]
fn the_proxy_draws_the_same_faults_from_the_same_seed() {
    let proxy = FaultProxy::start(&upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let draw = |seed| {
        proxy.set(Fault::Random { seed, per_mille: 500 });
        let answers = (0..40).map(|_| first_bytes(&proxy, "/a").starts_with("HTTP/1.1 200 OK"));
        answers.collect::<Vec<_>>()
    };
    let first = draw(1);
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");
    assert_eq!(draw(1), first);
    assert_ne!(draw(2), first);
}

#[test]
fn the_proxy_counts_objects_under_way() {
    let proxy = FaultProxy::start(&upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    proxy.set(Fault::Delay(Duration::from_secs(1)));
    proxy.count_objects_under_way("/counted/");
    thread::scope(|scope| {
        for path in ["/counted/a", "/counted/b", "/counted/b?partNumber=2", "/other"] {
            let proxy = &proxy;
            scope.spawn(move || get(proxy, path));
        }
    });
    assert_eq!(proxy.most_objects_under_way(), 2);
    proxy.set(Fault::None);
    proxy.count_objects_under_way("");
    get(&proxy, "/counted/a");
    assert_eq!(proxy.most_objects_under_way(), 1);
}
