//! A proxy as companies have it: it takes requests that name their server, and makes ways to
//! servers that it does not look into.
//!
//! Whatever server is named, it goes to the one that it was made for, so that names need not
//! resolve.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use crate::server_thread::ServerThread;

/// A proxy on a port of 127.0.0.1.
pub struct ForwardProxy {
    shared: Arc<Shared>,
    thread: ServerThread,
}

struct Shared {
    upstream: SocketAddr,
    /// What `Proxy-Authorization` has to say.
    authorization: Option<&'static str>,
    /// The status that everything is refused with.
    refusal: Mutex<Option<u16>>,
    /// The first line of each connection.
    lines: Mutex<Vec<String>>,
}

impl ForwardProxy {
    /// A proxy for everybody, in front of the server at `endpoint`.
    pub fn start(endpoint: &str) -> ForwardProxy {
        ForwardProxy::with(endpoint, None)
    }

    /// A proxy that wants `Proxy-Authorization` to be this.
    pub fn with_login(endpoint: &str, authorization: &'static str) -> ForwardProxy {
        ForwardProxy::with(endpoint, Some(authorization))
    }

    fn with(endpoint: &str, authorization: Option<&'static str>) -> ForwardProxy {
        let (_, address) = endpoint.split_once("://").expect("an endpoint has a scheme");
        let upstream = address.parse().expect("an address and a port");
        let (refusal, lines) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { upstream, authorization, refusal, lines });
        let of_connections = Arc::clone(&shared);
        let thread = ServerThread::start("forward-proxy", async move |listener| {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&of_connections);
                // A peer that goes away is part of the tests.
                tokio::spawn(async move { carry(client, &shared).await });
            }
        })
        .expect("could not start the proxy of the tests");
        ForwardProxy { shared, thread }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.thread.address().to_string()
    }

    /// From now on everything is refused with this status, or nothing.
    pub fn refuse(&self, status: Option<u16>) {
        *self.shared.refusal.lock().expect("no panic while the refusal is locked") = status;
    }

    /// The first lines of all connections so far, such as `CONNECT host:443 HTTP/1.1`.
    pub fn lines(&self) -> Vec<String> {
        self.shared.lines.lock().expect("no panic while the lines are locked").clone()
    }
}

async fn carry(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let line = text.lines().next().unwrap_or_default().to_owned();
    let is_tunnel = line.starts_with("CONNECT ");
    shared.lines.lock().expect("no panic while the lines are locked").push(line);

    let refusal = *shared.refusal.lock().expect("no panic while the refusal is locked");
    let login = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("proxy-authorization").then(|| value.trim().to_owned())
    });
    let refusal = match shared.authorization {
        Some(wanted) if login.as_deref() != Some(wanted) => Some(407),
        _ => refusal,
    };
    if let Some(status) = refusal {
        let answer = format!(
            "HTTP/1.1 {status} Refused\r\nServer: squid/6.6\r\nContent-Type: text/html\r\n\
             Content-Length: 13\r\nConnection: close\r\n\r\n<html></html>"
        );
        client.write_all(answer.as_bytes()).await?;
        return client.shutdown().await;
    }
    let mut server = TcpStream::connect(shared.upstream).await?;
    match is_tunnel {
        true => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?,
        // HTTP/1.1 has servers take requests that name them in full.
        false => server.write_all(&head).await?,
    }
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
