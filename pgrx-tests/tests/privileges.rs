//! What wal_e does for a user gives no other privileges, and holds no database.

use wal_e_e2e::archive::Archive;
use wal_e_e2e::base_backup::BACKUP_WORKER;
use wal_e_e2e::cluster::{Cluster, rows};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::backup_push;

/// What the owner of a database can do to every session in it: names of
/// `pg_catalog`, defined anew and looked up first. Each makes `app` a superuser
/// when a superuser runs it.
const HOSTILE: &str = r#"
SET ROLE app;
CREATE SCHEMA evil;
CREATE FUNCTION evil.take() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on'::pg_catalog.text THEN
        ALTER ROLE app SUPERUSER;
    END IF;
    RETURN true;
END $$;
DO $$
DECLARE
    operator record;
    wanted record;
BEGIN
    FOR operator IN
        SELECT o.oprname, o.oprleft::regtype AS l, o.oprright::regtype AS r, row_number() OVER () AS number
        FROM pg_operator o
        WHERE o.oprname IN ('=', '<>', '<', '>', '||', '~') AND o.oprleft = o.oprright
          AND o.oprleft IN ('text'::regtype, 'name'::regtype, 'oid'::regtype, 'int4'::regtype, 'int8'::regtype,
                            'bool'::regtype, 'char'::regtype, 'pg_lsn'::regtype)
    LOOP
        EXECUTE format('CREATE FUNCTION evil.operator_%s(a %s, b %s) RETURNS boolean LANGUAGE plpgsql '
            'AS ''BEGIN RETURN evil.take(); END''', operator.number, operator.l, operator.r);
        EXECUTE format('CREATE OPERATOR evil.%s (FUNCTION = evil.operator_%s, LEFTARG = %s, RIGHTARG = %s)',
            operator.oprname, operator.number, operator.l, operator.r);
    END LOOP;
    FOR wanted IN
        SELECT DISTINCT ON (p.oid) p.proname, pg_get_function_identity_arguments(p.oid) AS arguments
        FROM pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND NOT p.proretset
          AND p.proname IN ('set_config', 'current_setting', 'pg_backup_start', 'pg_is_in_recovery', 'version',
                            'has_function_privilege', 'pg_read_binary_file', 'pg_try_advisory_lock', 'now', 'pg_backend_pid')
    LOOP
        EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS text LANGUAGE plpgsql '
            'AS ''BEGIN PERFORM evil.take(); RETURN NULL; END''', wanted.proname, wanted.arguments);
    END LOOP;
END $$;
CREATE VIEW evil.pg_settings AS SELECT name, setting FROM pg_catalog.pg_settings WHERE evil.take();
CREATE FUNCTION evil.wale_stat_archiver(OUT x text) RETURNS SETOF text LANGUAGE sql AS 'SELECT evil.take()::text';
RESET ROLE;
"#;

/// A cluster with the role `app` and its databases `d`, which has the extension,
/// and `e`, both shaped by it.
fn hostile_cluster(version: PgVersion, archive: &Archive) -> Cluster {
    let cluster = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(archive);
    cluster.execute("CREATE ROLE app LOGIN");
    for database in ["d", "e"] {
        cluster.execute(&format!("CREATE DATABASE {database} OWNER app"));
        cluster.execute_in(database, HOSTILE);
    }
    cluster.execute_in("d", "CREATE EXTENSION wal_e SCHEMA public");
    for database in ["d", "e"] {
        let mut app = cluster.client_to(database);
        app.batch_execute("SET ROLE app").expect("a superuser may be anybody");
        app.batch_execute(&format!(
            "ALTER DATABASE {database} SET search_path = evil, public, pg_catalog;
             ALTER DATABASE {database} SET standard_conforming_strings = off"
        ))
        .expect("the owner may configure his database");
    }
    cluster
}

#[track_caller]
fn assert_no_gain(cluster: &Cluster, what: &str) {
    let gained = "SELECT rolsuper FROM pg_roles WHERE rolname = 'app'";
    assert_eq!(cluster.query_one(gained), "f", "app gained by {what}");
}

#[test]
fn the_owner_of_a_database_gains_nothing_by_what_is_called_in_it() {
    for version in PgVersion::tested() {
        let archive = Archive::file();
        let cluster = hostile_cluster(version, &archive);
        for call in [
            "SELECT public.wale_backup_push()",
            "SELECT public.wale_backup_verify()",
            "SELECT public.wale_backup_list()",
            "SELECT public.wale_backup_progress()",
            "SELECT public.wale_backup_cancel()",
            "SELECT public.wale_restore_plan()",
            "SELECT public.wale_check()",
            "SELECT public.wale_recovery_window()",
            "SELECT public.wale_report()",
            "SELECT public.wale_wal_show()",
            "SELECT public.wale_wal_verify()",
            "SELECT public.wale_wal_repair()",
            "TABLE public.wale_stat_archiver",
        ] {
            let answer = rows(&mut cluster.client_to("d"), call);
            answer.unwrap_or_else(|error| panic!("{call}: {error}"));
            assert_no_gain(&cluster, call);
        }

        cluster.switch_wal();
        run(backup_push(&cluster, &archive).env("PGDATABASE", "d")).success();
        assert_no_gain(&cluster, "wal-e backup-push");

        cluster.execute_in("e", "CREATE EXTENSION wal_e SCHEMA public");
        assert_no_gain(&cluster, "CREATE EXTENSION");
        rows(&mut cluster.client_to("e"), "TABLE public.wale_stat_archiver")
            .expect("the view works");
        assert_no_gain(&cluster, "the view");

        // It would have worked: the same names, looked up in the session of a superuser.
        cluster.execute_in("d", "SELECT 'a'::text = 'b'::text");
        let gained = "SELECT rolsuper FROM pg_roles WHERE rolname = 'app'";
        assert_eq!(cluster.query_one(gained), "t", "the trap of this test does not work");
    }
}

#[test]
fn a_backup_does_not_hold_the_database_that_it_was_called_in() {
    for version in PgVersion::tested() {
        let archive = Archive::file();
        let cluster = Cluster::build(version)
            .wal_segment_size_mb(1)
            .configuration("wal_e.backup_read_rate_limit = 100")
            .start_archiving_to(&archive);
        cluster.execute("CREATE DATABASE ops");
        cluster.execute_in("ops", "CREATE EXTENSION wal_e");
        rows(&mut cluster.client_to("ops"), "SELECT wale_backup_push(wait => false)")
            .expect("a base backup begins");
        cluster.pid_of(BACKUP_WORKER);
        wait_for("the session that began the backup is gone", || {
            cluster.query_one("SELECT count(*) FROM pg_stat_activity WHERE datname = 'ops'") == "0"
        });
        cluster.execute("ALTER DATABASE ops RENAME TO operations");
        cluster.execute("CREATE DATABASE copy TEMPLATE operations");
        cluster.execute("DROP DATABASE operations");
        assert_eq!(cluster.backup_progress()["phase"], "uploading files");
        cluster.execute("SELECT wale_backup_cancel()");
        assert_eq!(cluster.backup_progress()["phase"], "canceled");
    }
}

/// Backup mode begins and ends without SQL: what it writes is what PostgreSQL writes.
#[test]
fn a_label_and_a_tablespace_of_a_backup_without_a_database_are_postgresql_s() {
    for version in PgVersion::tested() {
        let archive = Archive::file();
        let cluster = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(&archive);
        let location = cluster.create_tablespace("Büro");
        cluster.execute("CREATE TABLE t TABLESPACE \"büro\" AS SELECT 1 AS x");
        let name = cluster.query_one("SELECT wale_backup_push('Größe')");
        let key = format!("basebackups_005/{name}/tar_partitions/backup_label.tar.lz4");
        let object = archive.object(&key).expect("the backup has a label");
        let tar = wal_e_e2e::archive::decompress(&object);
        let text = String::from_utf8_lossy(&tar).into_owned();
        let history = cluster.query_one(&format!(
            "SELECT pg_read_file('pg_wal/' || name) FROM pg_ls_dir('pg_wal') AS name \
             WHERE name LIKE '{}.%.backup'",
            name.trim_start_matches("base_")
        ));
        for line in history.lines().filter(|line| !line.starts_with("STOP")) {
            assert!(text.contains(line), "\"{line}\" is missing in {text}");
        }
        assert!(text.contains("LABEL: Größe"), "{text}");
        assert!(text.contains(location.to_str().expect("a path in UTF-8")), "{text}");
    }
}

/// A limit that is meant for sessions of people does not end a backup's work.
#[test]
fn a_limit_of_transactions_does_not_end_the_wait_for_a_checkpoint() {
    for version in
        PgVersion::tested().into_iter().filter(|version| version.has_transaction_timeout())
    {
        let archive = Archive::file();
        let cluster = Cluster::build(version)
            .wal_segment_size_mb(1)
            .configuration("transaction_timeout = 200ms")
            .start_archiving_to(&archive);
        // The spread checkpoint of a backup takes longer than that.
        cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 50000) AS x");
        let mut session = cluster.client();
        session.batch_execute("SET transaction_timeout = 0").expect("a session may change it");
        rows(&mut session, "SELECT wale_backup_push(fast => false)").expect("the backup is taken");
    }
}
