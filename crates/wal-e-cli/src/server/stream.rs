//! The bytes between this program and a server, encrypted or not.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::authentication::Startup;

/// A connection as the operating system or TLS has it.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection to a server, whose first words are watched.
pub struct ServerStream {
    transport: Box<dyn Transport>,
    /// The hash of the server's certificate, of a connection that is encrypted.
    certificate_hash: Option<Vec<u8>>,
    startup: Option<Startup>,
}

impl ServerStream {
    /// A connection that has not said anything but what encryption needs.
    pub fn new(
        transport: Box<dyn Transport>,
        certificate_hash: Option<Vec<u8>>,
        startup: Option<Startup>,
    ) -> Self {
        ServerStream { transport, certificate_hash, startup }
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.transport).poll_read(context, buffer);
        if let (Poll::Ready(Ok(())), Some(startup)) = (&read, &mut self.startup)
            && let Err(error) = startup.see(&buffer.filled()[before..])
        {
            buffer.set_filled(before);
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }
}

impl TlsStream for ServerStream {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.certificate_hash {
            Some(hash) => ChannelBinding::tls_server_end_point(hash.clone()),
            None => ChannelBinding::none(),
        }
    }
}

/// What tokio-postgres is given for TLS. Whether a connection is encrypted was decided
/// before, so there is nothing left to do; it learns the hash of the certificate this way.
pub struct AlreadyDone;

impl TlsConnect<ServerStream> for AlreadyDone {
    type Stream = ServerStream;
    type Error = Infallible;
    type Future = Ready<Result<ServerStream, Infallible>>;

    fn connect(self, stream: ServerStream) -> Self::Future {
        ready(Ok(stream))
    }
}
