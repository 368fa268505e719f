//! The services that machines and containers of AWS ask for keys.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server_thread::ServerThread;

/// Instance metadata, and at `/keys` what the agent next to a container answers.
pub struct KeyService {
    requests: Arc<Mutex<Vec<String>>>,
    thread: ServerThread,
}

impl KeyService {
    /// A service that hands out one pair of keys.
    pub fn start(access_key: &str, secret_key: &str) -> KeyService {
        let keys = format!(
            "{{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"{access_key}\",\
             \"SecretAccessKey\":\"{secret_key}\",\"Token\":\"token\",\
             \"LastUpdated\":\"2020-01-01T00:00:00Z\",\"Expiration\":\"2090-01-01T00:00:00Z\"}}"
        );
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        let thread = ServerThread::start("key-service", async move |listener| {
            while let Ok((client, _)) = listener.accept().await {
                let (keys, seen) = (keys.clone(), Arc::clone(&seen));
                tokio::spawn(async move { answer(client, &keys, &seen).await });
            }
        })
        .expect("could not start the key service of the tests");
        KeyService { requests, thread }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.thread.address())
    }

    /// The first lines of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic while the requests are locked").clone()
    }
}

async fn answer(mut client: TcpStream, keys: &str, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default().to_owned();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    seen.lock().expect("no panic while the requests are locked").push(line);
    let body = match path.as_str() {
        "/latest/api/token" => "token",
        "/latest/meta-data/iam/security-credentials/" => "role",
        "/latest/meta-data/iam/security-credentials/role" | "/keys" => keys,
        _ => "",
    };
    let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\
         x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n{body}",
        body.len()
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}
