//! Streams that are not what was written.

use super::*;

/// Three full chunks and the last, with their header.
fn stored() -> Vec<u8> {
    encrypt(&sample(3 * CHUNK + 100), &key())
}

/// Reads `stored`, which is damaged, and checks that what came before the error was right.
fn damage(stored: &[u8], content: &[u8]) -> String {
    let mut reader = SecretStreamReader::new(stored, &key());
    let mut read = Vec::new();
    let error = reader.read_to_end(&mut read).unwrap_err();
    assert!(content.starts_with(&read), "content was given that nobody wrote");
    assert!(read.len().is_multiple_of(CHUNK), "the last chunk was given");
    let again = reader.read(&mut [0]).unwrap_err();
    assert_eq!(again.to_string(), "an earlier read failed");
    let error = Error::from_io("", error);
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    error.message().to_owned()
}

#[test]
fn a_stream_that_ends_too_early_is_truncated() {
    let content = sample(3 * CHUNK + 100);
    let stored = stored();
    let chunk = |number: usize| HEADER_BYTES + number * STORED_CHUNK_BYTES;
    for length in
        [0, 1, HEADER_BYTES - 1, HEADER_BYTES, chunk(0) + 16, chunk(1), chunk(1) + 16, chunk(3)]
    {
        let message = damage(&stored[..length], &content);
        assert_eq!(message, format!("the libsodium stream is truncated after {length} bytes"));
    }
    for length in [chunk(0) + 17, chunk(1) - 1] {
        let message = damage(&stored[..length], &content);
        assert_eq!(
            message,
            "invalid libsodium stream: it is of another key, or its beginning was altered or truncated"
        );
    }
    for length in [chunk(1) + 17, chunk(2) - 1, chunk(3) + 17, stored.len() - 1] {
        let number = (length - HEADER_BYTES) / STORED_CHUNK_BYTES + 1;
        let message = damage(&stored[..length], &content);
        assert_eq!(
            message,
            format!(
                "invalid libsodium stream: chunk {number}, the last, was altered, truncated or added to"
            )
        );
    }
    for length in (0..stored.len()).step_by(97) {
        damage(&stored[..length], &content);
    }
}

#[test]
fn a_chunk_without_final_is_no_end() {
    let content = sample(CHUNK);
    let stored = encrypt(&content, &key());
    assert_eq!(stored.len(), HEADER_BYTES + STORED_CHUNK_BYTES + 17);
    let message = damage(&stored[..HEADER_BYTES + STORED_CHUNK_BYTES], &content);
    assert_eq!(message, "the libsodium stream is truncated after 8233 bytes");
    // Whoever has the key can end with another tag.
    use dryoc::classic::crypto_secretstream_xchacha20poly1305 as stream;
    for (tag, expected) in [
        (0, "the libsodium stream is truncated after 42 bytes"),
        (2, "the libsodium stream is truncated after 42 bytes"),
        (4, "invalid libsodium stream: chunk 1 has an unknown tag"),
        (255, "invalid libsodium stream: chunk 1 has an unknown tag"),
    ] {
        let mut state = stream::State::new();
        let mut header = stream::Header::default();
        stream::crypto_secretstream_xchacha20poly1305_init_push(
            &mut state,
            &mut header,
            key().expose(),
        );
        let mut chunk = [0; 18];
        stream::crypto_secretstream_xchacha20poly1305_push(&mut state, &mut chunk, b"x", None, tag)
            .unwrap();
        assert_eq!(damage(&[&header[..], &chunk].concat(), b""), expected);
    }
}

#[test]
fn bytes_after_the_end_are_damage() {
    let content = sample(3 * CHUNK + 100);
    let stored = stored();
    for more in [&[0][..], &[0; 17], &[0; 20_000], &stored, &stored[HEADER_BYTES..]] {
        damage(&[&stored, more].concat(), &content);
    }
}

#[test]
fn chunks_that_are_not_in_their_place_are_damage() {
    let content = sample(3 * CHUNK + 100);
    let stored = stored();
    let (header, chunks) = stored.split_at(HEADER_BYTES);
    let chunks: Vec<&[u8]> = chunks.chunks(STORED_CHUNK_BYTES).collect();
    for order in [
        &[1, 0, 2, 3][..],
        &[0, 2, 1, 3],
        &[0, 1, 3],
        &[0, 2, 3],
        &[1, 2, 3],
        &[3],
        &[0, 0, 1, 2, 3],
        &[0, 1, 1, 2, 3],
        &[0, 1, 2, 2, 3],
        &[0, 1, 2, 3, 3],
        &[0, 1, 3, 2],
    ] {
        let mut damaged = header.to_vec();
        damaged.extend(order.iter().flat_map(|number: &usize| chunks[*number]));
        damage(&damaged, &content);
    }
    // A chunk of another stream with the same key.
    let other = encrypt(&content, &key());
    let mixed =
        [&stored[..HEADER_BYTES + STORED_CHUNK_BYTES], &other[HEADER_BYTES + STORED_CHUNK_BYTES..]];
    let message = damage(&mixed.concat(), &content);
    assert_eq!(message, "invalid libsodium stream: chunk 2 was altered, or is not in its place");
}

#[test]
fn a_bit_that_is_flipped_is_damage() {
    let content = sample(3 * CHUNK + 100);
    let mut stored = stored();
    let edges = (0..4).flat_map(|number| {
        let start = HEADER_BYTES + number * STORED_CHUNK_BYTES;
        (start..start + 3).chain(start.saturating_sub(17)..start)
    });
    let sampled = (0..stored.len()).step_by(211);
    let last = stored.len() - 17..stored.len();
    for (n, place) in (0..HEADER_BYTES).chain(edges).chain(sampled).chain(last).enumerate() {
        stored[place] ^= 1 << (n % 8);
        damage(&stored, &content);
        stored[place] ^= 1 << (n % 8);
    }
    assert!(decrypt(&stored, &key()).unwrap() == content);
}

#[test]
fn another_key_reads_nothing() {
    let error = decrypt(&stored(), &other_key()).unwrap_err();
    assert_eq!(
        error.message(),
        "invalid libsodium stream: it is of another key, or its beginning was altered or truncated"
    );
}

#[test]
fn errors_of_what_is_below_are_passed_on() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(Error::new(ErrorKind::Unavailable, "the store is away").into())
        }
    }
    let stored = stored();
    for length in [0, 10, HEADER_BYTES, HEADER_BYTES + 5, HEADER_BYTES + STORED_CHUNK_BYTES] {
        let error =
            read(SecretStreamReader::new(stored[..length].chain(Failing), &key())).unwrap_err();
        assert_eq!(error.message(), "the store is away");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}

#[test]
fn a_writer_whose_sink_failed_writes_no_more() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer = SecretStreamWriter::new(Full(10_000), &key());
    assert_eq!(writer.write_all(&sample(3 * CHUNK)).unwrap_err().kind(), io::ErrorKind::WriteZero);
    let error = writer.finish().err().unwrap();
    assert_eq!(error.to_string(), "an earlier write failed");
}
