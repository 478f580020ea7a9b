//! What comes before the protocol of a server: the PROXY header, then TLS or another layer.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{clock::Timer, conn::ConnCore, stream::Stream, stream::Transport};
use crate::{
    stop::{Phase, Shared},
    util::race,
};

/// For how long a handshake holds the drain once that has started.
const GRACE: Duration = Duration::from_secs(1);

/// How often it is looked whether clients are still served, while one is late.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Runs what comes before the protocol, within `limit` from the accept. Once the drain has started, that
/// waits for it for a second; after that it goes on for as long as other clients are served. `None`: the
/// connection has come to nothing.
pub(crate) async fn before_protocol<T>(
    core: &ConnCore,
    limit: Option<Duration>,
    shaking: impl Future<Output = Option<T>>,
) -> Option<T> {
    core.set_shaking(true);
    let mut shaking = pin!(shaking);
    let mut timer = Timer::default();
    let mut not_awaited = None;
    let shaken = poll_fn(|cx| {
        // Before the look, so that no change slips in between.
        core.register(cx.waker());
        if core.phase() >= Phase::Cut {
            return Poll::Ready(None);
        }
        if let Poll::Ready(shaken) = shaking.as_mut().poll(cx) {
            return Poll::Ready(shaken);
        }
        let accepted = core.accepted_at();
        let draining = core.shared().drain_started.get();
        let grace = draining.map(|&draining: &Instant| draining.max(accepted) + GRACE);
        if not_awaited.is_none() && grace.is_some_and(|grace| timer.has_passed(grace, cx)) {
            core.set_late(true);
            not_awaited = Some(core.shared().work.not_awaited());
            watch_late(core.shared());
        }
        if not_awaited.is_some() && core.shared().work.has_ended_late() {
            return Poll::Ready(None);
        }
        match limit.map(|limit| accepted + limit) {
            Some(deadline) if timer.has_passed(deadline, cx) => Poll::Ready(None),
            Some(_) | None => Poll::Pending,
        }
    })
    .await;
    core.set_shaking(false);
    if not_awaited.take().is_some() {
        if core.phase() >= Phase::Cleanup {
            return None;
        }
        core.set_late(false);
    }
    shaken
}

/// Has what is late end once nobody is served. Until then it has the service, and whoever waits for the
/// end of that, as the receiver of a channel does whose sender is its, waits for a client that may never
/// come.
fn watch_late(shared: &Arc<Shared>) {
    if !shared.work.begins_to_be_late() {
        return;
    }
    let watched = shared.clone();
    shared.spawn_quietly(async move {
        race(watched.phase.reached(Phase::Cut), nobody_is_served(&watched)).await;
        watched.work.end_late();
    });
}

/// Resolves when no connection is left but those that are late.
pub(super) async fn nobody_is_served(shared: &Shared) {
    while shared.work.is_serving() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What the connections of a server begin with.
#[derive(Clone, Default)]
pub(crate) struct Preamble {
    #[cfg(feature = "proxy-protocol")]
    pub(crate) proxy_protocol: bool,
    pub(crate) acceptor: Option<Arc<dyn AnyAcceptor>>,
}

impl Preamble {
    /// Whether there is nothing to wait for.
    pub(crate) fn is_empty(&self) -> bool {
        #[cfg(feature = "proxy-protocol")]
        if self.proxy_protocol {
            return false;
        }
        self.acceptor.is_none()
    }

    /// Shakes hands, as `before_protocol` bounds it. `None`: the connection has come to nothing.
    pub(crate) async fn shake(
        &self,
        core: &ConnCore,
        stream: Stream,
        limit: Option<Duration>,
    ) -> Option<Stream> {
        let transport = match stream {
            Stream::Plain(transport) if !self.is_empty() => transport,
            stream => return Some(stream),
        };
        before_protocol(core, limit, self.shake_unbounded(core, transport)).await
    }

    #[cfg_attr(not(feature = "proxy-protocol"), allow(unused_mut, unused_variables))]
    async fn shake_unbounded(&self, core: &ConnCore, mut transport: Transport) -> Option<Stream> {
        #[cfg(feature = "proxy-protocol")]
        if self.proxy_protocol
            && let Some(ends) = super::proxy_header::read(&mut transport).await.ok()?
        {
            core.set_ends(ends);
        }
        match &self.acceptor {
            None => Some(Stream::Plain(transport)),
            // How a handshake fails is the client's affair: port scanners, old browsers.
            Some(acceptor) => acceptor.clone().accept(transport).await.ok().map(Stream::Layered),
        }
    }
}

impl std::fmt::Debug for Preamble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preamble")
            .field("acceptor", &self.acceptor.is_some())
            .finish_non_exhaustive()
    }
}

// What is spoken over a socket before the protocol of the server: TLS, or another tunnel.

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

/// What a layer has read and not yet handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PendingInput {
    /// Nothing, or what the layer has used up itself.
    Nothing,
    /// A part of a record: the rest of it has yet to come.
    PartOfRecord,
    /// Bytes of which only the layer knows what they are.
    Unknown,
}

/// A stream over a socket, of whichever type.
pub(crate) trait Layered: AsyncRead + AsyncWrite + Unpin + Send + Sync {
    fn transport(&self) -> &Transport;

    fn pending_input(&self) -> PendingInput;

    #[cfg(feature = "tls")]
    fn tls_info(&self) -> Option<super::tls::TlsInfo> {
        None
    }
}

impl fmt::Debug for dyn Layered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered").field("transport", self.transport()).finish()
    }
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
    /// How much had been read from the socket when something was last handed on. Nothing has been to
    /// begin with, although the handshake has read: it may have read a part of what follows.
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
