//! A TCP proxy in front of an HTTP server, where tests make things go wrong.
//!
//! The Host header passes through unchanged, so that signatures stay valid.
//! One request is under way on a connection at a time, as HTTP/1.1 clients do it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::server_thread::ServerThread;

mod connection;
mod request_head;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: everything passes.
    None,
    /// Connections are accepted, and from then on no byte passes either way.
    Hang,
    /// Connections are reset as soon as they are accepted.
    Refuse,
    /// The connection is reset when this many bytes of the request's body have passed.
    ResetAfterUpload(u64),
    /// The connection is closed when this many bytes of the answer have passed, its head included.
    CutAnswerAfter(u64),
    /// The request passes after this time.
    Delay(Duration),
    /// Both directions pass at about this many bytes a second.
    Throttle(u64),
    /// The request is read to its end, kept from the server, and answered 503 `SlowDown`.
    Answer503,
    /// The request passes; its answer is swallowed and the connection closed.
    HangUpAfterCommit,
}

/// A proxy on a port of 127.0.0.1; dropping it closes all its connections.
pub struct FaultProxy {
    shared: Arc<Shared>,
    thread: ServerThread,
}

struct Shared {
    upstream: SocketAddr,
    lasting: watch::Sender<Fault>,
    planned: Mutex<Vec<Planned>>,
    requests: Mutex<Vec<String>>,
}

/// A fault for some of the next requests.
struct Planned {
    remaining: u32,
    matching: String,
    fault: Fault,
}

impl FaultProxy {
    /// Starts a proxy in front of `http://ADDRESS:PORT`; everything passes.
    ///
    /// # Panics
    /// When `endpoint` is something else, or no socket or thread can be had.
    pub fn start(endpoint: &str) -> Self {
        let upstream = endpoint
            .strip_prefix("http://")
            .and_then(|address| address.trim_end_matches('/').parse().ok())
            .unwrap_or_else(|| panic!("\"{endpoint}\" is not http://ADDRESS:PORT"));
        let shared = Arc::new(Shared {
            upstream,
            lasting: watch::Sender::new(Fault::None),
            planned: Mutex::default(),
            requests: Mutex::default(),
        });
        let of_connections = Arc::clone(&shared);
        let thread =
            ServerThread::start("fault-proxy", move |listener| accept(listener, of_connections))
                .expect("could not start the fault proxy");
        FaultProxy { shared, thread }
    }

    /// `http://127.0.0.1:PORT`, to be used in place of the server's endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.thread.address())
    }

    /// From now on this goes wrong with every request, and [`Fault::Hang`] and
    /// [`Fault::Refuse`] also with requests under way. Forgets what
    /// [`FaultProxy::next`] planned.
    pub fn set(&self, fault: Fault) {
        self.shared.planned().clear();
        self.shared.lasting.send_replace(fault);
    }

    /// This goes wrong with the next `count` requests whose request line
    /// contains `matching`, such as `"PUT "`, `"POST /bucket/key?uploadId="` or `""`.
    pub fn next(&self, count: u32, matching: &str, fault: Fault) {
        let planned = Planned { remaining: count, matching: matching.to_owned(), fault };
        self.shared.planned().push(planned);
    }

    /// The request lines seen so far: `GET /bucket/key HTTP/1.1`.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().expect("no panic while the log is locked").clone()
    }
}

impl Shared {
    fn planned(&self) -> MutexGuard<'_, Vec<Planned>> {
        self.planned.lock().expect("no panic while the plan is locked")
    }

    /// What goes wrong with a request; uses up what was planned for it.
    fn fault_for(&self, request_line: &str) -> Fault {
        self.requests.lock().expect("no panic while the log is locked").push(request_line.into());
        let mut planned = self.planned();
        let found = planned
            .iter_mut()
            .find(|planned| planned.remaining > 0 && request_line.contains(&planned.matching));
        match found {
            Some(planned) => {
                planned.remaining -= 1;
                planned.fault
            }
            None => *self.lasting.borrow(),
        }
    }

    /// Returns when bytes may pass.
    async fn until_flowing(&self) {
        self.until(|fault| *fault != Fault::Hang).await;
    }

    /// Returns when connections are to be reset.
    async fn until_refused(&self) {
        self.until(|fault| *fault == Fault::Refuse).await;
    }

    async fn until(&self, is_so: impl FnMut(&Fault) -> bool) {
        let mut lasting = self.lasting.subscribe();
        lasting.wait_for(is_so).await.expect("its sender lives as long as the proxy");
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(connection::carry(client, Arc::clone(&shared)));
    }
}
