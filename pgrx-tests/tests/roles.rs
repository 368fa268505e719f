//! Each function has its place in one of the roles of docs/sql.md, gives nothing but itself, and
//! takes no name for a path.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, SqlFailure, rows};
use wal_e_e2e::installation::{PgVersion, repository};

/// A call of each function, with the arguments that it needs.
const CALLS: &[(&str, &str)] = &[
    ("wale_backup_cancel", "SELECT wale_backup_cancel()"),
    ("wale_backup_chains", "SELECT * FROM wale_backup_chains()"),
    ("wale_backup_delete", "SELECT * FROM wale_backup_delete((SELECT backup FROM known))"),
    ("wale_backup_list", "SELECT * FROM wale_backup_list()"),
    ("wale_backup_mark", "SELECT wale_backup_mark((SELECT backup FROM known), false)"),
    ("wale_backup_progress", "SELECT * FROM wale_backup_progress()"),
    ("wale_backup_push", "SELECT wale_backup_push()"),
    ("wale_backup_verify", "SELECT * FROM wale_backup_verify()"),
    ("wale_check", "SELECT * FROM wale_check()"),
    ("wale_delete_before", "SELECT * FROM wale_delete_before((SELECT backup FROM known))"),
    ("wale_delete_garbage", "SELECT * FROM wale_delete_garbage()"),
    ("wale_job_history", "SELECT * FROM wale_job_history()"),
    ("wale_recovery_window", "SELECT * FROM wale_recovery_window()"),
    ("wale_report", "SELECT wale_report()"),
    ("wale_restore_plan", "SELECT * FROM wale_restore_plan()"),
    ("wale_retain", "SELECT * FROM wale_retain(1)"),
    ("wale_stat_archiver", "SELECT * FROM wale_stat_archiver()"),
    ("wale_wal_repair", "SELECT * FROM wale_wal_repair()"),
    ("wale_wal_show", "SELECT * FROM wale_wal_show()"),
    ("wale_wal_verify", "SELECT * FROM wale_wal_verify()"),
];

/// What takes a name, with a place for it. Where there is a dry run, it is none.
const WITH_A_NAME: &[&str] = &[
    "SELECT * FROM wale_backup_delete(NAME, dry_run => false)",
    "SELECT wale_backup_mark(NAME, true)",
    "SELECT * FROM wale_backup_verify(NAME)",
    "SELECT * FROM wale_delete_before(NAME, dry_run => false)",
    "SELECT * FROM wale_restore_plan(target_name => NAME)",
    "SELECT * FROM wale_restore_plan(target_timeline => NAME)",
];

/// The arguments of functions that are text and no names of anything stored.
const NO_NAMES: &[&str] = &["wale_backup_push.label", "wale_retain.calendar"];

const ROLES: [&str; 3] = ["wal_e_monitor", "wal_e_operator", "wal_e_admin"];

/// The functions of the extension.
fn functions(cluster: &Cluster) -> BTreeSet<String> {
    let members = "SELECT p.proname FROM pg_proc p \
         JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' \
         JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'wal_e'";
    cluster.query(members).into_iter().map(|row| row[0].clone()).collect()
}

/// The statements of the reference's section about privileges.
fn grants() -> Vec<String> {
    let page = fs::read_to_string(repository().join("docs/sql.md")).expect("the page is there");
    let (_, rest) = page.split_once("\n## Privileges\n").expect("it has the section");
    let section = rest.split("\n## ").next().unwrap_or(rest);
    let blocks = section.split("```sql\n").skip(1);
    blocks.filter_map(|block| block.split("```").next()).map(str::to_owned).collect()
}

/// A server that has two base backups; the table `known` has the name of the first.
fn cluster(version: PgVersion, archive: &Archive) -> Cluster {
    let cluster = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(archive);
    let name = cluster.backup_push();
    cluster.archive_current_wal();
    // The newest one cannot be deleted.
    cluster.backup_push();
    cluster.archive_current_wal();
    cluster.execute(&format!(
        "CREATE TABLE known AS SELECT '{name}'::text AS backup; GRANT SELECT ON known TO PUBLIC"
    ));
    cluster
}

/// What a call by a role ends with: an SQLSTATE, or nothing when it is through.
fn call_as(cluster: &Cluster, role: &str, call: &str) -> Result<(), SqlFailure> {
    let mut client = cluster.client();
    client.batch_execute(&format!("SET ROLE {role}")).expect("a superuser may be anybody");
    rows(&mut client, call).map(drop).map_err(|error| SqlFailure::of(&error))
}

#[test]
fn each_function_has_its_place_in_one_role_of_the_reference() {
    for &version in PgVersion::complete() {
        let archive = Archive::file();
        let cluster = cluster(version, &archive);
        let blocks = grants();
        assert_eq!(blocks.len(), ROLES.len(), "{blocks:?}");
        blocks.iter().for_each(|block| cluster.execute(block));
        let granted = cluster.query(
            "SELECT p.proname, a.grantee::regrole::text FROM pg_proc p, aclexplode(p.proacl) a \
             WHERE p.proname LIKE 'wale\\_%' AND a.grantee::regrole::text LIKE 'wal\\_e\\_%'",
        );
        let mut places = BTreeMap::<String, Vec<String>>::new();
        for row in granted {
            places.entry(row[0].clone()).or_default().push(row[1].clone());
        }
        for function in functions(&cluster) {
            let place = places.get(&function).cloned().unwrap_or_default();
            assert_eq!(
                place.len(),
                1,
                "{function} has to be in one role of docs/sql.md: {place:?}"
            );
        }

        // Each role may call what it has and what the roles before it have, and no more.
        for (height, role) in ROLES.iter().enumerate() {
            for (function, call) in CALLS {
                let place = ROLES.iter().position(|role| *role == places[*function][0]);
                let answer = call_as(&cluster, role, call);
                match place.expect("it is one of the roles") <= height {
                    true => answer.unwrap_or_else(|e| panic!("{role}, {call}: {e:?}")),
                    false => assert_eq!(answer.expect_err(call).sqlstate, "42501", "{role}"),
                }
            }
            call_as(&cluster, role, "TABLE wale_stat_archiver").expect("all may watch");
        }
    }
}

#[test]
fn a_role_that_has_one_function_can_call_it_and_no_other() {
    let archive = Archive::file();
    let cluster = cluster(PgVersion::oldest(), &archive);
    let known: BTreeSet<String> = CALLS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(known, functions(&cluster), "a call of each function belongs into this test");
    for (function, _) in CALLS {
        let role = format!("only_{function}");
        cluster.execute(&format!(
            "CREATE ROLE {role}; GRANT EXECUTE ON FUNCTION {function} TO {role}"
        ));
        for (other, call) in CALLS {
            match (call_as(&cluster, &role, call), other == function) {
                (Ok(()), true) => {}
                (Err(failure), false) => assert_eq!(failure.sqlstate, "42501", "{role}, {call}"),
                (Err(failure), true) => panic!("{role} cannot call it: {failure:?}"),
                (Ok(()), false) => panic!("{role} can call {other}"),
            }
        }
        // Nor is anything to be had besides functions.
        for refused in ["TABLE wale_stat_archiver", "SET wal_e.prefix = 'file:///tmp'"] {
            let failure = call_as(&cluster, &role, refused).expect_err(refused);
            assert!(["42501", "55P02"].contains(&&*failure.sqlstate), "{refused}: {failure:?}");
        }
    }
}

#[test]
fn each_argument_that_may_be_a_name_is_tried() {
    let archive = Archive::file();
    let cluster = cluster(PgVersion::oldest(), &archive);
    let arguments = cluster.query(
        "SELECT p.proname, p.proname || '.' || a.name FROM pg_proc p, \
         unnest(p.proargnames, p.proargtypes::oid[]) a(name, type) \
         WHERE p.proname LIKE 'wale\\_%' AND a.type = 'text'::regtype",
    );
    assert!(!arguments.is_empty());
    for row in arguments.iter().filter(|row| !NO_NAMES.contains(&&*row[1])) {
        let tried = WITH_A_NAME.iter().any(|call| call.contains(&format!("{}(", row[0])));
        assert!(tried, "{} belongs into this test", row[1]);
    }
}

/// Every file below a directory with its content.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("it can be read").flatten() {
            match entry.file_type().expect("it has a type").is_dir() {
                true => directories.push(entry.path()),
                false => {
                    let content = fs::read(entry.path()).expect("it can be read");
                    found.insert(entry.path().display().to_string(), content);
                }
            }
        }
    }
    found
}

#[test]
fn no_name_leads_out_of_the_prefix() {
    let archive = Archive::file();
    let cluster = cluster(PgVersion::oldest(), &archive);
    let name = archive.backups().remove(0);
    // The objects of a base backup beside the prefix: what a path in a name would find.
    let outside = archive.scratch().create("outside");
    let sentinel = format!("{name}_backup_stop_sentinel.json");
    let content = archive.object(&format!("basebackups_005/{sentinel}")).expect("it is there");
    let text = String::from_utf8(content).expect("a sentinel is text");
    let marked = text.replacen('{', "{\"UserData\": \"hush-hush\", ", 1);
    fs::write(outside.join(&sentinel), &marked).expect("it can be written");
    fs::create_dir(outside.join(&name)).expect("it can be made");
    fs::write(outside.join(&name).join("metadata.json"), &marked).expect("it can be written");
    let (beside, inside) = (files(&outside), files(archive.directory()));

    let path = outside.display();
    let names = [
        format!("../../outside/{name}"),
        format!("{name}/../../../outside/{name}"),
        format!("{path}/{name}"),
        format!("file://{path}/{name}"),
        "s3://bucket/base_000000010000000000000002".to_owned(),
        format!("../{name}"),
        format!("./{name}"),
        format!("{name}/"),
        format!("{name}%00"),
        format!("{name}\\0"),
        format!("{name}\n"),
        format!("{name}\u{1}"),
        format!(" {name}"),
        "LATEST/../LATEST".to_owned(),
        "/etc/passwd".to_owned(),
        "..".to_owned(),
        ".".to_owned(),
        "/".to_owned(),
        String::new(),
        "*".to_owned(),
        "ü".repeat(200),
        "a".repeat(100_000),
        "../".repeat(40_000),
    ];
    for call in WITH_A_NAME {
        for name in &names {
            let quoted = format!("'{}'", name.replace('\'', "''"));
            let shown: String = name.chars().take(60).collect();
            let answer = rows(&mut cluster.client(), &call.replace("NAME", &quoted));
            let said = match answer {
                // A plan says in a row why there is none.
                Ok(rows) if call.contains("wale_restore_plan") => {
                    assert_eq!(rows[0][0].as_deref(), Some("f"), "{call}, {shown}: {rows:?}");
                    format!("{rows:?}")
                }
                Ok(rows) => panic!("{call} takes {shown}: {rows:?}"),
                Err(error) => {
                    let failure = SqlFailure::of(&error);
                    assert!(!failure.sqlstate.starts_with("XX"), "{call}, {shown}: {failure:?}");
                    failure.text
                }
            };
            assert!(!said.contains("hush-hush"), "{call}, {shown}: {said}");
        }
    }
    assert!(files(&outside) == beside, "a file beside the prefix has changed");
    assert!(files(archive.directory()) == inside, "a file of the archive has changed");
}
