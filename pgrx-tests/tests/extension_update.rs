//! The functions of a database and the library of its server may be of two versions for a
//! while: packages are installed, servers restarted and extensions updated at different times.

use std::fs;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::{Installation, PgVersion};
use wal_e_e2e::process::run;

/// The first version that was released.
const FIRST: &str = "1.0.0";

/// What this source is.
const THIS: &str = env!("CARGO_PKG_VERSION");

/// Everything that the extension has in a database: definitions, privileges, comments.
fn members(cluster: &Cluster, database: &str) -> Vec<Vec<String>> {
    let query = "SELECT pg_get_functiondef(p.oid), p.proacl::text, obj_description(p.oid, 'pg_proc') \
         FROM pg_depend d JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid \
         JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'wal_e' \
         WHERE d.deptype = 'e' \
         UNION ALL SELECT pg_get_viewdef(c.oid), c.relacl::text, obj_description(c.oid, 'pg_class') \
         FROM pg_depend d JOIN pg_class c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid \
         JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'wal_e' \
         WHERE d.deptype = 'e' ORDER BY 1";
    let rows = cluster.try_query(database, query).expect("the catalogue can be read");
    rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect()
}

/// Result, detail and hint of the check of the versions.
fn check(cluster: &Cluster) -> String {
    cluster.query_one(
        "SELECT concat_ws(' | ', ok, detail, hint) FROM wale_check() WHERE check_name = 'extension'",
    )
}

/// A server with the functions of the first release and the library of this one.
fn with_first_functions(version: PgVersion) {
    let archive = Archive::file();
    let cluster = Cluster::build(version).archiving_to(&archive).start();
    cluster.execute(&format!("CREATE EXTENSION wal_e VERSION '{FIRST}'"));
    cluster.archive_current_wal();
    let name = cluster.backup_push();
    assert_eq!(cluster.failure_of("SELECT wale_job_history()").sqlstate, "42883");
    // The library still has what the first functions call.
    assert_eq!(cluster.query("SELECT * FROM wale_backup_list()")[0].len(), 15);
    let expected = format!(
        "f | the extension has version {FIRST}, the library {THIS} | \
         Say ALTER EXTENSION wal_e UPDATE in this database."
    );
    assert_eq!(check(&cluster), expected);

    // What was granted stays, but for a function that is made anew.
    cluster.execute(
        "CREATE ROLE watcher; GRANT EXECUTE ON FUNCTION \
         wale_backup_list, wale_backup_push, wale_backup_verify TO watcher",
    );
    let mut psql = cluster.client_program("psql");
    let updated = run(psql.args(["-d", "postgres", "-c", "ALTER EXTENSION wal_e UPDATE"]));
    for signature in
        ["wale_backup_push(text, boolean, boolean, boolean, boolean)", "wale_backup_list()"]
    {
        let grant = format!("GRANT EXECUTE ON FUNCTION public.{signature} TO watcher;");
        assert!(updated.stderr.contains(&grant), "{updated}");
    }
    assert_eq!(check(&cluster), format!("t | {THIS}"));
    let may = "SELECT has_function_privilege('watcher', 'wale_backup_verify(text)', 'EXECUTE')";
    assert_eq!(cluster.query_one(may), "t");
    cluster.execute("REVOKE EXECUTE ON FUNCTION wale_backup_verify(text) FROM watcher");
    assert_eq!(cluster.query_one("SELECT backup_name FROM wale_backup_list()"), name);
    assert_eq!(cluster.query("SELECT * FROM wale_job_history()").len(), 0);

    cluster.execute("CREATE DATABASE fresh");
    cluster.execute_in("fresh", "CREATE EXTENSION wal_e");
    assert_eq!(members(&cluster, "postgres"), members(&cluster, "fresh"));
}

#[test]
fn a_database_is_updated_from_the_first_version() {
    PgVersion::tested().into_iter().for_each(with_first_functions);
}

/// The library of an older version: it lacks what the newer one brought.
fn make_older(library: &[u8], function: &str) -> Vec<u8> {
    let older = function.replace("wale_", "late_");
    let mut library = library.to_vec();
    let mut found = 0;
    for at in 0..library.len() - function.len() {
        if library[at..].starts_with(function.as_bytes()) {
            library[at..at + function.len()].copy_from_slice(older.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "the library has no {function}");
    library
}

/// A package was installed and the server was not restarted: it has the older library.
#[test]
fn functions_that_are_newer_than_the_library_are_refused_and_archiving_goes_on() {
    let version = PgVersion::oldest();
    let library = Installation::get(version).extension_library();
    let (archive, newer) = (Archive::file(), fs::read(&library).expect("the library can be read"));
    let replace = |bytes: &[u8]| {
        // As package managers do it: what a server has open stays as it is.
        let beside = library.with_extension("new");
        fs::write(&beside, bytes).expect("the installation can be written");
        fs::rename(&beside, &library).expect("the library can be replaced");
    };
    replace(&make_older(&newer, "wale_backup_mark_wrapper"));
    let mut cluster = Cluster::build(version).archiving_to(&archive).start();
    cluster.execute(&format!("CREATE EXTENSION wal_e VERSION '{FIRST}'"));
    replace(&newer);

    let refused = cluster.failure_of("ALTER EXTENSION wal_e UPDATE");
    let message = "the library of wal_e in this server is older than version 1.1.0";
    assert!(refused.text.contains(message) && refused.text.contains("Restart"), "{refused:?}");
    assert_eq!(refused.sqlstate, "55000");
    let installed = "SELECT extversion FROM pg_extension WHERE extname = 'wal_e'";
    assert_eq!(cluster.query_one(installed), FIRST);
    cluster.archive_current_wal();
    cluster.backup_push();

    cluster.restart();
    cluster.execute("ALTER EXTENSION wal_e UPDATE");
    assert_eq!(check(&cluster), format!("t | {THIS}"));
    cluster.archive_current_wal();
}

/// A library that is put back to an older version, with functions of a newer one.
#[test]
fn an_extension_that_is_newer_than_the_library_is_named() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::newest()).start_archiving_to(&archive);
    cluster.execute("UPDATE pg_extension SET extversion = '99.0.0' WHERE extname = 'wal_e'");
    let told = check(&cluster);
    assert!(told.starts_with(&format!("f | the extension has version 99.0.0, the library {THIS}")));
    assert!(told.ends_with("If that does not help, install wal_e 99.0.0."), "{told}");
    cluster.archive_current_wal();
}
