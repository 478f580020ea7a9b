//! Layers between the socket and the server's protocol: TLS, or another tunnel.

use std::{future::Future, io, pin::Pin, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};

use super::stream::{Layered, PendingInput, Transport};

/// Turns an accepted connection into a stream of another kind: for TLS stacks other than rustls,
/// and for tunnels of your own. [`Server::acceptor`](crate::Server::acceptor) takes one.
///
/// The handshake does not hold up the accept loop. It may take as long as the
/// [`header_timeout`](crate::Server::header_timeout). The drain waits a second for it; after that it
/// goes on for as long as other clients are served. At the end of a connection the stream's
/// `poll_shutdown` is called, which should say so to the client (in TLS, by `close_notify`).
///
/// # Examples
///
/// A tunnel that begins with one byte:
///
/// ```no_run
/// use std::io;
///
/// use graceful::{Acceptor, Transport};
/// use tokio::io::AsyncReadExt;
///
/// struct Knock;
///
/// impl Acceptor for Knock {
///     type Stream = Transport;
///
///     async fn accept(&self, mut transport: Transport) -> io::Result<Transport> {
///         match transport.read_u8().await? {
///             b'!' => Ok(transport),
///             _ => Err(io::ErrorKind::InvalidData.into()),
///         }
///     }
///
///     fn transport(stream: &Transport) -> &Transport {
///         stream
///     }
/// }
///
/// # let app = axum::Router::new();
/// let server = graceful::serve("127.0.0.1:8080", app).acceptor(Knock);
/// ```
pub trait Acceptor: Send + Sync + 'static {
    /// The stream that the server speaks over.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static;

    /// Shakes hands.
    ///
    /// # Errors
    ///
    /// Cost the connection, and nothing else.
    fn accept(&self, transport: Transport)
    -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// The connection below a stream: the kernel is asked about it during the drain.
    fn transport(stream: &Self::Stream) -> &Transport;
}

pub(super) type HandshakeFuture =
    Pin<Box<dyn Future<Output = io::Result<Box<dyn Layered>>> + Send>>;

/// An acceptor, of whichever type.
pub(crate) trait AnyAcceptor: Send + Sync {
    fn accept(self: Arc<Self>, transport: Transport) -> HandshakeFuture;
}

/// A user's acceptor.
pub(crate) struct Custom<A>(pub(crate) A);

impl<A: Acceptor> AnyAcceptor for Custom<A> {
    fn accept(self: Arc<Self>, transport: Transport) -> HandshakeFuture {
        Box::pin(async move {
            let stream = self.0.accept(transport).await?;
            Ok(Box::new(CustomStream::<A> { stream, handed_on: 0 }) as Box<dyn Layered>)
        })
    }
}

/// Its stream: forwards all of it.
struct CustomStream<A: Acceptor> {
    stream: A::Stream,
    /// How much had been read from the socket when something was last handed on. Nothing has been
    /// to begin with, although the handshake has read: it may have read a part of what follows.
    handed_on: u64,
}

impl<A: Acceptor> Layered for CustomStream<A> {
    fn transport(&self) -> &Transport {
        A::transport(&self.stream)
    }

    fn pending_input(&self) -> PendingInput {
        if self.transport().bytes_read() > self.handed_on {
            PendingInput::Unknown
        } else {
            PendingInput::Nothing
        }
    }
}

impl<A: Acceptor> AsyncRead for CustomStream<A> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.handed_on = this.transport().bytes_read();
        }
        read
    }
}

impl<A: Acceptor> AsyncWrite for CustomStream<A> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> std::task::Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
