//! The SQL that is kept by hand and the library that it calls belong together.

use std::collections::BTreeSet;
use std::process::Command;

use wal_e_core::config::{Context, Number, Setting, Value};
use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::{Installation, PgVersion, scripts};
use wal_e_e2e::process::run;
use wal_e_e2e::wal_e::run_wal_e;

/// The C symbols that the scripts name, from the first version to this one.
fn symbols_of_scripts() -> BTreeSet<String> {
    let scripts = scripts();
    let literals =
        scripts.lines().filter(|line| !line.trim_start().starts_with("--")).flat_map(|line| {
            line.split('\'').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
        });
    literals.filter(|literal| literal.ends_with("_wrapper")).collect()
}

/// The SQL-callable symbols that the library exports: each has a `pg_finfo_` twin.
fn symbols_of_library(installation: &Installation) -> BTreeSet<String> {
    let mut nm = Command::new("nm");
    nm.args(["--dynamic", "--defined-only"]).arg(installation.extension_library());
    let listed = run(&mut nm).success();
    let names: BTreeSet<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().last()).collect();
    let finfo = names.iter().filter_map(|name| name.strip_prefix("pg_finfo_"));
    finfo
        .inspect(|name| assert!(names.contains(name), "{name} itself is missing"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn scripts_and_library_name_the_same_functions() {
    let script = symbols_of_scripts();
    assert!(script.contains("wale_backup_push_wrapper"), "{script:?}");
    for version in PgVersion::tested() {
        assert_eq!(script, symbols_of_library(Installation::get(version)), "{version:?}");
    }
}

#[test]
fn the_functions_are_the_documented_ones_and_nobody_may_call_them_unasked() {
    for version in PgVersion::tested() {
        let archive = Archive::file();
        let cluster = Cluster::build(version).archiving_to(&archive).start();
        cluster.execute("CREATE SCHEMA backup; CREATE EXTENSION wal_e SCHEMA backup");
        let members = "FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass \
             AND d.objid = p.oid AND d.deptype = 'e' \
             JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'wal_e'";
        let signatures = cluster.query(&format!(
            "SELECT p.proname || '(' || regexp_replace(pg_get_function_arguments(p.oid), ',? ?OUT .*', '') \
             || ')' {members} ORDER BY 1"
        ));
        assert_eq!(
            signatures,
            [
                ["wale_backup_cancel()"],
                ["wale_backup_chains()"],
                ["wale_backup_delete(backup_name text, dry_run boolean DEFAULT true)"],
                ["wale_backup_list()"],
                ["wale_backup_mark(backup_name text, permanent boolean)"],
                ["wale_backup_progress()"],
                ["wale_backup_push(label text DEFAULT 'wal_e'::text, fast boolean DEFAULT true, \
                  permanent boolean DEFAULT false, wait boolean DEFAULT true, \
                  incremental boolean DEFAULT false)"],
                ["wale_backup_verify(backup_name text DEFAULT 'LATEST'::text)"],
                ["wale_check()"],
                ["wale_delete_before(backup_name text, dry_run boolean DEFAULT true)"],
                ["wale_delete_garbage(dry_run boolean DEFAULT true)"],
                ["wale_job_history()"],
                ["wale_recovery_window()"],
                ["wale_report()"],
                ["wale_restore_plan(target_time timestamp with time zone DEFAULT NULL::timestamp \
                  with time zone, target_lsn pg_lsn DEFAULT NULL::pg_lsn, target_name text \
                  DEFAULT NULL::text, target_timeline text DEFAULT NULL::text)"],
                [
                    "wale_retain(full_backups integer DEFAULT NULL::integer, dry_run boolean DEFAULT \
                  true, recovery_window interval DEFAULT NULL::interval, calendar text DEFAULT \
                  NULL::text)"
                ],
                ["wale_stat_archiver()"],
                ["wale_wal_repair()"],
                ["wale_wal_show()"],
                ["wale_wal_verify()"],
            ]
        );
        let open_to_all = cluster.query(&format!(
            "SELECT p.proname {members} WHERE has_function_privilege('public', p.oid, 'EXECUTE')"
        ));
        assert_eq!(open_to_all, Vec::<Vec<String>>::new());

        cluster.execute("CREATE ROLE operator; GRANT USAGE ON SCHEMA backup TO operator");
        let as_operator = "SET ROLE operator; SELECT count(*) FROM backup.wale_backup_list()";
        assert_eq!(cluster.failure_of(as_operator).sqlstate, "42501");
        cluster.execute("GRANT EXECUTE ON FUNCTION backup.wale_backup_list() TO operator");
        cluster.execute(as_operator);

        // Who watches servers may read statistics, and nothing else.
        cluster.execute(
            "CREATE ROLE watcher IN ROLE pg_monitor; GRANT USAGE ON SCHEMA backup TO watcher",
        );
        cluster.execute("SET ROLE watcher; SELECT * FROM backup.wale_stat_archiver");
        for denied in [
            "SET ROLE operator; SELECT * FROM backup.wale_stat_archiver",
            "SET ROLE watcher; SELECT * FROM backup.wale_check()",
        ] {
            assert_eq!(cluster.failure_of(denied).sqlstate, "42501");
        }

        // Only a superuser sees where the cluster archives.
        let show = "SET ROLE operator; SHOW wal_e.prefix";
        assert_eq!(cluster.failure_of(show).sqlstate, "42501");
        cluster.execute("DROP EXTENSION wal_e; CREATE EXTENSION wal_e");
    }
}

/// A setting as `pg_settings` shows it: name, context, type, unit, lowest, highest, words,
/// default, both descriptions.
fn as_pg_settings_shows_it(setting: Setting) -> Option<Vec<String>> {
    let description = setting.describe();
    let context = match description.guc?.context {
        Context::Sighup => "sighup",
    };
    let none = String::new;
    let [kind, unit, low, high, words, default] = match description.value {
        Value::Text { .. } => ["string".to_owned(), none(), none(), none(), none(), none()],
        Value::Switch { default } => {
            let default = if default { "on" } else { "off" }.to_owned();
            ["bool".to_owned(), none(), none(), none(), none(), default]
        }
        Value::Choice { words, default } => {
            ["enum".to_owned(), none(), none(), none(), words.join(","), default.to_owned()]
        }
        Value::Number(Number { unit, low, high, default }) => {
            let unit = unit.symbol().to_owned();
            let default = default.expect("a setting of the server has a default").to_string();
            ["integer".to_owned(), unit, low.to_string(), high.to_string(), none(), default]
        }
    };
    let short = format!("{}.", description.purpose);
    let (name, context) = (setting.guc_name()?, context.to_owned());
    let long = setting.long_description();
    Some(vec![name, context, kind, unit, low, high, words, default, short, long])
}

#[test]
fn the_settings_of_the_server_are_those_of_the_table() {
    for version in PgVersion::tested() {
        let cluster = Cluster::build(version).archiving_to(&Archive::file()).start();
        let shown = cluster.query(
            "SELECT name, context, vartype, coalesce(unit, ''), coalesce(min_val, ''), \
             coalesce(max_val, ''), coalesce(array_to_string(enumvals, ','), ''), boot_val, \
             short_desc, coalesce(extra_desc, '') \
             FROM pg_settings WHERE name LIKE 'wal\\_e.%' ORDER BY name COLLATE \"C\"",
        );
        let mut expected: Vec<_> =
            Setting::ALL.iter().filter_map(|&setting| as_pg_settings_shows_it(setting)).collect();
        expected.sort();
        assert_eq!(shown, expected, "{version:?}");
    }
}

#[test]
fn a_misspelt_setting_is_refused() {
    let cluster = Cluster::build(PgVersion::oldest()).archiving_to(&Archive::file()).start();
    assert_eq!(cluster.failure_of("SET wal_e.prefx = 'x'").sqlstate, "42602");
}

#[test]
fn each_face_speaks_in_its_own_words() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).archiving_to(&archive).start();
    cluster.execute("CREATE EXTENSION wal_e");
    let refused = cluster.failure_of("ALTER SYSTEM SET wal_e.prefix = ' '").text;
    assert!(refused.contains("Set \"wal_e.prefix\" to"), "{refused}");

    cluster.query("SELECT wale_backup_push()");
    let unknown = cluster.failure_of("SELECT wale_backup_verify('base_of_nothing')").text;
    assert!(unknown.contains("; wale_backup_list() shows all."), "{unknown}");
    let said = run_wal_e(&archive, ["backup-verify", "base_of_nothing"]).failure(74);
    assert!(said.contains("; wal-e backup-list shows all."), "{said}");
}
