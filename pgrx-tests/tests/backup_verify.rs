//! A base backup is read back, from SQL and by the program: a sound one passes,
//! and of a damaged one each damage is reported with the object that has it.

use std::time::Duration;

use wal_e_e2e::archive::{Archive, compress, decompress};
use wal_e_e2e::base_backup::VERIFY_WORKER;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::is_running;
use wal_e_e2e::s3_server::Refusal;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::run_wal_e;

/// A cluster with one backup, in which a tablespace is.
struct Verified {
    archive: Archive,
    cluster: Cluster,
    name: String,
}

impl Verified {
    fn start(version: PgVersion, archive: Archive) -> Verified {
        let cluster = Cluster::build(version).start_archiving_to(&archive);
        cluster.create_tablespace("extra");
        cluster.execute(
            "CREATE TABLE in_extra TABLESPACE extra AS SELECT i, md5(i::text) FROM generate_series(1, 9000) i",
        );
        cluster.pgbench_init(1);
        let load = cluster.start_pgbench();
        let name = cluster.backup_push();
        load.stop();
        Verified { archive, cluster, name }
    }

    /// The object of the backup with this name below its directory.
    fn object(&self, name: &str) -> String {
        format!("basebackups_005/{}/{name}", self.name)
    }

    fn tar(&self, name: &str) -> String {
        self.object(&format!("tar_partitions/{name}.tar.lz4"))
    }

    /// The first WAL segment that the backup needs.
    fn segment(&self) -> String {
        format!("wal_005/{}.lz4", self.name.strip_prefix("base_").expect("it begins so"))
    }

    /// The rows of `wale_backup_verify()` of this backup.
    fn rows(&self) -> Vec<Vec<String>> {
        self.cluster.query(&format!(
            "SELECT check_name, ok, detail FROM wale_backup_verify('{}')",
            self.name
        ))
    }

    #[track_caller]
    fn assert_sound(&self) {
        let rows = self.rows();
        assert!(rows.len() > 10 && rows.iter().all(|row| row[1] == "t"), "{rows:#?}");
        let said = run_wal_e(&self.archive, ["backup-verify", &self.name]).success();
        let summary = format!("base backup {} is sound;", self.name);
        assert!(said.starts_with(&summary) && said.lines().count() == 1, "{said}");
    }

    /// Asserts that the program and the function find `check` failed, and name `object`.
    #[track_caller]
    fn assert_found(&self, check: &str, object: &str) {
        let rows = self.rows();
        let found = |row: &Vec<String>| row[0] == check && row[1] == "f" && row[2].contains(object);
        assert!(rows.iter().any(found), "{check} {object}: {rows:#?}");

        let finished = run_wal_e(&self.archive, ["backup-verify", &self.name, "-p", "2"]);
        assert_eq!(finished.code(), Some(1), "{finished}");
        let beginning = format!("failed: {check}: ");
        let found = |line: &str| line.starts_with(&beginning) && line.contains(object);
        assert!(finished.stdout.lines().any(found), "{finished}");
        assert!(finished.stdout.contains("is damaged"), "{finished}");
    }

    /// Damages an object, checks that it is named, and repairs it.
    #[track_caller]
    fn assert_damage_found(&self, check: &str, object: &str, damage: impl FnOnce(&Archive, &str)) {
        self.assert_found_at(object, check, object, damage);
    }

    /// Damages `object`, checks that `named` is reported to be other than it should
    /// be, and repairs the object.
    #[track_caller]
    fn assert_found_at(
        &self,
        named: &str,
        check: &str,
        object: &str,
        damage: impl FnOnce(&Archive, &str),
    ) {
        let whole = self.archive.object(object);
        damage(&self.archive, object);
        self.assert_found(check, named);
        match whole {
            Some(bytes) => self.archive.replace_object(object, bytes),
            None => self.archive.remove_object(object),
        }
    }
}

#[test]
fn a_sound_backup_passes() {
    for &version in PgVersion::complete() {
        for archive in [Archive::file(), Archive::s3()] {
            let verified = Verified::start(version, archive);
            verified.assert_sound();
            let json = run_wal_e(&verified.archive, ["backup-verify", "LATEST", "--json"]);
            let json: serde_json::Value =
                serde_json::from_str(&json.success()).expect("it is JSON");
            assert_eq!(
                (&json["ok"], json["backup_name"].as_str()),
                (&true.into(), Some(&*verified.name))
            );
        }
    }
}

#[test]
fn each_damage_is_told_with_its_object() {
    for archive in [Archive::file(), Archive::s3()] {
        let verified = Verified::start(PgVersion::oldest(), archive);
        let (part, control, label) =
            (verified.tar("part_001"), verified.tar("pg_control"), verified.tar("backup_label"));
        verified.assert_damage_found("tars", &part, Archive::truncate_object);
        verified.assert_damage_found("tars", &part, Archive::corrupt_object);
        verified.assert_damage_found("tars", &part, Archive::remove_object);
        let other = verified.tar("part_002");
        verified.assert_damage_found("file_list", &other, |archive, object| {
            archive.replace_object(object, archive.object(&part).expect("it is there"));
        });
        verified.assert_damage_found("pg_control", &control, |archive, object| {
            let mut tar = decompress(&archive.object(object).expect("it is there"));
            tar[512 + 40] ^= 1;
            archive.replace_object(object, compress(&tar));
        });
        let manifest = verified.object("backup_manifest.lz4");
        verified.assert_damage_found("manifest", &manifest, Archive::corrupt_object);
        let list = verified.object("files_metadata.json");
        verified.assert_damage_found("files_metadata", &list, Archive::truncate_object);
        verified.assert_damage_found("files_metadata", &list, Archive::remove_object);
        verified.assert_found_at(&part, "file_list", &list, |archive, object| {
            let json = archive.object(object).expect("it is there");
            let json = String::from_utf8(json).expect("JSON is UTF-8");
            let json = json.replace("\"/PG_VERSION\"", "\"/PG_OTHER\"");
            archive.replace_object(object, json.into_bytes());
        });
        let segment = verified.segment();
        verified.assert_damage_found("wal", &segment, Archive::truncate_object);
        // In which encoding it was stored is not known any more.
        let file = segment.trim_end_matches(".lz4");
        verified.assert_found_at(file, "wal", &segment, Archive::remove_object);
        let next = verified.cluster.archive_current_wal();
        verified.assert_damage_found("wal", &segment, |archive, object| {
            let foreign = archive.wal_object(&next).expect("it has just been archived");
            archive.replace_object(object, foreign);
        });

        // A second backup, whose parts are whole and do not belong here.
        let other = verified.cluster.backup_push();
        let of_other = |object: &str| object.replace(&verified.name, &other);
        let take_from_other = |archive: &Archive, object: &str| {
            let foreign = archive.object(&of_other(object)).expect("it is there");
            archive.replace_object(object, foreign);
        };
        verified.assert_damage_found("backup_label", &label, take_from_other);
        let metadata = verified.object("metadata.json");
        verified.assert_damage_found("metadata", &metadata, take_from_other);
        verified.assert_damage_found("pg_control", &control, take_from_other);
        verified.assert_found_at(&part, "file_list", &list, |archive, object| {
            take_from_other(archive, object);
            // The lists of two backups of one cluster may happen to be the same.
            let json = String::from_utf8(archive.object(object).expect("it is there"));
            let json = json.expect("JSON is UTF-8").replace("/base/1/", "/base/9/");
            archive.replace_object(object, json.into_bytes());
        });
        verified.assert_sound();
    }
}

#[test]
fn a_damaged_backup_of_the_newest_version_is_found_too() {
    let verified = Verified::start(PgVersion::newest(), Archive::file());
    let control = verified.tar("pg_control");
    verified.assert_damage_found("pg_control", &control, |archive, object| {
        let mut tar = decompress(&archive.object(object).expect("it is there"));
        tar[512 + 100] ^= 1;
        archive.replace_object(object, compress(&tar));
    });
    verified.assert_damage_found("wal", &verified.segment(), Archive::corrupt_object);
    assert!(verified.cluster.log().contains("is damaged: wal: "), "failures are in the log");
    verified.assert_sound();
}

/// As a killed backup of the same name leaves it: no restore reads it.
#[test]
fn a_tar_that_the_backup_does_not_list_is_named_and_does_no_harm() {
    let verified = Verified::start(PgVersion::oldest(), Archive::file());
    let (part, extra) = (verified.tar("part_001"), verified.tar("part_099"));
    let bytes = verified.archive.object(&part).expect("it is there");
    verified.archive.replace_object(&extra, bytes);
    run_wal_e(&verified.archive, ["backup-verify", &verified.name]).success();
    let named =
        |row: &Vec<String>| row[0] == "tars" && row[1].is_empty() && row[2].contains("part_099");
    let rows = verified.rows();
    assert!(rows.iter().all(|row| row[1] != "f"), "{rows:#?}");
    assert!(rows.iter().any(named), "{rows:#?}");
}

#[test]
fn more_failures_than_there_is_room_for_are_counted() {
    let verified = Verified::start(PgVersion::oldest(), Archive::file());
    let lists = verified.object("files_metadata.json");
    let json = verified.archive.object(&lists).expect("it is there");
    let mut json: serde_json::Value = serde_json::from_slice(&json).expect("it is JSON");
    for number in 100..200 {
        json["TarFileSets"][format!("part_{number}.tar.lz4")] = ["/base/1/lost"].into();
    }
    verified.archive.replace_object(&lists, json.to_string().into_bytes());
    let rows = verified.rows();
    assert_eq!(rows.len(), 64);
    assert!(rows[..63].iter().all(|row| row[0] == "tars" && row[1] == "f"), "{rows:#?}");
    let last = rows.last().expect("there are rows");
    assert_eq!((last[0].as_str(), last[1].as_str()), ("more", "f"));
    assert!(last[2].contains("37 of them failures"), "{last:?}");
    assert!(verified.cluster.log().contains("part_199"), "the log has all");
    let said = run_wal_e(&verified.archive, ["backup-verify", "LATEST"]);
    assert_eq!(said.stdout.lines().filter(|line| line.starts_with("failed: ")).count(), 100);
}

#[test]
fn what_cannot_be_verified_is_an_error() {
    let verified = Verified::start(PgVersion::oldest(), Archive::s3());
    let unknown = "base_0000000100000000000000FF";
    let failure =
        verified.cluster.failure_of(&format!("SELECT * FROM wale_backup_verify('{unknown}')"));
    assert_eq!(failure.sqlstate, "42704", "{failure:?}");
    assert!(failure.text.contains(unknown), "{failure:?}");
    run_wal_e(&verified.archive, ["backup-verify", unknown]).failure(74);
    let failure = verified.cluster.failure_of("SELECT * FROM wale_backup_verify(NULL)");
    assert_eq!(failure.sqlstate, "22004", "{failure:?}");

    verified.archive.server().refuse(Some(Refusal::AccessDenied));
    let failure = verified.cluster.failure_of("SELECT * FROM wale_backup_verify()");
    assert_eq!(failure.sqlstate, "42501", "{failure:?}");
    run_wal_e(&verified.archive, ["backup-verify", "LATEST"]).failure(1);
    verified.archive.server().refuse(None);
    verified.assert_sound();
}

#[test]
fn only_those_who_were_granted_it_may_verify() {
    let verified = Verified::start(PgVersion::oldest(), Archive::file());
    verified.cluster.execute("CREATE ROLE verifier");
    let as_verifier = "SET ROLE verifier; SELECT count(*) FROM wale_backup_verify() WHERE NOT ok";
    assert_eq!(verified.cluster.failure_of(as_verifier).sqlstate, "42501");
    verified.cluster.execute("GRANT EXECUTE ON FUNCTION wale_backup_verify TO verifier");
    assert_eq!(verified.cluster.query(as_verifier), [["0"]]);
}

/// A verification that is in the middle of reading, slowly.
struct Running {
    verified: Verified,
    session: wal_e_e2e::base_backup::BackgroundBackup,
    worker: i32,
}

impl Running {
    fn start(fault: Fault) -> Running {
        let archive = Archive::s3();
        let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
        cluster.create_incompressible_table("noise", 20);
        let name = cluster.backup_push();
        archive.proxy().set(fault);
        let session = cluster.backup_verify_in_background();
        let worker = cluster.pid_of(VERIFY_WORKER);
        Running { verified: Verified { archive, cluster, name }, session, worker }
    }

    /// Asserts that the worker is gone and the next verification is free to run.
    #[track_caller]
    fn assert_ended(verified: &Verified, worker: i32) {
        wait_for("the end of the worker", || !is_running(worker));
        verified.archive.proxy().set(Fault::None);
        verified.assert_sound();
    }
}

#[test]
fn cancelling_the_query_ends_the_verification() {
    for fault in [Fault::Throttle(100_000), Fault::Refuse, Fault::Hang] {
        let Running { verified, session, worker } = Running::start(fault);
        let begin = std::time::Instant::now();
        session.cancel();
        assert_eq!(session.failure().sqlstate, "57014", "{fault:?}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{fault:?}");
        Running::assert_ended(&verified, worker);
    }
}

#[test]
fn a_worker_that_dies_is_told() {
    let Running { verified, session, worker } = Running::start(Fault::Throttle(100_000));
    verified.cluster.query_one(&format!("SELECT pg_terminate_backend({worker})"));
    let failure = session.failure();
    assert!(failure.sqlstate.starts_with("57"), "{failure:?}");
    Running::assert_ended(&verified, worker);
}

#[test]
fn one_verification_at_a_time_beside_a_backup() {
    let Running { verified, session, .. } = Running::start(Fault::Throttle(1_000_000));
    let refused = verified.cluster.failure_of("SELECT * FROM wale_backup_verify()");
    assert_eq!(refused.sqlstate, "55006", "{refused:?}");
    let backup = verified.cluster.backup_push_in_background();
    verified.archive.proxy().set(Fault::None);
    backup.result().expect("a verification does not keep a backup from being taken");
    assert_eq!(session.result().expect("nor a backup a verification"), "0");
}

#[test]
fn a_verification_outlasts_a_store_that_is_away_for_a_while() {
    let Running { verified, session, .. } = Running::start(Fault::Refuse);
    verified.cluster.wait_for_log("trying again");
    verified.archive.proxy().set(Fault::None);
    assert_eq!(session.result().expect("it goes on"), "0");
}
