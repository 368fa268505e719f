//! What a restore may and may not do with its directories.

use crate::config::Face;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn one(place: &Path) -> BTreeMap<u32, PathBuf> {
    BTreeMap::from([(16384, place.to_owned())])
}

#[test]
fn members_go_where_they_belong() {
    let dir = tempfile::tempdir().unwrap();
    let (data, space) = (dir.path().join("new/data"), dir.path().join("space"));
    let target = Destination::prepare(&data, one(&space), None, false).unwrap();
    for (member, place) in [
        ("", data.clone()),
        ("base/1/2", data.join("base/1/2")),
        ("pg_tblspc/16384", space.clone()),
        ("pg_tblspc/16384/PG_15_1/5/6", space.join("PG_15_1/5/6")),
        ("pg_tblspc/99/x", data.join("pg_tblspc/99/x")),
    ] {
        assert_eq!(target.place(Path::new(member)), place, "{member}");
    }
    assert_eq!(fs::read_link(data.join("pg_tblspc/16384")).unwrap(), space);

    target.remove().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "everything made is gone");
}

#[test]
fn a_directory_that_holds_something_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let space = dir.path().join("space");
    fs::create_dir(&space).unwrap();
    fs::write(space.join("precious"), b"x").unwrap();
    let data = dir.path().join("data");
    for resume in [false, true] {
        let error = Destination::prepare(&data, one(&space), None, resume).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("not empty"));
        assert!(space.join("precious").exists());
        assert!(!data.exists(), "the data directory made before is gone again");
    }
}

#[test]
fn two_restores_never_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let first = Destination::prepare(&data, BTreeMap::new(), None, false).unwrap();
    let error = Destination::prepare(&data, BTreeMap::new(), None, false).unwrap_err();
    assert!(error.message().contains("another restore"), "{error}");
    fs::write(data.join(UNFINISHED_RESTORE), "").unwrap();
    let error = Destination::prepare(&data, BTreeMap::new(), None, true).unwrap_err();
    assert!(error.message().contains("another restore"), "{error}");
    assert!(data.exists(), "the first restore's directory stays");
    drop(first);
    let error = Destination::prepare(&data, BTreeMap::new(), None, false).unwrap_err();
    assert!(Face::Program.speak(error.hint().unwrap()).contains("--resume"), "{error}");
    assert!(Destination::prepare(&data, BTreeMap::new(), None, true).unwrap().is_resumed());
}

#[test]
fn parents_are_made_for_all_and_the_directory_for_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("lib/postgresql/15/main");
    let _target = Destination::prepare(&data, BTreeMap::new(), None, false).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let parents = data.ancestors().skip(1).take(3);
    let modes: Vec<u32> = parents.map(mode).collect();
    // What is left of 0755 under the umask.
    assert!(modes.iter().all(|mode| mode & 0o700 == 0o700), "{modes:?}");
    let plain = dir.path().join("plain");
    fs::DirBuilder::new().mode(0o755).create(&plain).unwrap();
    assert_eq!(modes, [mode(&plain); 3]);
}

#[test]
fn nothing_is_made_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let target =
        Destination::prepare(&dir.path().join("data"), BTreeMap::new(), None, false).unwrap();
    let data = target.data_directory();
    symlink(dir.path(), data.join("link")).unwrap();
    fs::write(data.join("file"), "").unwrap();
    for name in ["link/x", "file/x", "link/a/b"] {
        let error = target.make_parent(&data.join(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}");
    }
    target.make_parent(&data.join("a/b/c")).unwrap();
    let mode = fs::metadata(data.join("a/b")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn files_of_an_interrupted_restore_are_removed_but_for_the_sound_ones() {
    let dir = tempfile::tempdir().unwrap();
    let space = dir.path().join("space");
    let target = Destination::prepare(&dir.path().join("data"), one(&space), None, false).unwrap();
    let data = target.data_directory();
    fs::create_dir_all(data.join("base/1")).unwrap();
    for file in ["base/1/kept", "base/1/gone", "pg_tblspc/16385"] {
        fs::write(data.join(file), "").unwrap();
    }
    for file in ["kept", "gone"] {
        fs::write(space.join(file), "").unwrap();
    }
    symlink("base", data.join("link")).unwrap();
    target.remove_files_but(|path| path.ends_with("kept")).unwrap();
    let count = |path: &Path| fs::read_dir(path).unwrap().count();
    assert_eq!((count(&data.join("base/1")), count(&space)), (1, 2));
    assert_eq!(count(&data.join("pg_tblspc")), 1, "the tablespace's link stays");
    assert!(data.join("link").symlink_metadata().is_err());
}

#[test]
fn a_tablespace_says_which_restore_it_belongs_to() {
    let dir = tempfile::tempdir().unwrap();
    let space = dir.path().join("space");
    let places = BTreeMap::from([(16384, space.clone())]);
    let target = Destination::prepare(&dir.path().join("data"), places, None, false).unwrap();
    let mark = space.join(UNFINISHED_RESTORE);
    target.check_marks().unwrap();
    // Of another restore; of a cluster that lives there now.
    fs::write(&mark, "/other/data").unwrap();
    assert_eq!(target.check_marks().unwrap_err().kind(), ErrorKind::Config);
    fs::remove_file(&mark).unwrap();
    fs::write(space.join("precious"), "x").unwrap();
    let error = target.check_marks().unwrap_err();
    assert!(error.message().contains(&space.display().to_string()), "{error}");
    assert!(space.join("precious").exists());
    target.remove_marks().unwrap();
}

#[test]
fn an_empty_place_for_the_wal_is_no_content() {
    let dir = tempfile::tempdir().unwrap();
    let (data, wal) = (dir.path().join("data"), dir.path().join("wal"));
    let place = data.join("pg_wal");
    fs::create_dir_all(place.join("lost+found")).unwrap();
    fs::create_dir_all(data.join(".snapshot/daily")).unwrap();
    let prepare = |wal_directory: Option<PathBuf>| {
        Destination::prepare(&data, BTreeMap::new(), wal_directory, false)
    };
    prepare(None).unwrap().remove().unwrap();
    assert!(data.is_dir() && data.join(".snapshot/daily").is_dir());

    // Where the WAL goes elsewhere, the link takes its place.
    fs::create_dir_all(&place).unwrap();
    let target = prepare(Some(wal.clone())).unwrap();
    assert_eq!(fs::read_link(&place).unwrap(), wal);
    target.remove().unwrap();

    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("000000010000000000000001"), b"x").unwrap();
    let error = prepare(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    fs::remove_dir_all(&place).unwrap();
    fs::create_dir_all(data.join("base")).unwrap();
    assert!(prepare(None).is_err());
}
