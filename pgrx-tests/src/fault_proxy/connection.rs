//! One connection through the proxy, and what goes wrong on it.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Mutex as AsyncMutex;

use super::request_head::{self, RequestHead};
use super::{Fault, Shared, Ticket};

const CHUNK_BYTES: usize = 16 * 1024;

/// Ends within `HTTP/1.1 200 OK`.
const HEAD_BYTES_BEFORE_RESET: usize = 11;

const SLOW_DOWN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
    <Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

/// How a connection ends.
enum End {
    /// As its peers close connections.
    Close,
    /// With a reset (RST), losing what is under way.
    Reset,
}

/// What is under way on a connection: the fault of the current request, and how
/// many bytes of its answer have passed.
struct Exchange<'a> {
    fault: Fault,
    answered: u64,
    /// Until the answer begins.
    under_way: Option<Ticket<'a>>,
}

type ClientWriter<'a> = AsyncMutex<WriteHalf<'a>>;

/// Carries a connection to its end.
pub(super) async fn carry(mut client: TcpStream, shared: Arc<Shared>) {
    let end = tokio::select! {
        end = exchange_all(&mut client, &shared) => end.unwrap_or_else(|error| {
            // A peer that went away is part of the tests; a request that the
            // proxy cannot carry is a mistake of the test, which must not look like a fault.
            assert_ne!(error.kind(), io::ErrorKind::InvalidData, "fault proxy: {error}");
            End::Close
        }),
        () = shared.until_refused() => End::Reset,
    };
    if matches!(end, End::Reset) {
        let _ = client.set_zero_linger();
    }
}

async fn exchange_all(client: &mut TcpStream, shared: &Shared) -> io::Result<End> {
    shared.until_flowing().await;
    let mut server = TcpStream::connect(shared.upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_reader, client_writer) = client.split();
    let (server_reader, server_writer) = server.split();
    let client_writer = AsyncMutex::new(client_writer);
    let exchange = Mutex::new(Exchange { fault: Fault::None, answered: 0, under_way: None });
    tokio::select! {
        end = carry_requests(client_reader, server_writer, &client_writer, &exchange, shared) => end,
        end = carry_answers(server_reader, &client_writer, &exchange, shared) => end,
    }
}

async fn carry_requests<'a>(
    mut client: ReadHalf<'_>,
    mut server: WriteHalf<'_>,
    answers: &ClientWriter<'_>,
    exchange: &Mutex<Exchange<'a>>,
    shared: &'a Shared,
) -> io::Result<End> {
    let mut buffer = Vec::new();
    loop {
        let Some(head) = request_head::read(&mut client, &mut buffer).await? else {
            return Ok(End::Close);
        };
        shared.until_flowing().await;
        let fault = shared.fault_for(&head.line);
        let under_way = Some(Ticket::new(shared, &head.line));
        *exchange.lock().expect("no panic while locked") =
            Exchange { fault, answered: 0, under_way };
        match fault {
            Fault::Hang => return std::future::pending().await,
            Fault::Refuse => return Ok(End::Reset),
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::Answer503 => {
                refuse_503(&head, &mut client, &mut buffer, answers).await?;
                exchange.lock().expect("no panic while locked").under_way = None;
                continue;
            }
            _ => {}
        }
        server.write_all(&head.bytes).await?;
        if fault == Fault::Repeat {
            let mut body = Vec::new();
            while (body.len() as u64) < head.body_bytes {
                let left = head.body_bytes - body.len() as u64;
                body.extend(next_chunk(&mut client, &mut buffer, left).await?);
            }
            send_and_forget(&head, &body, shared).await?;
            server.write_all(&body).await?;
            continue;
        }
        let passing = match fault {
            Fault::ResetAfterUpload(limit) => head.body_bytes.min(limit),
            _ => head.body_bytes,
        };
        let mut passed = 0;
        while passed < passing {
            let chunk = next_chunk(&mut client, &mut buffer, passing - passed).await?;
            shared.until_flowing().await;
            server.write_all(&chunk).await?;
            passed += chunk.len() as u64;
            throttle(fault, chunk.len()).await;
        }
        if passed < head.body_bytes {
            return Ok(End::Reset);
        }
    }
}

async fn carry_answers(
    mut server: ReadHalf<'_>,
    client: &ClientWriter<'_>,
    exchange: &Mutex<Exchange<'_>>,
    shared: &Shared,
) -> io::Result<End> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let length = server.read(&mut buffer).await?;
        if length == 0 {
            return Ok(End::Close);
        }
        shared.until_flowing().await;
        let chunk = &buffer[..length];
        let interim = interim_bytes(chunk);
        let (fault, answered) = {
            let mut exchange = exchange.lock().expect("no panic while locked");
            let before = exchange.answered;
            exchange.answered += length as u64;
            if interim < length {
                exchange.under_way = None;
            }
            (exchange.fault, before)
        };
        let passing = match fault {
            Fault::HangUpAfterCommit => interim,
            Fault::CutAnswerAfter(limit) => {
                usize::try_from(limit.saturating_sub(answered)).unwrap_or(usize::MAX).min(length)
            }
            Fault::ResetInAnswerHead => (interim + HEAD_BYTES_BEFORE_RESET).min(length),
            Fault::ResetInAnswerBody => match end_of_head(&chunk[interim..]) {
                Some(end) => (interim + end + 1).min(length),
                None => length,
            },
            _ => length,
        };
        client.lock().await.write_all(&chunk[..passing]).await?;
        if passing < length {
            return Ok(match fault {
                Fault::ResetInAnswerHead | Fault::ResetInAnswerBody => End::Reset,
                _ => End::Close,
            });
        }
        throttle(fault, length).await;
    }
}

/// Sends a request on a connection of its own and waits until it is answered.
async fn send_and_forget(head: &RequestHead, body: &[u8], shared: &Shared) -> io::Result<()> {
    let mut server = TcpStream::connect(shared.upstream).await?;
    server.write_all(&head.bytes).await?;
    server.write_all(body).await?;
    let mut answer = Vec::new();
    loop {
        let begun = interim_bytes(&answer);
        if end_of_head(&answer[begun..]).is_some() {
            return Ok(());
        }
        if server.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Up to `limit` bytes of a request's body.
async fn next_chunk(
    client: &mut ReadHalf<'_>,
    buffer: &mut Vec<u8>,
    limit: u64,
) -> io::Result<Vec<u8>> {
    if buffer.is_empty() {
        buffer.reserve(CHUNK_BYTES);
        if client.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let wanted = CHUNK_BYTES.min(usize::try_from(limit).unwrap_or(usize::MAX)).min(buffer.len());
    let rest = buffer.split_off(wanted);
    Ok(std::mem::replace(buffer, rest))
}

/// Reads a request to its end, so that the client reads the answer and not a
/// reset, and answers that it should slow down.
async fn refuse_503(
    head: &RequestHead,
    client: &mut ReadHalf<'_>,
    buffer: &mut Vec<u8>,
    answers: &ClientWriter<'_>,
) -> io::Result<()> {
    let mut answers = answers.lock().await;
    if head.expects_continue {
        answers.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let mut remaining = head.body_bytes;
    while remaining > 0 {
        remaining -= next_chunk(client, buffer, remaining).await?.len() as u64;
    }
    let head_of_answer = format!(
        "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n",
        SLOW_DOWN.len()
    );
    answers.write_all(head_of_answer.as_bytes()).await?;
    if !head.line.starts_with("HEAD ") {
        answers.write_all(SLOW_DOWN.as_bytes()).await?;
    }
    Ok(())
}

/// The length of a `100 Continue` at the beginning of an answer, which commits nothing.
fn interim_bytes(answer: &[u8]) -> usize {
    match answer.starts_with(b"HTTP/1.1 100") {
        true => end_of_head(answer).unwrap_or(0),
        false => 0,
    }
}

/// Where the body of an answer begins.
fn end_of_head(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|window| window == b"\r\n\r\n").map(|end| end + 4)
}

async fn throttle(fault: Fault, bytes: usize) {
    if let Fault::Throttle(bytes_per_second) = fault {
        let time = Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64);
        tokio::time::sleep(time).await;
    }
}
