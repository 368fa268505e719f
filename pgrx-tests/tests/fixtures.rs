//! The comparisons that the other tests rest on see what they must see.

use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;

#[test]
fn a_fingerprint_changes_with_each_row_and_not_with_their_order() {
    let cluster = Cluster::build(PgVersion::V15).start();
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
    for version in [PgVersion::V15, PgVersion::V18] {
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
        if cluster.installation().has_extension("amcheck") {
            cluster.amcheck();
        }
        cluster.stop(StopMode::Fast);
        cluster.check_page_checksums().success();
    }
}
