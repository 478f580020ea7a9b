//! A connection handed to the program, for any protocol.

use std::{
    fmt,
    future::Future,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    accept::{Accepted, MakeConnection},
    clock::{self, Timer},
    closing::TICK,
    conn::{ConnCore, ConnGuard, GuardedConn},
    connect_info::ConnectInfo,
    delivery::{ConnDrain, KernelView},
    guarded_io::GuardedIo,
    handshake::Preamble,
    moving::Details,
    stream::forward_write,
};
#[cfg(feature = "handover")]
use super::{
    hand_over::HandOver,
    moving::{self, Moved},
    stream::Stream,
};
use crate::{
    context::{InContext, Shutdown},
    stop::{Phase, Shared},
    work::{ConnectionState, InFlight, WorkItem, WorkKind},
};

/// A connection accepted by [`listen`](crate::listen): a stream of bytes, and its peer.
///
/// Like a request, it is accepted without loss, waited for by the drain, named in reports and cut
/// at the limit, as long as it or one of its halves ([`tokio::io::split`]) exists. After the cut,
/// reads and writes fail with [`ConnectionAborted`](io::ErrorKind::ConnectionAborted).
///
/// When it is dropped, everything written is still delivered: the write side is shut, and what the
/// client still sends is read and discarded for a while (five seconds while serving, one in the
/// drain), so that it cannot turn the close into a reset.
pub struct Connection {
    io: GuardedIo<RawConn>,
    info: ConnectInfo,
    has_read: bool,
    /// The state that the handler in the process before has left.
    #[cfg_attr(not(feature = "handover"), allow(dead_code, reason = "nothing moves without it"))]
    handed_over: Option<Vec<u8>>,
    /// What the process before has read and not used up.
    read_before: Vec<u8>,
}

impl Connection {
    fn new(io: GuardedIo<RawConn>, info: ConnectInfo, moved: Option<Box<Details>>) -> Self {
        let details = moved.map(|details| *details).unwrap_or_default();
        let Details { read, state, .. } = details;
        Self { io, info, has_read: false, handed_over: state, read_before: read }
    }

    /// Hands the connection over to the next version of the program, whose handler goes on with it
    /// and finds `state` in [`handed_over`](Self::handed_over). To be called when
    /// [`shutdown`](Self::shutdown) resolves.
    ///
    /// Bytes that have been read and not been used up, such as those in a `BufReader`, belong into
    /// `state`. Bytes that nobody has read stay with the connection.
    ///
    /// # Errors
    ///
    /// Returns the connection where it cannot move: there is no next version
    /// ([`Config::upgrade`](crate::Config::upgrade)), it has no server at this address, it is out
    /// of descriptors, there is TLS on the connection, or `state` is longer than 1 MiB. The handler
    /// then ends as in any stop.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: if the future is dropped, the connection may have moved or be closed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use graceful::Connection;
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// /// Answers each byte with the number of bytes so far, across all versions.
    /// async fn count(mut connection: Connection) -> std::io::Result<()> {
    ///     let before = connection.handed_over().and_then(|state| state.try_into().ok());
    ///     let mut count = before.map_or(0, u32::from_be_bytes);
    ///     let shutdown = connection.shutdown();
    ///     loop {
    ///         tokio::select! {
    ///             byte = connection.read_u8() => drop(byte?),
    ///             () = shutdown.clone() => {
    ///                 return match connection.hand_over(count.to_be_bytes()).await {
    ///                     Ok(()) => Ok(()),
    ///                     // A stop: goodbye.
    ///                     Err(mut connection) => connection.write_u32(u32::MAX).await,
    ///                 };
    ///             }
    ///         }
    ///         count += 1;
    ///         connection.write_u32(count).await?;
    ///     }
    /// }
    /// ```
    #[cfg(feature = "handover")]
    pub async fn hand_over(mut self, state: impl Into<Vec<u8>>) -> Result<(), Self> {
        let core = self.io.conn().core();
        if !core.listener().is_some_and(moving::gives) {
            return Err(self);
        }
        let state = state.into();
        if state.len() > moving::LONGEST_STATE {
            return Err(self);
        }
        let details = Details { state: Some(state), ..core.details(Duration::ZERO) };
        let Some(socket) = self.io.take_socket() else { return Err(self) };
        match moving::give(Moved { socket, details }).await {
            Ok(Some(socket)) => {
                // A socket that is not connected any more is over: its end is what is read.
                if let Ok((stream, _)) = Stream::of_socket(socket) {
                    self.io.put_back(stream);
                }
                Err(self)
            }
            Ok(None) => {
                self.io.conn().has_moved();
                Ok(())
            }
            // Whoever had it has ended with it: the process is over.
            Err(_) => Ok(()),
        }
    }

    /// Returns the handle by which this connection goes to the next process when it is dropped: for
    /// a WebSocket that a library has taken over, in a handler of
    /// [`Server::handed_over`](crate::Server::handed_over). To be called before the first read.
    #[must_use]
    #[cfg(feature = "handover")]
    pub fn hand_over_handle(&self) -> HandOver {
        self.io.conn().core().hand_over().clone()
    }

    /// Returns the state that the handler in the process before has passed to
    /// [`hand_over`](Self::hand_over); `None`: the connection was accepted by this process.
    #[must_use]
    #[cfg(feature = "handover")]
    pub fn handed_over(&self) -> Option<&[u8]> {
        self.handed_over.as_deref()
    }

    /// Returns the client's address, or `None` for a Unix socket.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.info.peer_addr()
    }

    /// Returns both addresses, the credentials and the TLS details.
    #[must_use]
    pub fn info(&self) -> &ConnectInfo {
        &self.info
    }

    /// Returns a future that resolves when the drain starts, or at this connection's moment of the
    /// [`spread`](crate::Config::spread), the same as
    /// [`graceful::shutdown()`](crate::shutdown()) in the handler. It suits protocols in which the
    /// server talks, such as a feed. Where the client asks and the server answers, it resolves too
    /// early: use [`idle_shutdown`](Self::idle_shutdown).
    pub fn shutdown(&self) -> Shutdown {
        let guard = self.io.guard();
        Shutdown::of_connection(guard.conn().core().shared(), guard.fraction())
    }

    /// Returns a future that resolves when this connection can be closed without loss: the drain
    /// has started, and the client has been silent for the [`linger`](crate::Config::linger), from
    /// its own point of view. For request/response protocols.
    ///
    /// A client that has just connected, or was still in the accept queue when the drain started,
    /// gets its first request answered; so does one that sends its next request before it can know
    /// about the stop. A client counts as silent when nothing has arrived since the last read and
    /// the last write, its system has acknowledged everything written, and no bytes are waiting to
    /// be read. The kernel tells how far away the client is (on Linux).
    ///
    /// Create it once, before the loop, and await it beside each read.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    ///
    /// async fn lines(connection: graceful::Connection) -> std::io::Result<()> {
    ///     let mut idle = connection.idle_shutdown();
    ///     let mut lines = BufReader::new(connection).lines();
    ///     loop {
    ///         let line = tokio::select! {
    ///             line = lines.next_line() => line?,
    ///             () = &mut idle => None,
    ///         };
    ///         let Some(line) = line else { return Ok(()) };
    ///         lines.get_mut().write_all(format!("{line}\n").as_bytes()).await?;
    ///     }
    /// }
    /// ```
    pub fn idle_shutdown(&self) -> IdleShutdown {
        let conn = self.io.guard().conn();
        // From here on, the time of each read and write is recorded.
        if !conn.is_watched.swap(true, Ordering::Relaxed) && self.has_read {
            self.note_activity(true);
        }
        IdleShutdown::new(conn.clone(), self.shutdown(), self.io.stream_ref().local_addr())
    }

    /// Records a read or a write.
    #[inline]
    fn note_activity(&self, is_read: bool) {
        let conn = self.io.conn();
        if conn.is_watched.load(Ordering::Relaxed) {
            conn.is_active(is_read);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.io.conn().is_closing.store(true, Ordering::Relaxed);
        self.io.close();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("info", &self.info).finish_non_exhaustive()
    }
}

impl AsyncRead for Connection {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.read_before.is_empty() {
            let length = this.read_before.len().min(buf.remaining());
            let read: Vec<u8> = this.read_before.drain(..length).collect();
            this.io.follow(&read);
            buf.put_slice(&read);
            return Poll::Ready(Ok(()));
        }
        let before = buf.remaining();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if buf.remaining() < before {
            this.has_read = true;
            this.note_activity(true);
        }
        read
    }
}

impl AsyncWrite for Connection {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        if written.is_ready() {
            this.note_activity(false);
        }
        written
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        if written.is_ready() {
            this.note_activity(false);
        }
        written
    }

    forward_write!(end => io);
}

// From an accepted stream to the program's handler.

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// Passes each connection to `handler`, in its own task.
pub(crate) struct RawMaker<H> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) preamble: Arc<Preamble>,
    pub(crate) handler: H,
}

impl<H, Fut> MakeConnection for RawMaker<H>
where
    H: Fn(Connection) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    fn make(&self, accepted: Accepted) {
        let Accepted { stream, peer, origin, slot, moved } = accepted;
        let mut core = ConnCore::new(&self.shared, peer, origin, slot);
        if let Some(details) = &moved {
            core.continues(details);
        }
        let guard = ConnGuard::first(RawConn::new(core));
        let (handler, preamble) = (self.handler.clone(), self.preamble.clone());
        let task = async move {
            let core = guard.conn().core();
            let stream = match &moved {
                None => preamble.handshake(core, stream, Some(HANDSHAKE)).await,
                // It was plain in the process before. Where this one wants TLS, it does not go on.
                Some(_) => preamble.acceptor.is_none().then_some(stream),
            };
            let Some(stream) = stream else { return };
            guard.conn().begins();
            let info = ConnectInfo::of(&stream, core);
            let connection = Connection::new(GuardedIo::new(stream, guard.clone()), info, moved);
            // `guard` is dropped last: everything the handler owns is gone before the drain stops
            // waiting.
            handler(connection).await;
        };
        self.shared.runtime().spawn(InContext::new(&self.shared, task));
    }
}

/// Continues a connection of the process before that has left HTTP.
#[cfg(feature = "handover")]
pub(crate) fn continued<Fut: Future<Output = ()> + Send + 'static>(
    shared: &Arc<Shared>,
    accepted: Accepted,
    handler: impl FnOnce(Connection) -> Fut,
) {
    let Accepted { stream, peer, origin, slot, moved } = accepted;
    let mut core = ConnCore::new(shared, peer, origin, slot);
    if let Some(details) = &moved {
        core.continues(details);
    }
    let guard = ConnGuard::first(RawConn::new(core));
    let info = ConnectInfo::of(&stream, guard.conn().core());
    let connection = Connection::new(GuardedIo::new(stream, guard.clone()), info, moved);
    let handling = handler(connection);
    shared.runtime().spawn(InContext::new(shared, async move {
        handling.await;
        drop(guard);
    }));
}

// A connection of `listen`, as the table of work sees it.

#[derive(Debug)]
pub(super) struct RawConn {
    core: ConnCore,
    pub(super) is_closing: AtomicBool,
    /// Whether an `IdleShutdown` needs activity to be recorded.
    pub(super) is_watched: AtomicBool,
    /// When something was last read or written, by `clock`; recorded only while watched.
    active: AtomicU64,
    has_read: AtomicBool,
    /// Whether it has gone to the next process.
    has_moved: AtomicBool,
}

impl RawConn {
    pub(super) fn new(core: ConnCore) -> Self {
        Self {
            active: AtomicU64::new(core.accepted_on_the_clock()),
            core,
            is_closing: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            has_read: AtomicBool::new(false),
            has_moved: AtomicBool::new(false),
        }
    }

    /// Called when the handshake is over: the connection now counts as just accepted.
    pub(super) fn begins(&self) {
        self.active.store(clock::now(), Ordering::Relaxed);
    }

    /// Records a read or a write.
    pub(super) fn is_active(&self, is_read: bool) {
        if is_read {
            self.has_read.store(true, Ordering::Relaxed);
        }
        self.active.store(clock::now(), Ordering::Relaxed);
    }

    /// When something was last read or written.
    pub(super) fn active(&self) -> Instant {
        clock::instant(self.active.load(Ordering::Relaxed))
    }

    pub(super) fn has_read(&self) -> bool {
        self.has_read.load(Ordering::Relaxed)
    }

    fn state(&self) -> ConnectionState {
        match self.core.unread() {
            _ if self.core.is_late() => ConnectionState::Nothing,
            _ if self.core.is_in_handshake() => ConnectionState::Handshake,
            _ if !self.is_closing.load(Ordering::Relaxed) => ConnectionState::Handling,
            Some(bytes) => ConnectionState::Delivering(bytes),
            None if self.core.is_sending() => ConnectionState::Closing,
            None => ConnectionState::Nothing,
        }
    }
}

impl GuardedConn for RawConn {
    fn core(&self) -> &ConnCore {
        &self.core
    }

    fn closed(&self) {
        if !self.is_drained() {
            return;
        }
        let work = &self.core.shared().work;
        work.piece_finished(|| self.core.in_words(Instant::now(), ConnectionState::Handling));
    }

    fn has_moved(&self) {
        self.has_moved.store(true, Ordering::Relaxed);
        self.core.shared().work.piece_moved();
    }
}

impl WorkItem for RawConn {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        out.push(self.core.in_words(now, self.state()));
    }

    fn oldest(&self) -> Option<Instant> {
        (self.state() != ConnectionState::Nothing).then(|| self.core.accepted_at())
    }

    fn context(&self) -> Option<usize> {
        Some(self.core.shared().address())
    }

    fn kind(&self) -> WorkKind {
        WorkKind::Connection
    }

    fn drain(&self) {
        self.core.wake();
    }

    fn cut(&self) {
        self.core.wake_all();
    }

    fn is_drained(&self) -> bool {
        !self.has_moved.load(Ordering::Relaxed)
    }

    fn has_ended(&self) -> bool {
        // We cannot tell whether the cut or its handler ended it.
        false
    }
}

// When a connection of `listen` can be closed: the drain has begun, and the client has nothing on
// the way.

/// How long the rest of a partially read record may take.
const PARTIAL_GRACE: Duration = Duration::from_secs(1);

/// A future that resolves once the drain has started and the client has been silent for the
/// `linger`. Created by [`Connection::idle_shutdown`](crate::Connection::idle_shutdown).
///
/// It is `'static` and `Unpin`, and may be polled again after it has resolved.
///
/// # Cancel safety
///
/// Cancel safe: dropping it loses nothing.
#[must_use = "futures do nothing unless polled"]
pub struct IdleShutdown {
    conn: Arc<RawConn>,
    /// The local address, used to look up the connection in the kernel.
    local: Option<SocketAddr>,
    shutdown: Shutdown,
    drain: Option<ConnDrain>,
    timer: Timer,
    /// When the reader was asked to look once more, and the latest activity at that time.
    last_look: Option<(Instant, Instant)>,
}

impl IdleShutdown {
    pub(super) fn new(conn: Arc<RawConn>, shutdown: Shutdown, local: Option<SocketAddr>) -> Self {
        Self { conn, local, shutdown, drain: None, timer: Timer::default(), last_look: None }
    }

    /// Returns the kernel's view of the connection; asks if there is none.
    fn view(&mut self, active: Instant, now: Instant) -> KernelView {
        let (core, local) = (self.conn.core(), self.local);
        let drain = self.drain.get_or_insert_with(|| ConnDrain::new(now));
        match drain.view {
            Some(view) => view,
            None => drain.ask(core, active, false, || local),
        }
    }

    /// Discards the view, so that the next query concerns this connection alone and is up to date.
    fn forget_view(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.closes(self.local);
        }
    }

    /// When the client will have been silent long enough, from its own point of view.
    fn deadline(&self, active: Instant, view: &KernelView) -> Instant {
        let linger = self.conn.core().shared().limits.linger;
        let silent = if self.conn.has_read() {
            let seen = [Some(active + view.round_trip), view.last_ack, view.last_unread];
            seen.into_iter().flatten().max().unwrap_or(active) + linger
        } else {
            // Plus the round trips of a TLS handshake.
            active + linger + 2 * view.round_trip
        };
        let partial = self.conn.core().partial_since().map(|since| since + PARTIAL_GRACE);
        partial.map_or(silent, |partial| partial.max(silent))
    }
}

impl Future for IdleShutdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(Pin::new(&mut self.shutdown).poll(cx));
        let this = &mut *self;
        let mut has_asked = false;
        loop {
            if this.conn.core().phase() >= Phase::Cut {
                return Poll::Ready(());
            }
            let (active, now) = (this.conn.active(), Instant::now());
            let view = this.view(active, now);
            let deadline = if view.is_open() || view.unread {
                view.at + view.round_trip.max(TICK)
            } else {
                this.deadline(active, &view)
            };
            if !this.timer.has_passed(deadline, cx) {
                return Poll::Pending;
            }
            // Something may have arrived or been acknowledged since the kernel was asked. Ask only
            // once more: a paused clock (`tokio::time::pause`) runs ahead of the kernel's.
            if view.at < deadline && !has_asked {
                has_asked = true;
                this.forget_view();
                continue;
            }
            // The kernel cannot tell for every socket whether something has arrived; let the reader
            // find out.
            match this.last_look {
                Some((asked, before)) if before == active => {
                    if this.timer.has_passed(asked + TICK, cx) {
                        return Poll::Ready(());
                    }
                }
                Some(_) | None => {
                    this.last_look = Some((now, active));
                    has_asked = false;
                    this.forget_view();
                    this.conn.core().wake_all();
                    if this.timer.has_passed(now + TICK, cx) {
                        continue;
                    }
                }
            }
            return Poll::Pending;
        }
    }
}

impl Clone for IdleShutdown {
    fn clone(&self) -> Self {
        Self::new(self.conn.clone(), self.shutdown.clone(), self.local)
    }
}

impl fmt::Debug for IdleShutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleShutdown").field("shutdown", &self.shutdown).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Connection;

    #[test]
    fn a_connection_goes_wherever_a_tcp_stream_goes() {
        fn check<T: Send + Sync + Unpin + 'static>() {}
        check::<tokio::net::TcpStream>();
        check::<Connection>();
        check::<super::IdleShutdown>();
    }
}
