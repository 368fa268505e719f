use super::*;

fn key(text: &str) -> ObjectKey {
    ObjectKey::from_listing(text).unwrap()
}

#[test]
fn names_have_the_extension_of_their_encoding() {
    let name: WalFileName = "0000000100000000000000A1".parse().unwrap();
    for (encoding, wal, tar) in [
        (Encoding::Lz4, "wal_005/0000000100000000000000A1.lz4", "part_001.tar.lz4"),
        (Encoding::Zstd, "wal_005/0000000100000000000000A1.zst", "part_001.tar.zst"),
        (Encoding::None, "wal_005/0000000100000000000000A1", "part_001.tar"),
        (Encoding::Lzop, "wal_005/0000000100000000000000A1.lzo", "part_001.tar.lzo"),
        (Encoding::Lzma, "wal_005/0000000100000000000000A1.lzma", "part_001.tar.lzma"),
        (Encoding::Brotli, "wal_005/0000000100000000000000A1.br", "part_001.tar.br"),
        (Encoding::Gzip, "wal_005/0000000100000000000000A1.gz", "part_001.tar.gz"),
    ] {
        assert_eq!(wal_file(&name, encoding).as_str(), wal);
        assert_eq!(partition_file_name(1, encoding), tar);
        let readable = StoredEncoding::Readable(encoding);
        assert_eq!(encoding_of_wal_file(&key(wal), &name), Some(readable));
        assert_eq!(wal_file_of(&key(wal)), Some((name.clone(), readable)));
        assert_eq!(encoding_of_mark(&wal_encoding(encoding)), Some(encoding));
        for (file_name, kind) in [
            (partition_file_name(1234, encoding), TarKind::Partition),
            (pg_control_file_name(encoding), TarKind::PgControl),
            (backup_label_file_name(encoding), TarKind::BackupLabel),
        ] {
            let found = tar_of(&tar_partition("base_x", &file_name));
            assert_eq!(found, Some((kind, StoredEncoding::Readable(encoding))), "{file_name}");
        }
    }
}

#[test]
fn the_key_of_a_manifest_tells_its_encoding() {
    let own = |text: &str| {
        let key = key(&format!("basebackups_005/base_1/backup_manifest{text}"));
        encoding_of_backup_manifest(&key, "base_1")
    };
    for encoding in Encoding::WRITABLE {
        let key = backup_manifest("base_1", encoding);
        assert!(key.as_str().starts_with(&backup_manifest_beginning("base_1")));
        let stored = Some(StoredEncoding::Readable(encoding));
        assert_eq!(encoding_of_backup_manifest(&key, "base_1"), stored);
        assert_eq!(encoding_of_backup_manifest(&key, "base_2"), None);
    }
    assert_eq!(own(".zst.gpg"), Some(StoredEncoding::Foreign("gpg")));
    assert!(own(".tmp").is_none() && own("2").is_none());
}

#[test]
fn a_key_of_a_run_tells_what_it_is_of() {
    for mark in RunMark::ALL {
        let own = run_mark("backup", "20261129T020000Z", 12_345, mark);
        assert!(own.as_str().starts_with(&runs_of_slot("backup", "20261129T020000Z")));
        assert_eq!(run_mark_of(&own), Some(("backup", "20261129T020000Z", 12_345, mark)));
    }
    for other in ["wal_e/jobs/backup/x", "wal_e/jobs/a/b/c.claim", "wal_e/clock"] {
        assert_eq!(run_mark_of(&key(other)), None);
    }
}

#[test]
fn a_key_tells_the_backup_that_it_belongs_to() {
    for own in [metadata("base_x"), tar_partition("base_x", "part_001.tar")] {
        assert_eq!(backup_directory_of(&own), Some(backup_directory("base_x")));
    }
    for other in ["basebackups_005/base_x_backup_stop_sentinel.json", "wal_005/a/b"] {
        assert_eq!(backup_directory_of(&key(other)), None);
    }
}

#[test]
fn a_key_among_the_wal_tells_which_segments_it_is_about() {
    let about = |file: &str| {
        let content = wal_content(&key(&format!("wal_005/{file}")), SegmentSize::DEFAULT)?;
        Some(match content {
            WalContent::History(timeline) => format!("history {timeline}"),
            WalContent::Segments { timeline, first, last, whole } => {
                format!("{timeline}: {} to {}, {whole}", first.0, last.0)
            }
        })
    };
    let name = "0000000200000001000000A0";
    for (file, expected) in [
        (format!("{name}.lz4"), Some("2: 416 to 416, true")),
        (name.to_owned(), Some("2: 416 to 416, true")),
        (format!("{name}.partial.zst"), Some("2: 416 to 416, false")),
        (format!("{name}.00000028.backup.lz4"), Some("2: 416 to 416, false")),
        (format!("{name}_delta.lz4"), Some("2: 416 to 431, false")),
        (format!("{name}.json"), Some("2: 416 to 416, false")),
        ("0000000200000001000000A.json".to_owned(), Some("2: 416 to 431, false")),
        ("00000002.history.lz4".to_owned(), Some("history 2")),
        ("0000000200000001000001A0.lz4".to_owned(), None),
        (format!("{name}.partial.json"), None),
        (format!("{name}_delta.txt"), None),
        ("README".to_owned(), None),
    ] {
        assert_eq!(about(&file).as_deref(), expected, "{file}");
    }
}

#[test]
fn the_name_of_a_backup_tells_its_first_segment() {
    let segment: WalFileName = "0000000200000000000000A1".parse().unwrap();
    for rest in ["", "_D_000000020000000000000099", "_00000040"] {
        let name = format!("base_{segment}{rest}");
        assert_eq!(start_segment_of_backup(&name), Some(segment.clone()));
    }
    let delta = format!("base_0000000200000000000000A4_D_{segment}");
    assert_eq!(parent_segment(&delta), Some(segment.clone()));
    assert_eq!(parent_segment(&format!("base_{segment}")), None);
    let lower_case = "base_0000000200000000000000a1";
    for name in ["base_", "base_00000002", "backup_0000000200000000000000A1", "base_é", lower_case]
    {
        assert_eq!(start_segment_of_backup(name), None);
    }
}

#[test]
fn names_of_other_programs_are_recognised() {
    let name: WalFileName = "0000000100000000000000A1".parse().unwrap();
    let of = |suffix: &str| encoding_of_wal_file(&key(&format!("wal_005/{name}{suffix}")), &name);
    assert_eq!(of("."), Some(StoredEncoding::Readable(Encoding::None)));
    for key in wal_file_keys(&name) {
        assert!(encoding_of_wal_file(&key, &name).is_some(), "{key}");
    }
    let encrypted = StoredEncoding::Foreign("gpg");
    for suffix in [".gpg", ".lz4.gpg", ".lzo.gpg"] {
        assert_eq!(of(suffix), Some(encrypted), "{suffix}");
        let found = wal_file_of(&key(&format!("wal_005/{name}{suffix}")));
        assert_eq!(found, Some((name.clone(), encrypted)), "{suffix}");
    }
    let others = [".partial", ".partial.lz4", ".00000028.backup.zst", "_delta.lz4", ".json"];
    let more = [".lz4.lz4", ".lz4.wal-e-tmp", "0.lz4", ".gpg.lz4", ".x.gpg", ".gpg.gpg"];
    for suffix in others.into_iter().chain(more) {
        assert_eq!(of(suffix), None, "{suffix}");
    }
    assert_eq!(encoding_of_wal_file(&key("basebackups_005/x.lz4"), &name), None);
    let tar = |file_name: &str| tar_of(&tar_partition("base_x", file_name));
    let lzop = Some((TarKind::Partition, StoredEncoding::Readable(Encoding::Lzop)));
    assert_eq!(tar("part_00000000.tar.lzo"), lzop);
    assert_eq!(tar("part_001.tar.lz4.gpg"), Some((TarKind::Partition, encrypted)));
    let uncompressed = Some((TarKind::PgControl, StoredEncoding::Readable(Encoding::None)));
    assert_eq!(tar("pg_control.tar."), uncompressed);
    for file_name in ["part_001.tar.xyz", "part_001.lz4", "README"] {
        assert_eq!(tar(file_name), None, "{file_name}");
    }
}

#[test]
fn names_that_wal_e_gave_tell_where_the_backup_begins() {
    let name = "base_000000010000DD170000000C_00743784";
    let start = Some(("000000010000DD170000000C", "00743784"));
    assert_eq!(wal_e_start_of_backup(name), start);
    for name in [
        "base_000000010000DD170000000C",
        "base_000000010000DD170000000C_D_000000010000DD170000000B",
        "base_000000010000DD170000000C_0074378F",
        "base_000000010000DD170000000_00743784",
        "000000010000DD170000000C_00743784",
    ] {
        assert_eq!(wal_e_start_of_backup(name), None, "{name}");
    }
}
