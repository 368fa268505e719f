//! What libsodium itself wrote, and what it would write.

use proptest::prelude::*;

use super::*;

/// The length of the content, and what libsodium made of it: see `vectors/make-libsodium`.
const VECTORS: [(usize, &[u8]); 8] = [
    (0, include_bytes!("vectors/libsodium_0")),
    (1, include_bytes!("vectors/libsodium_1")),
    (8191, include_bytes!("vectors/libsodium_8191")),
    (8192, include_bytes!("vectors/libsodium_8192")),
    (8193, include_bytes!("vectors/libsodium_8193")),
    (16383, include_bytes!("vectors/libsodium_16383")),
    (16384, include_bytes!("vectors/libsodium_16384")),
    (16385, include_bytes!("vectors/libsodium_16385")),
];

#[test]
fn what_libsodium_wrote_is_read() {
    for (length, stored) in VECTORS {
        assert!(decrypt(stored, &key()).unwrap() == sample(length), "{length} bytes");
        for piece in [1, 7, 24, 25, CHUNK, STORED_CHUNK_BYTES, 100_000] {
            let stored = Pieces(stored, piece, false);
            let content = Pieces(SecretStreamReader::new(stored, &key()), piece, false);
            assert!(read(content).unwrap() == sample(length), "{length} bytes by {piece}");
        }
    }
}

#[test]
fn what_is_written_is_what_libsodium_writes() {
    for (length, stored) in VECTORS {
        for piece in [1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 100_000] {
            let header = *stored.first_chunk::<HEADER_BYTES>().unwrap();
            let mut writer = SecretStreamWriter::with_header(Vec::new(), &key(), header);
            for piece in sample(length).chunks(piece) {
                writer.write_all(piece).unwrap();
                writer.flush().unwrap();
            }
            assert!(writer.finish().unwrap() == stored, "{length} bytes by {piece}");
        }
    }
}

#[test]
fn tags_that_wal_g_does_not_write_are_read_as_libsodium_has_them() {
    let stored = include_bytes!("vectors/libsodium_tags");
    assert!(decrypt(stored, &key()).unwrap() == sample(2 * CHUNK + 5));
    let stored = include_bytes!("vectors/libsodium_full_final");
    assert!(decrypt(stored, &key()).unwrap() == sample(CHUNK));
    let followed = [&stored[..], &[0]].concat();
    let error = decrypt(&followed, &key()).unwrap_err();
    assert_eq!(error.message(), "invalid libsodium stream: bytes follow its end");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn no_two_streams_have_the_same_header() {
    let [one, other] = [(), ()].map(|()| encrypt(b"same", &key()));
    assert_ne!(one[..HEADER_BYTES], other[..HEADER_BYTES]);
    assert_ne!(one[HEADER_BYTES..], other[HEADER_BYTES..]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_written_is_read(
        length in prop_oneof![0..5 * CHUNK, (0..4_usize).prop_map(|chunks| chunks * CHUNK)],
        key in any::<[u8; 32]>(),
        piece in 1..20_000_usize,
    ) {
        let key = Key::new(key);
        let content = sample(length);
        let mut writer = SecretStreamWriter::new(Vec::new(), &key);
        for piece in content.chunks(piece) {
            writer.write_all(piece).unwrap();
        }
        let stored = writer.finish().unwrap();
        prop_assert_eq!(stored.len(), HEADER_BYTES + length + 17 * (length / CHUNK + 1));
        let read = read(Pieces(SecretStreamReader::new(&stored[..], &key), piece, false)).unwrap();
        prop_assert!(read == content);
    }
}
