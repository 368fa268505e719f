//! The SDK's HTTP client over connections of our own.
//!
//! The SDK's own client has proxies in part, and trusts no certificate that is not made as
//! an authority would make it; see [`trust`] and [`connector`].

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http::header::PROXY_AUTHORIZATION;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::causes::causes;
use crate::config::Proxies;

mod connector;
mod proxy;
mod trust;

use connector::{Connector, TimedOut};
pub(super) use proxy::ProxyFailure;
pub(super) use trust::Tls;

/// How long an idle connection is kept; servers close theirs after little more.
const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// A client of its own connections for each pair of time limits.
pub(super) fn client(tls: &Arc<Tls>, proxies: &Proxies) -> SharedHttpClient {
    let (tls, proxies) = (Arc::clone(tls), Arc::new(proxies.clone()));
    let made: Mutex<HashMap<_, SharedHttpConnector>> = Mutex::default();
    http_client_fn(move |settings, _| {
        let limits = (settings.connect_timeout(), settings.read_timeout());
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || SharedHttpConnector::new(Requests::new(&tls, &proxies, limits));
        made.entry(limits).or_insert_with(make).clone()
    })
}

/// Connections for requests that no client of the SDK makes. The limits are for a connection
/// and for an answer to begin.
pub(super) fn connector(
    tls: &Arc<Tls>,
    proxies: &Proxies,
    limits: (Option<Duration>, Option<Duration>),
) -> SharedHttpConnector {
    SharedHttpConnector::new(Requests::new(tls, &Arc::new(proxies.clone()), limits))
}

/// Sends requests.
struct Requests {
    client: legacy::Client<Connector, SdkBody>,
    proxies: Arc<Proxies>,
    /// For an answer to begin.
    limit: Option<Duration>,
}

impl Requests {
    fn new(
        tls: &Arc<Tls>,
        proxies: &Arc<Proxies>,
        (connect, read): (Option<Duration>, Option<Duration>),
    ) -> Requests {
        let connector = Connector::new(Arc::clone(tls), Arc::clone(proxies), connect);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .build(connector);
        Requests { client, proxies: Arc::clone(proxies), limit: read }
    }

    /// The password for a proxy that reads the request itself. Through others the request
    /// passes unread, and the password is given when the way is made.
    fn authorize(&self, request: &mut http::Request<SdkBody>) {
        let uri = request.uri();
        if uri.scheme_str() != Some("http") {
            return;
        }
        let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
        let proxy = self.proxies.on_the_way(false, host, port);
        if let Some(value) = proxy.and_then(proxy::authorization) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("proxies", &self.proxies).finish_non_exhaustive()
    }
}

impl HttpConnector for Requests {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => {
                return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into())));
            }
        };
        self.authorize(&mut request);
        let captured = capture_connection(&mut request);
        if let Some(capture) = request.extensions().get::<CaptureSmithyConnection>() {
            capture.set_connection_retriever(move || metadata(&captured));
        }
        let (answer, limit) = (self.client.request(request), self.limit);
        HttpConnectorFuture::new(async move {
            let answer = match limit {
                None => answer.await,
                Some(limit) => tokio::time::timeout(limit, answer)
                    .await
                    .map_err(|_| ConnectorError::timeout(TimedOut::answer(limit).into()))?,
            };
            let answer = answer.map_err(classified)?.map(SdkBody::from_body_1_x);
            HttpResponse::try_from(answer)
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// With it the SDK gives up a connection over which a server has answered that it cannot.
fn metadata(captured: &CaptureConnection) -> Option<ConnectionMetadata> {
    let proxied = captured.connection_metadata().as_ref()?.is_proxied();
    let captured = captured.clone();
    let give_up = move || {
        if let Some(connection) = captured.connection_metadata().as_ref() {
            connection.poison();
        }
    };
    Some(ConnectionMetadata::builder().proxied(proxied).poison_fn(give_up).build())
}

/// The error in the SDK's terms.
fn classified(error: legacy::Error) -> ConnectorError {
    let timed_out = has_cause::<TimedOut>(&error);
    let broke = error.is_connect() || has_cause::<std::io::Error>(&error);
    let error = BoxError::from(error);
    match (timed_out, broke) {
        (true, _) => ConnectorError::timeout(error),
        (false, true) => ConnectorError::io(error),
        (false, false) => ConnectorError::other(error, None),
    }
}

fn has_cause<E: StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<E>())
}
