//! Layers between the socket and the server's protocol: TLS, or another tunnel.

use std::{future::Future, io, pin::Pin, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};

use super::stream::{Layered, PendingInput, Transport, forward_write};

/// Turns an accepted connection into another kind of stream, for TLS stacks other than rustls and
/// for custom tunnels. [`Server::acceptor`](crate::Server::acceptor) takes one.
///
/// The handshake does not block the accept loop. It may take as long as the
/// [`header_timeout`](crate::Server::header_timeout). The drain waits one second for it; after
/// that, it may continue as long as other clients are being served. When a connection ends, the
/// stream's `poll_shutdown` is called, which should notify the client (in TLS, with
/// `close_notify`).
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
    /// The stream that the server's protocol runs over.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static;

    /// Performs the handshake.
    ///
    /// # Errors
    ///
    /// An error closes this connection and affects nothing else.
    fn accept(&self, transport: Transport)
    -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Returns the connection beneath a stream; the drain asks the kernel about it.
    fn transport(stream: &Self::Stream) -> &Transport;
}

pub(super) type HandshakeFuture =
    Pin<Box<dyn Future<Output = io::Result<Box<dyn Layered>>> + Send>>;

/// A type-erased acceptor.
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

/// The stream of a `Custom` acceptor; forwards every call.
struct CustomStream<A: Acceptor> {
    stream: A::Stream,
    /// How many bytes had been read from the socket when the layer last returned data. Starts at 0
    /// although the handshake has read: it may have read part of what follows.
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
    forward_write!(all => stream);
}
