//! As much of HTTP/1.1 as it takes to know where a request ends.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Tests send no longer heads.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The head of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestHead {
    /// Its bytes, the empty line included.
    pub(super) bytes: Vec<u8>,
    /// `PUT /bucket/key HTTP/1.1`.
    pub(super) line: String,
    /// How many bytes of body follow.
    pub(super) body_bytes: u64,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
}

/// Reads the next head; what was read of the body stays in `buffer`. `None` at
/// the end of the connection.
///
/// # Errors
/// `InvalidData` for what this proxy does not understand.
pub(super) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<Option<RequestHead>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = buffer.split_off(end + 4);
            return parse(std::mem::replace(buffer, body)).map(Some);
        }
        if buffer.len() > MAX_HEAD_BYTES {
            return Err(invalid("the head of a request is too long"));
        }
        if from.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(bytes: Vec<u8>) -> io::Result<RequestHead> {
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or("").to_owned();
    let mut body_bytes = 0;
    let mut expects_continue = false;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                body_bytes =
                    value.parse().map_err(|_| invalid("a content-length is not a number"))?;
            }
            "transfer-encoding" => {
                return Err(invalid("a request has no content-length: teach the proxy chunks"));
            }
            "expect" => expects_continue = value.eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
    }
    Ok(RequestHead { line, body_bytes, expects_continue, bytes })
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn heads_are_found_across_reads_and_bodies_stay() {
        let request = b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET";
        let mut from = tokio_test_reader(&request[..20], &request[20..]);
        let mut buffer = Vec::new();
        let head = read(&mut from, &mut buffer).await.unwrap().unwrap();
        assert_eq!(head.line, "PUT /b/k HTTP/1.1");
        assert_eq!((head.body_bytes, head.expects_continue), (3, false));
        assert_eq!(head.bytes, &request[..request.len() - 6]);
        assert_eq!(buffer, b"abcGET");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_body_of_unknown_length_is_an_error() {
        let mut from = &b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"[..];
        let error = read(&mut from, &mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    fn tokio_test_reader<'a>(first: &'a [u8], second: &'a [u8]) -> impl AsyncRead + Unpin + 'a {
        first.chain(second)
    }
}
