//! Encoding on a thread of its own, beside the one that makes the bytes.
//!
//! To read files, look at their pages and make a tar of them takes nearly as long as to
//! compress the tar. A base backup whose largest file is most of it would use one core for
//! both.

use std::io::{self, Write};
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use super::{Encoder, failed};
use crate::codec::Compression;
use crate::config::Encryption;
use crate::error::{Error, ErrorKind, Result};

/// How much is handed over at a time: a block of an LZ4 frame.
const PIECE_BYTES: usize = 256 * 1024;

/// Pieces at most: one is filled, one is compressed, one lies between.
const PIECES: usize = 3;

/// Encodes and encrypts into `sink`, on another thread, what `produce` writes on this one.
///
/// # Errors
/// Those of `produce`, [`ErrorKind::Io`], and those of `sink`. What is in `sink` then is no whole
/// object.
pub fn encode_aside<W: Write + Send, T>(
    sink: W,
    compression: Compression,
    encryption: &Encryption,
    produce: impl FnOnce(&mut Pieces) -> Result<T>,
) -> Result<T> {
    let (to_encode, pieces) = sync_channel(PIECES);
    let (give_back, empty) = channel();
    for _ in 1..PIECES {
        // The other end is right here.
        let _ = give_back.send(Vec::with_capacity(PIECE_BYTES));
    }
    thread::scope(|scope| {
        let encoding =
            scope.spawn(move || encode(sink, compression, encryption, &pieces, &give_back));
        let filling = Vec::with_capacity(PIECE_BYTES);
        let mut pieces = Pieces { filling, to_encode, empty };
        let produced = produce(&mut pieces).and_then(|value| {
            pieces.end().map_err(failed)?;
            Ok(value)
        });
        // Without an end, what was encoded is left as it is.
        drop(pieces);
        match (encoding.join().unwrap_or_else(|panic| resume_unwind(panic)), produced) {
            // What the producer says then is only that nobody listens any more.
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(Encoded::Whole), Ok(value)) => Ok(value),
            (Ok(Encoded::Cut), Ok(_)) => {
                Err(Error::new(ErrorKind::Bug, "an object was encoded without its end"))
            }
        }
    })
}

/// What was encoded.
enum Encoded {
    Whole,
    /// The producer failed.
    Cut,
}

/// What is handed over.
enum Piece {
    Bytes(Vec<u8>),
    End,
}

fn encode<W: Write>(
    sink: W,
    compression: Compression,
    encryption: &Encryption,
    pieces: &Receiver<Piece>,
    give_back: &Sender<Vec<u8>>,
) -> Result<Encoded> {
    let mut encoder = Encoder::new(sink, compression, encryption)?;
    while let Ok(piece) = pieces.recv() {
        let Piece::Bytes(mut bytes) = piece else {
            encoder.finish()?;
            return Ok(Encoded::Whole);
        };
        encoder.write_all(&bytes).map_err(failed)?;
        bytes.clear();
        // The producer may have ended.
        let _ = give_back.send(bytes);
    }
    Ok(Encoded::Cut)
}

/// Takes what is to be encoded.
pub struct Pieces {
    filling: Vec<u8>,
    to_encode: SyncSender<Piece>,
    empty: Receiver<Vec<u8>>,
}

impl Pieces {
    fn hand_over(&mut self) -> io::Result<()> {
        let empty = self.empty.recv().map_err(|_| ended())?;
        let full = std::mem::replace(&mut self.filling, empty);
        self.to_encode.send(Piece::Bytes(full)).map_err(|_| ended())
    }

    fn end(&mut self) -> io::Result<()> {
        if !self.filling.is_empty() {
            self.hand_over()?;
        }
        self.to_encode.send(Piece::End).map_err(|_| ended())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.filling.len());
        self.filling.extend_from_slice(&bytes[..taken]);
        if self.filling.len() == PIECE_BYTES {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the encoder has ended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Encoding;

    fn none() -> Compression {
        Compression::new(Encoding::None, None).unwrap()
    }

    fn encoded_here(content: &[u8], compression: Compression) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), compression, &Encryption::default()).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn it_is_what_is_encoded_on_one_thread() {
        let content: Vec<u8> = (0..5 * PIECE_BYTES).map(|n| (n / 7 % 251) as u8).collect();
        for compression in [Compression::default(), none()] {
            for length in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, content.len()] {
                let content = &content[..length];
                let mut sink = Vec::new();
                let written =
                    encode_aside(&mut sink, compression, &Encryption::default(), |pieces| {
                        for piece in content.chunks(1000) {
                            pieces.write_all(piece).unwrap();
                        }
                        Ok(length)
                    });
                assert_eq!(written, Ok(length));
                assert!(sink == encoded_here(content, compression), "{length} bytes");
            }
        }
    }

    #[test]
    fn a_producer_that_fails_leaves_no_whole_object() {
        let mut sink = Vec::new();
        let failed =
            encode_aside(&mut sink, Compression::default(), &Encryption::default(), |pieces| {
                pieces.write_all(b"content").unwrap();
                Err::<(), _>(Error::cancelled())
            });
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(sink.len() < encoded_here(b"content", Compression::default()).len());
    }

    /// Takes a few bytes, and fails then.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(io::Error::other("the disk is full")) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_sink_that_fails_ends_the_producer_and_is_the_reason() {
        for room in [0, 10, PIECE_BYTES + 10] {
            let failed = encode_aside(Full(room), none(), &Encryption::default(), |pieces| {
                let written = (0..100).try_for_each(|_| pieces.write_all(&[1; PIECE_BYTES]));
                written.map_err(|error| Error::from_io("could not add to a tar", error))
            });
            let error = failed.unwrap_err();
            let text = format!("{} {:?}", error.message(), error.detail());
            assert!(text.contains("the disk is full"), "{text}");
        }
    }
}
