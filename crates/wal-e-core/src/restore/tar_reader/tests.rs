use super::*;

fn header(name: &str, kind: u8, size: u64) -> [u8; BLOCK] {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkflag = [kind];
    header.set_mode(0o4640);
    header.set_size(size);
    header.set_cksum();
    *header.as_bytes()
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut blocks = content.to_vec();
    blocks.resize(content.len().next_multiple_of(BLOCK), 0);
    blocks
}

fn member(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    [header(name, kind, content.len() as u64).to_vec(), padded(content)].concat()
}

fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let length = (1..).find(|length| length.to_string().len() + rest == *length).unwrap();
    format!("{length} {key}={value}\n")
}

fn read_all(tar: &[u8]) -> Result<Vec<(Member, Vec<u8>)>> {
    let mut reader = TarReader::new(tar);
    let mut members = Vec::new();
    while let Some(member) = reader.next_member()? {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).map_err(Error::from_tar)?;
        members.push((member, content));
    }
    reader.finish()?;
    Ok(members)
}

fn names(tar: &[u8]) -> Vec<String> {
    let members = read_all(tar).unwrap();
    members.into_iter().map(|(member, _)| member.name.display().to_string()).collect()
}

#[test]
fn members_come_with_their_content() {
    let tar = [
        member("/", b'5', b""),
        member("base/1/2", b'0', b"content"),
        member("old", 0, b"x"),
        member("dir/", 0, b""),
        member("link", b'2', b""),
        vec![0; 2 * BLOCK],
    ]
    .concat();
    let members = read_all(&tar).unwrap();
    assert_eq!(members[1].1, b"content");
    assert_eq!((members[1].0.size, members[1].0.mode), (7, 0o4640));
    let kinds: Vec<_> = members.into_iter().map(|(member, _)| member.kind).collect();
    let link = MemberKind::SymbolicLink(PathBuf::new());
    let (file, directory) = (MemberKind::File, MemberKind::Directory);
    assert_eq!(kinds, [directory.clone(), file.clone(), file, directory, link]);
}

#[test]
fn the_end_may_be_missing_and_is_not_taken_for_a_cut() {
    let whole = [member("a", b'0', &[7; 600]), member("b", b'0', b"b")].concat();
    assert_eq!(names(&whole), ["a", "b"]);
    // The last block of the last member need not be full.
    assert_eq!(names(&whole[..whole.len() - 511]), ["a", "b"]);
    for zeros in [1, 2, 20] {
        assert_eq!(names(&[whole.clone(), vec![0; zeros * BLOCK]].concat()), ["a", "b"]);
    }
    let boundary = BLOCK + 1024;
    for length in 1..whole.len() - 511 {
        let complete = length == boundary || (BLOCK + 600..boundary).contains(&length);
        assert_eq!(read_all(&whole[..length]).is_ok(), complete, "cut at {length}");
    }
}

#[test]
fn what_follows_the_end_is_refused() {
    let end = vec![0; BLOCK];
    let after = [member("a", b'0', b""), end.clone(), member("b", b'0', b"")].concat();
    assert!(read_all(&after).unwrap_err().message().contains("something follows"));
    let zeros = io::repeat(0).take(10 << 30);
    let mut reader = TarReader::new(zeros);
    assert_eq!(reader.next_member().unwrap(), None);
    assert!(reader.finish().unwrap_err().message().contains("too many zeros"));
}

#[test]
fn long_names_and_large_sizes_are_read_in_both_dialects() {
    let long = format!("/base/{}", "d".repeat(300));
    let gnu = [
        member("././@LongLink", b'L', format!("{long}\0").as_bytes()),
        member("cut", b'0', b"1"),
        member("next", b'0', b"2"),
    ];
    assert_eq!(names(&gnu.concat()), [long.as_str(), "next"]);
    let records = [record("mtime", "1.5"), record("path", &long), record("size", "3")].concat();
    let mut content = header("cut", b'0', 0).to_vec();
    content.extend(padded(b"abc"));
    let pax =
        [member("PaxHeaders/cut", b'x', records.as_bytes()), content, member("next", b'0', b"2")];
    let members = read_all(&pax.concat()).unwrap();
    assert_eq!((members[0].0.size, members[0].1.as_slice()), (3, b"abc".as_slice()));
    assert_eq!(names(&pax.concat()), [long.as_str(), "next"]);
    let mut ustar = tar::Header::new_ustar();
    ustar.set_path(format!("{}/{}", "p".repeat(120), "n".repeat(80))).unwrap();
    ustar.set_size(0);
    ustar.set_mode(0);
    ustar.set_cksum();
    assert_eq!(names(ustar.as_bytes())[0].len(), 201);
    let mut comment = member("g", b'g', record("comment", "x").as_bytes());
    comment.extend(member("a", b'0', b""));
    assert_eq!(names(&comment), ["a"]);
}

#[test]
fn what_no_cluster_has_is_named_by_its_kind() {
    let sparse = record("GNU.sparse.major", "1");
    for (tar, kind) in [
        (member("x", b'1', b""), "a hard link"),
        (member("x", b'3', b""), "a character device"),
        (member("x", b'4', b""), "a block device"),
        (member("x", b'S', b""), "a sparse file"),
        (member("x", b'D', b""), "of an unknown type"),
        ([member("p", b'x', sparse.as_bytes()), member("x", b'0', b"")].concat(), "a sparse file"),
    ] {
        assert_eq!(read_all(&tar).unwrap()[0].0.kind, MemberKind::Unsupported(kind));
    }
    assert_eq!(read_all(&member("x", b'6', b"")).unwrap()[0].0.kind, MemberKind::Fifo);
}

#[test]
fn sizes_that_lie_and_headers_that_are_damaged_are_refused() {
    let with_size = |size: &[u8; 12]| {
        let mut header = tar::Header::from_byte_slice(&header("x", b'0', 0)).clone();
        header.as_old_mut().size = *size;
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    for size in [
        [0xff; 12],
        *b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
        *b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        *b"-0000000001\0",
        *b"00000000009\0",
        *b"77777777777\0",
    ] {
        assert_eq!(read_all(&with_size(&size)).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    let mut damaged = member("x", b'0', b"");
    damaged[0] ^= 1;
    assert!(read_all(&damaged).unwrap_err().message().contains("checksum"));
    for record in
        ["5 a=b\n", "99 a=b\n", "x a=b\n", "6 a=b", "6 aab\n", "0 ", "18446744073709551616 a=b\n"]
    {
        let tar = [member("p", b'x', record.as_bytes()), member("x", b'0', b"")].concat();
        assert_eq!(read_all(&tar).unwrap_err().kind(), ErrorKind::Corrupt, "{record:?}");
    }
    for bad in [record("size", "-1"), record("size", "99999999999999999999"), record("path", "")] {
        let tar = [member("p", b'x', bad.as_bytes()), member("x", b'0', b"")].concat();
        assert_eq!(read_all(&tar).unwrap_err().kind(), ErrorKind::Corrupt, "{bad:?}");
    }
    let global = member("g", b'g', record("path", "x").as_bytes());
    assert!(read_all(&[global, member("x", b'0', b"")].concat()).is_err());
}

/// Ten gigabytes of a header's extension are refused at once, and a tar of
/// nothing but extensions ends, too.
#[test]
fn extensions_are_bounded() {
    for kind in [b'L', b'K', b'x', b'g'] {
        let header = header("x", kind, 7 << 30);
        let large = header.chain(io::repeat(b'x').take(10 << 30));
        let mut reader = TarReader::new(large);
        assert!(reader.next_member().unwrap_err().message().contains("too large"));
    }
    let many = member("x", b'L', b"name").repeat(20);
    assert!(read_all(&many).unwrap_err().message().contains("too many extensions"));
    assert!(read_all(&member("x", b'L', b"name")).is_err(), "nothing follows it");
}
