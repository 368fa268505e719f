//! A TCP proxy in front of an HTTP server, where tests make things go wrong.
//!
//! The Host header passes through unchanged, so that signatures stay valid.
//! One request is under way on a connection at a time, as HTTP/1.1 clients do it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
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
    /// The request passes twice, the first time on a connection of its own whose answer
    /// is swallowed, as a proxy does that has lost it.
    Repeat,
    /// The request passes; its answer is swallowed and the connection closed.
    HangUpAfterCommit,
    /// The connection is reset in the middle of the answer's first line.
    ResetInAnswerHead,
    /// The connection is reset after the first byte of the answer's body; an
    /// answer without one passes.
    ResetInAnswerBody,
    /// One of the faults that end, drawn anew for each request, with so many
    /// of a thousand requests; the others pass.
    Random {
        /// Where the drawing begins, each time that this is [set](FaultProxy::set).
        seed: u64,
        /// How many of a thousand requests it happens to.
        per_mille: u32,
    },
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
    requests: Mutex<Vec<(String, Fault)>>,
    random: Mutex<Rng>,
    under_way: Mutex<UnderWay>,
}

/// Requests that were read and are not answered yet.
#[derive(Default)]
struct UnderWay {
    paths: Vec<String>,
    /// What a path has to contain to be counted.
    counted: String,
    most_objects: usize,
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
            random: Mutex::new(Rng::with_seed(0)),
            under_way: Mutex::default(),
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
        if let Fault::Random { seed, .. } = fault {
            *self.shared.random() = Rng::with_seed(seed);
        }
        self.shared.lasting.send_replace(fault);
    }

    /// This goes wrong with the next `count` requests whose request line
    /// contains `matching`, such as `"PUT "`, `"POST /bucket/key?uploadId="` or `""`.
    pub fn next(&self, count: u32, matching: &str, fault: Fault) {
        let planned = Planned { remaining: count, matching: matching.to_owned(), fault };
        self.shared.planned().push(planned);
    }

    /// How many of the faults that [`FaultProxy::next`] planned have not happened yet.
    pub fn faults_to_come(&self) -> u32 {
        self.shared.planned().iter().map(|planned| planned.remaining).sum()
    }

    /// The request lines seen so far: `GET /bucket/key HTTP/1.1`.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests().iter().map(|(line, _)| line.clone()).collect()
    }

    /// How many requests of a method, such as `PUT`, were seen whose path contains `matching`.
    pub fn count_requests(&self, method: &str, matching: &str) -> usize {
        let is_counted = |line: &str| {
            let mut words = line.split(' ');
            words.next() == Some(method) && words.next().is_some_and(|path| path.contains(matching))
        };
        self.shared.requests().iter().filter(|(line, _)| is_counted(line)).count()
    }

    /// How many requests, of those whose request line contains `matching`, may
    /// have reached the server without the client having had the whole answer.
    pub fn count_lost_answers(&self, matching: &str) -> usize {
        let loses_answer = |fault: &Fault| {
            matches!(
                fault,
                Fault::HangUpAfterCommit
                    | Fault::CutAnswerAfter(_)
                    | Fault::ResetInAnswerHead
                    | Fault::ResetInAnswerBody
            )
        };
        let requests = self.shared.requests();
        requests
            .iter()
            .filter(|(line, fault)| line.contains(matching) && loses_answer(fault))
            .count()
    }

    /// From now on [`most_objects_under_way`](Self::most_objects_under_way)
    /// counts anew, and only objects whose path contains `matching`.
    pub fn count_objects_under_way(&self, matching: &str) {
        let mut under_way = self.shared.under_way();
        under_way.counted = matching.to_owned();
        under_way.most_objects = 0;
    }

    /// The most objects that had a request under way at one time: it was read,
    /// and no byte of its answer was seen.
    pub fn most_objects_under_way(&self) -> usize {
        self.shared.under_way().most_objects
    }
}

impl Shared {
    fn planned(&self) -> MutexGuard<'_, Vec<Planned>> {
        self.planned.lock().expect("no panic while the plan is locked")
    }

    fn requests(&self) -> MutexGuard<'_, Vec<(String, Fault)>> {
        self.requests.lock().expect("no panic while the log is locked")
    }

    /// What goes wrong with a request; uses up what was planned for it.
    fn fault_for(&self, request_line: &str) -> Fault {
        let fault =
            self.planned_fault(request_line).unwrap_or_else(|| match *self.lasting.borrow() {
                Fault::Random { per_mille, .. } => draw(&mut self.random(), per_mille),
                fault => fault,
            });
        self.requests().push((request_line.to_owned(), fault));
        fault
    }

    fn planned_fault(&self, request_line: &str) -> Option<Fault> {
        let mut planned = self.planned();
        let found = planned
            .iter_mut()
            .find(|planned| planned.remaining > 0 && request_line.contains(&planned.matching))?;
        found.remaining -= 1;
        Some(found.fault)
    }

    fn random(&self) -> MutexGuard<'_, Rng> {
        self.random.lock().expect("no panic while the generator is locked")
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().expect("no panic while the requests under way are locked")
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

/// One of the faults that end by themselves, or none.
fn draw(random: &mut Rng, per_mille: u32) -> Fault {
    if random.u32(..1000) >= per_mille {
        return Fault::None;
    }
    match random.u32(..8) {
        0 => Fault::Answer503,
        1 => Fault::Refuse,
        2 => Fault::ResetAfterUpload(random.u64(..200_000)),
        3 => Fault::ResetInAnswerHead,
        4 => Fault::ResetInAnswerBody,
        5 => Fault::CutAnswerAfter(random.u64(..400)),
        6 => Fault::HangUpAfterCommit,
        _ => Fault::Delay(Duration::from_millis(random.u64(1..500))),
    }
}

/// Counts a request as under way until it is dropped.
struct Ticket<'a> {
    shared: &'a Shared,
    path: String,
}

impl<'a> Ticket<'a> {
    fn new(shared: &'a Shared, request_line: &str) -> Self {
        let target = request_line.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let mut guard = shared.under_way();
        let under_way = &mut *guard;
        under_way.paths.push(path.clone());
        let counted = |path: &&String| path.contains(&under_way.counted);
        let objects = under_way.paths.iter().filter(counted).collect::<BTreeSet<_>>().len();
        under_way.most_objects = under_way.most_objects.max(objects);
        drop(guard);
        Ticket { shared, path }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let paths = &mut self.shared.under_way().paths;
        if let Some(index) = paths.iter().position(|path| *path == self.path) {
            paths.swap_remove(index);
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(connection::carry(client, Arc::clone(&shared)));
    }
}
