//! A connection pooler, which speaks PostgreSQL's protocol to both sides as PgBouncer does.
//!
//! It announces a process of its own to its clients. In transaction mode a client has a
//! session of the server only from the first word of a transaction to its last.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::{io, mem};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::cluster::Cluster;
use crate::server_thread::ServerThread;

/// For how long a client has a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// As long as it is connected.
    Session,
    /// For one transaction.
    Transaction,
}

/// A pooler before a server.
pub struct Pooler {
    thread: ServerThread,
}

struct Pool {
    mode: PoolMode,
    socket: PathBuf,
    startup: Mutex<Vec<u8>>,
    /// The one that was used last is taken first.
    idle: Mutex<Vec<UnixStream>>,
}

impl Pooler {
    /// Starts it.
    #[track_caller]
    pub fn start(cluster: &Cluster, mode: PoolMode) -> Pooler {
        let pool = Arc::new(Pool {
            mode,
            socket: cluster.socket_directory().join(".s.PGSQL.5432"),
            startup: Mutex::default(),
            idle: Mutex::default(),
        });
        let thread = ServerThread::start("pooler", |listener| async move {
            while let Ok((client, _)) = listener.accept().await {
                let pool = Arc::clone(&pool);
                tokio::spawn(async move { pool.serve(client).await });
            }
        });
        Pooler { thread: thread.expect("there is a free port") }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.thread.address().port()
    }
}

impl Pool {
    /// A client, from its first word to its end.
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let startup = loop {
            let startup = read_body(&mut client).await?;
            // It asks for TLS first.
            if startup[..4] != [0x04, 0xd2, 0x16, 0x2f] {
                break startup;
            }
            client.write_all(b"N").await?;
        };
        *self.startup.lock().expect("no thread panics with it") = startup;
        let (session, said) = self.session().await?;
        // The process that it says it is, is nobody's.
        let said = with_process(said, 123_456);
        client.write_all(&said).await?;
        let mut held = Some(session);
        if self.mode == PoolMode::Transaction {
            self.give_back(held.take());
        }
        while let Ok(message) = read_message(&mut client).await {
            if message[0] == b'X' {
                break;
            }
            let mut session = match held.take() {
                Some(session) => session,
                None => self.free_session().await?,
            };
            session.write_all(&message).await?;
            // A simple query, or the end of a series of messages, is answered to its end.
            if matches!(message[0], b'Q' | b'S') {
                let state = loop {
                    let answer = read_message(&mut session).await?;
                    client.write_all(&answer).await?;
                    if answer[0] == b'Z' {
                        break answer[5];
                    }
                };
                if self.mode == PoolMode::Transaction && state == b'I' {
                    self.give_back(Some(session));
                    continue;
                }
            }
            held = Some(session);
        }
        // In a transaction, or a client's own: it ends with its client.
        Ok(())
    }

    fn give_back(&self, session: Option<UnixStream>) {
        self.idle.lock().expect("no thread panics with it").extend(session);
    }

    async fn free_session(&self) -> io::Result<UnixStream> {
        let free = self.idle.lock().expect("no thread panics with it").pop();
        match free {
            Some(session) => Ok(session),
            None => Ok(self.session().await?.0),
        }
    }

    /// A new session, and what the server said at its beginning.
    async fn session(&self) -> io::Result<(UnixStream, Vec<u8>)> {
        let mut session = UnixStream::connect(&self.socket).await?;
        let startup = self.startup.lock().expect("no thread panics with it").clone();
        session.write_all(&(startup.len() as u32 + 4).to_be_bytes()).await?;
        session.write_all(&startup).await?;
        let mut said = Vec::new();
        loop {
            let message = read_message(&mut session).await?;
            let kind = message[0];
            said.extend(message);
            if matches!(kind, b'Z' | b'E') {
                return Ok((session, said));
            }
        }
    }
}

async fn read_body(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await? as usize;
    let mut body = vec![0; length.saturating_sub(4)];
    from.read_exact(&mut body).await?;
    Ok(body)
}

async fn read_message(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let kind = from.read_u8().await?;
    let body = read_body(from).await?;
    let length = (body.len() as u32 + 4).to_be_bytes();
    Ok([&[kind][..], &length, &body].concat())
}

/// The messages, with another process in the one that names it.
fn with_process(messages: Vec<u8>, process: i32) -> Vec<u8> {
    let mut changed = Vec::new();
    let mut rest = messages;
    while rest.len() >= 5 {
        let length = u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]) as usize;
        let after = rest.split_off(1 + length);
        let mut message = mem::replace(&mut rest, after);
        if message[0] == b'K' {
            message[5..9].copy_from_slice(&process.to_be_bytes());
        }
        changed.extend(message);
    }
    changed
}
