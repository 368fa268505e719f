//! One connection: straight to the server, or through a proxy, with TLS where that is asked.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::proxy::{self, ProxyFailure};
use super::trust::Tls;
use crate::config::{Proxies, Proxy};

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: Arc<Tls>,
    proxies: Arc<Proxies>,
    limit: Option<Duration>,
}

impl Connector {
    /// `limit` is for one connection, with all that has to be said before it can be used.
    pub(super) fn new(tls: Arc<Tls>, proxies: Arc<Proxies>, limit: Option<Duration>) -> Connector {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Connector { tcp, tls, proxies, limit }
    }

    async fn open(mut self, uri: Uri) -> Result<Stream, BoxError> {
        let tls = uri.scheme_str() == Some("https");
        let host = uri.host().ok_or("the address names no host")?.to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let proxies = Arc::clone(&self.proxies);
        let Some(proxy) = proxies.on_the_way(tls, &host, port) else {
            let stream = self.reach(uri).await?;
            return match tls {
                true => self.greet(stream, &host).await,
                false => Ok(stream),
            };
        };
        let mut stream = self.reach_proxy(proxy).await?;
        if !tls {
            // The proxy reads the request itself.
            return Ok(Stream { proxied: true, ..stream });
        }
        proxy::tunnel(&mut stream, proxy, &host, port).await?;
        self.greet(stream, &host).await
    }

    async fn reach(&mut self, uri: Uri) -> Result<Stream, BoxError> {
        let stream = self.tcp.call(uri).await?;
        Ok(Stream { io: Box::new(stream.into_inner()), proxied: false })
    }

    async fn reach_proxy(&mut self, proxy: &Proxy) -> Result<Stream, BoxError> {
        let reach = async {
            let stream = self.reach(proxy.url().parse()?).await?;
            match proxy.tls {
                true => self.greet(stream, &proxy.host).await,
                false => Ok(stream),
            }
        };
        reach.await.map_err(|error: BoxError| ProxyFailure::unreachable(proxy, &*error).into())
    }

    /// Begins TLS with the server called `host`.
    async fn greet(&self, stream: Stream, host: &str) -> Result<Stream, BoxError> {
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name)?;
        let config = self.tls.config().map_err(|error| error.message().to_owned())?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(Stream { io: Box::new(stream), proxied: false })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (open, limit) = (self.clone().open(uri), self.limit);
        Box::pin(async move {
            let stream = match limit {
                None => open.await?,
                Some(limit) => tokio::time::timeout(limit, open)
                    .await
                    .map_err(|_| TimedOut::connection(limit))??,
            };
            Ok(TokioIo::new(stream))
        })
    }
}

/// Nothing came in time.
#[derive(Debug)]
pub(super) struct TimedOut {
    what: &'static str,
    limit: Duration,
}

impl TimedOut {
    fn connection(limit: Duration) -> TimedOut {
        TimedOut { what: "connection", limit }
    }

    pub(super) fn answer(limit: Duration) -> TimedOut {
        TimedOut { what: "answer", limit }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {} within {} s", self.what, self.limit.as_secs_f32())
    }
}

impl std::error::Error for TimedOut {}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection, whatever it goes through.
pub(super) struct Stream {
    io: Box<dyn Duplex>,
    /// Whether a proxy reads what is sent.
    proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
