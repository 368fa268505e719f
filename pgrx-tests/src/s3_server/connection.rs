//! From a socket to the S3 service, and the log of requests.

use std::io;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::service::S3Service;
use s3s::{HttpResponse, StdError};
use tokio::net::TcpListener;

use super::Shared;
use super::dialect::Asked;

/// A request and how it was answered.
#[derive(Debug, Clone)]
pub struct RequestSeen {
    /// `GET`, `PUT`, ...
    pub method: String,
    /// The bucket.
    pub bucket: String,
    /// The key as it stood in the URL; empty for requests about a bucket.
    pub key: String,
    /// The query as it stood in the URL; empty when there was none.
    pub query: String,
    /// Headers without the signature.
    pub headers: HeaderMap,
    /// HTTP status of the answer.
    pub status: u16,
}

impl RequestSeen {
    /// The value of a header, if it was sent as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Serves connections until the listener fails.
pub(super) async fn accept(listener: TcpListener, service: S3Service, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (service, shared) = (service.clone(), Arc::clone(&shared));
        let answer = service_fn(move |request| {
            let (service, shared) = (service.clone(), Arc::clone(&shared));
            async move { answer(request, &service, &shared).await }
        });
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            // It fails when a client goes away in the middle, which is the client's right.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    service: &S3Service,
    shared: &Shared,
) -> io::Result<HttpResponse> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let signed_headers = parts.headers.clone();
    let mut headers = signed_headers.clone();
    headers.remove(hyper::header::AUTHORIZATION);
    let mut seen = RequestSeen {
        method: parts.method.to_string(),
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        query: parts.uri.query().unwrap_or("").to_owned(),
        headers,
        status: 0,
    };
    // The body is read before any answer: a client that is refused while it still
    // sends would see a reset instead of the reason.
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let method = parts.method.clone();
    let asked =
        Asked { method: &method, key: &seen.key, query: &seen.query, headers: &signed_headers };
    let response = match shared.dialect.answer(&asked, None) {
        Some(refusal) => refusal,
        None => {
            let request = hyper::Request::from_parts(parts, s3s::Body::from(body));
            let response = service.call(request).await;
            let response = response.map_err(|error| io::Error::other(StdError::from(error)))?;
            shared.dialect.answer(&asked, Some(response.status())).unwrap_or(response)
        }
    };
    seen.status = response.status().as_u16();
    shared.requests().push(seen);
    Ok(response)
}
