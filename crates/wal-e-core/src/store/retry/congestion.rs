//! How many requests may be under way at the same time.
//!
//! There is no bound until the store asks for fewer requests. Then it is half of
//! what was under way, and it grows again by one each time that so many requests
//! have succeeded, until no request has to wait for a place: the sawtooth by which
//! TCP shares a line, so that several servers find their share of one store.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::{ErrorKind, Result};
use crate::notice::Notices;

/// The answers to requests that were sent together come together, and count once.
const LOWER_EVERY: Duration = Duration::from_secs(1);

/// That the store asks for fewer requests is logged at most this often.
const SPEAK_EVERY: Duration = Duration::from_secs(60);

/// Hands out places to the requests of one store, first come, first served.
#[derive(Debug)]
pub(super) struct Congestion {
    state: Mutex<State>,
    notices: Notices,
}

#[derive(Debug, Default)]
struct State {
    bound: Bound,
    /// Requests that hold a place.
    in_flight: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
    spoke: Option<Instant>,
}

impl Congestion {
    pub(super) fn new(notices: Notices) -> Arc<Self> {
        Arc::new(Congestion { state: Mutex::default(), notices })
    }

    /// Makes one request as soon as there is a place for it, and learns from
    /// its outcome.
    ///
    /// # Cancel safety
    /// When this is dropped, its place is free again, also one that it only
    /// waited for.
    pub(super) async fn run<T>(
        self: &Arc<Self>,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let _place = self.enter().await;
        let result = request.await;
        match &result {
            Err(error) if error.kind() == ErrorKind::Throttled => self.throttled(),
            // It did not work, but the store had time for it.
            Err(error) if error.is_transient() => {}
            _ => self.lock().bound.succeeded(),
        }
        result
    }

    async fn enter(self: &Arc<Self>) -> Place {
        let turn = {
            let mut state = self.lock();
            let asked = state.asked() + 1;
            state.bound.asked_for(asked);
            if state.bound.allows(state.in_flight) {
                state.in_flight += 1;
                return Place::of(self);
            }
            let (sender, turn) = oneshot::channel();
            state.waiting.push_back(sender);
            turn
        };
        match turn.await {
            Ok(place) => place,
            // The queue ends only with the store, which this call borrows.
            Err(_) => std::future::pending().await,
        }
    }

    fn throttled(&self) {
        let mut state = self.lock();
        let (in_flight, asked, now) = (state.in_flight, state.asked(), Instant::now());
        let Some(bound) = state.bound.throttled(in_flight, asked, now) else { return };
        if state.spoke.is_some_and(|spoke| now.duration_since(spoke) < SPEAK_EVERY) {
            return;
        }
        state.spoke = Some(now);
        let requests = if bound == 1 { "request" } else { "requests" };
        self.notices
            .log(format!("the store asks to slow down: at most {bound} {requests} at a time"));
    }

    /// A place is free, or the bound has grown.
    fn leave(self: &Arc<Self>) {
        let mut state = self.lock();
        state.in_flight -= 1;
        while state.bound.allows(state.in_flight)
            && let Some(next) = state.waiting.pop_front()
        {
            state.in_flight += 1;
            if let Err(place) = next.send(Place::of(self)) {
                // Dropped while it waited.
                place.forget();
                state.in_flight -= 1;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many requests there would be without a bound.
    fn asked(&self) -> usize {
        self.in_flight + self.waiting.iter().filter(|waiting| !waiting.is_closed()).count()
    }
}

/// The right to make one request, given back when it is dropped.
#[derive(Debug)]
struct Place {
    of: Option<Arc<Congestion>>,
}

impl Place {
    fn of(congestion: &Arc<Congestion>) -> Self {
        Place { of: Some(Arc::clone(congestion)) }
    }

    /// For a place that is given back by other means.
    fn forget(mut self) {
        self.of = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(congestion) = self.of.take() {
            congestion.leave();
        }
    }
}

/// The bound itself, and how it moves.
#[derive(Debug, Default)]
struct Bound {
    /// `None`: there is none.
    limit: Option<usize>,
    /// Since the limit last grew.
    successes: usize,
    /// The most requests that there would have been at one time since the limit
    /// was last lowered.
    most_asked: usize,
    lowered: Option<Instant>,
}

impl Bound {
    fn allows(&self, in_flight: usize) -> bool {
        self.limit.is_none_or(|limit| in_flight < limit)
    }

    fn asked_for(&mut self, requests: usize) {
        self.most_asked = self.most_asked.max(requests);
    }

    /// Lowers the limit and returns it, unless that was done a moment ago.
    fn throttled(&mut self, in_flight: usize, asked: usize, now: Instant) -> Option<usize> {
        if self.lowered.is_some_and(|lowered| now.duration_since(lowered) < LOWER_EVERY) {
            return None;
        }
        // More may be under way than the limit that came after them.
        let at_most = self.limit.unwrap_or(usize::MAX);
        let limit = (in_flight / 2).clamp(1, at_most);
        *self = Bound { limit: Some(limit), successes: 0, most_asked: asked, lowered: Some(now) };
        Some(limit)
    }

    fn succeeded(&mut self) {
        let Some(limit) = self.limit else { return };
        self.successes += 1;
        if self.successes >= limit {
            self.successes = 0;
            self.limit = (limit < self.most_asked).then_some(limit + 1);
        }
    }
}

#[cfg(test)]
mod tests;
