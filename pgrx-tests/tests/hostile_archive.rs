//! Archives that want to do harm, or that were damaged: each ends in a clear
//! error that names the object, soon, in bounded memory, and nothing is
//! written outside of the restore's own directory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::installation::wal_e_program;
use wal_e_e2e::made_backup::{MadeBackup, Member, NAME, Tar, lz4};
use wal_e_e2e::process::{Finished, ServerUser, run_within};
use wal_e_e2e::scratch::Scratch;

/// Far less than what the inputs here would unpack to, or say that they have.
const MEMORY_BYTES: u64 = 2 << 30;

/// Refusing takes no time; the limit is for a machine that is busy.
const SOON: Duration = Duration::from_secs(60);

/// `wal-e backup-fetch` into a directory with a canary next to it.
struct Attempt {
    scratch: Scratch,
    finished: Finished,
}

impl Attempt {
    fn new(archive: &Archive) -> Attempt {
        let scratch = Scratch::new();
        let around = scratch.create("around");
        fs::write(around.join("canary"), "alive").expect("the directory is ours");
        ServerUser::get().own(&around.join("canary"));
        let mut command = ServerUser::get().command("prlimit");
        command
            .arg(format!("--as={MEMORY_BYTES}"))
            .arg("--")
            .arg(wal_e_program())
            .args(archive.program_options())
            .arg("backup-fetch")
            .arg(around.join("data"))
            .arg(NAME);
        let finished = run_within(SOON, &mut command);
        Attempt { scratch, finished }
    }

    /// Asserts that it was refused with these words, and harmed nothing.
    #[track_caller]
    fn refused(self, what: &str, words: &[&str]) {
        let around = self.scratch.path().join("around");
        let said = self.finished.failure(1);
        for word in words {
            assert!(said.contains(word), "{what}: \"{word}\" is missing in:\n{said}");
        }
        assert_unharmed(&around, what);
        assert!(!around.join("data/global/pg_control").exists(), "{what}: it could be started");
    }
}

#[track_caller]
fn assert_unharmed(around: &Path, what: &str) {
    let canary = fs::read_to_string(around.join("canary"));
    assert_eq!(canary.ok().as_deref(), Some("alive"), "{what}");
    let mut names: Vec<_> = fs::read_dir(around)
        .expect("it is there")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("it is text"))
        .filter(|name| name != "data")
        .collect();
    names.sort();
    assert_eq!(names, ["canary"], "{what}");
}

fn partition(tar: &Tar) -> Vec<u8> {
    lz4(&tar.finish())
}

#[test]
fn members_that_lead_out_of_the_target_are_refused() {
    for (what, name) in [
        ("a parent", "../canary"),
        ("a parent further in", "/base/../../canary"),
        ("a parent below a tablespace", "/pg_tblspc/16384/../../../canary"),
    ] {
        let archive = Archive::file();
        let backup = MadeBackup::new(&archive);
        backup.put("part_001.tar.lz4", &partition(Tar::new().file(name, b"dead")));
        Attempt::new(&archive).refused(what, &["part_001.tar.lz4", name, "leads out"]);
    }
    // An absolute name is one below the data directory, as WAL-G writes all of them.
    let archive = Archive::file();
    let outside = archive.scratch().path().join("outside");
    let backup = MadeBackup::new(&archive);
    let name = outside.display().to_string();
    backup.put("part_001.tar.lz4", &partition(Tar::new().file(&name, b"inside")));
    let attempt = Attempt::new(&archive);
    attempt.finished.success();
    assert!(!outside.exists());
}

#[test]
fn no_file_is_written_through_a_link_of_the_archive() {
    let archive = Archive::file();
    let outside = archive.scratch().create("outside");
    let backup = MadeBackup::new(&archive);
    let target = outside.display().to_string();
    for (what, link) in [("an absolute link", target.as_str()), ("a relative link", "../../..")] {
        let mut tar = Tar::new();
        tar.empty("/base", b'5', "").empty("/base/link", b'2', link);
        tar.file("/base/link/escaped", b"dead");
        backup.put("part_001.tar.lz4", &partition(&tar));
        let attempt = Attempt::new(&archive);
        assert_eq!(fs::read_dir(&outside).expect("it is there").count(), 0, "{what}");
        assert_unharmed(&attempt.scratch.path().join("around"), what);
    }
}

#[test]
fn members_that_are_no_files_are_refused() {
    for (what, kind, link) in [
        ("a hard link", b'1', "canary"),
        ("a character device", b'3', ""),
        ("a block device", b'4', ""),
        ("a sparse file", b'S', ""),
    ] {
        let archive = Archive::file();
        let backup = MadeBackup::new(&archive);
        let tar = partition(Tar::new().empty("/base/odd", kind, link));
        backup.put("part_001.tar.lz4", &tar);
        Attempt::new(&archive).refused(what, &["part_001.tar.lz4", "/base/odd"]);
    }
}

#[test]
fn a_named_pipe_is_left_out() {
    let archive = Archive::file();
    let mut tar = Tar::new();
    tar.empty("/log_pipe", b'6', "").file("/file", b"content");
    MadeBackup::new(&archive).put("part_001.tar.lz4", &partition(&tar));
    let attempt = Attempt::new(&archive);
    let said = attempt.finished.stderr.clone();
    attempt.finished.success();
    assert!(said.contains("\"log_pipe\""), "{said}");
    let data = attempt.scratch.path().join("around/data");
    assert!(!data.join("log_pipe").exists());
    assert_eq!(fs::read(data.join("file")).expect("it is restored"), b"content");
}

#[test]
fn sizes_that_lie_are_refused() {
    let huge = |kind| Member { name: "/base/1", kind, size: "77777777777", link: "" };
    let mut cases: Vec<(&str, Vec<u8>)> = vec![
        ("a file of 8 GB that has nothing", Tar::new().header(&huge(b'0')).finish()),
        ("a tar that ends within a file", {
            let size = Member { size: "00000100000", ..huge(b'0') };
            Tar::new().header(&size).content(b"short").cut()
        }),
        ("a size that is not a number", {
            let size = Member { size: "not a number", ..huge(b'0') };
            Tar::new().header(&size).finish()
        }),
        ("a long name of 8 GB", Tar::new().header(&huge(b'L')).finish()),
        ("an extended header of 8 GB", Tar::new().header(&huge(b'x')).finish()),
    ];
    let mut negative = Tar::new().header(&huge(b'0')).finish();
    negative[124..136].fill(0xff);
    cases.push(("a negative size", negative));
    for (what, tar) in cases {
        let archive = Archive::file();
        MadeBackup::new(&archive).put("part_001.tar.lz4", &lz4(&tar));
        Attempt::new(&archive).refused(what, &["part_001.tar.lz4"]);
    }
}

/// 10 GB of zeros, stored in some megabytes: a frame for each 64 MB.
fn ten_gigabytes(first: &[u8]) -> Vec<u8> {
    let zeros = lz4(&vec![0; 64 << 20]);
    let mut object = lz4(first);
    for _ in 0..160 {
        object.extend_from_slice(&zeros);
    }
    object
}

#[test]
fn a_small_object_does_not_fill_the_disk_or_the_memory() {
    let header = |kind, name| {
        // The most that the field holds: 8 GB.
        Tar::new().header(&Member { name, kind, size: "77777777777", link: "" }).cut()
    };
    for (what, object) in [
        ("a file of zeros", ten_gigabytes(&header(b'0', "/base/1"))),
        ("a long name of zeros", ten_gigabytes(&header(b'L', "/base/1"))),
        ("an extended header of zeros", ten_gigabytes(&header(b'x', "/base/1"))),
        ("zeros after the end of the tar", ten_gigabytes(&Tar::new().file("/a", b"a").finish())),
    ] {
        let archive = Archive::file();
        MadeBackup::new(&archive).put("part_001.tar.lz4", &object);
        Attempt::new(&archive).refused(what, &["part_001.tar.lz4"]);
    }
}

#[test]
fn what_follows_a_tar_is_refused() {
    let archive = Archive::file();
    let mut tar = Tar::new().file("/a", b"a").finish();
    tar.extend_from_slice(b"and then some");
    MadeBackup::new(&archive).put("part_001.tar.lz4", &lz4(&tar));
    Attempt::new(&archive).refused("text after the end", &["part_001.tar.lz4"]);
}
