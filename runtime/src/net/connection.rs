//! A connection in the hands of the program: any protocol.

use std::{
    any::Any,
    fmt,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    conn::{ConnCore, GuardedConn},
    connect_info::ConnectInfo,
    guarded_io::GuardedIo,
};
use crate::{
    context::{Handle, Shutdown},
    work::{Doing, InFlight, WorkItem, WorkKind},
};

/// A connection of [`listen`](crate::listen): a stream of bytes, and who it is with.
///
/// It is accepted without loss, waited for by the drain, named in reports and cut by the limit, as
/// a request is: for as long as it, or a half of it ([`tokio::io::split`]), exists. After the cut
/// reading and writing fail with [`ConnectionAborted`](io::ErrorKind::ConnectionAborted).
///
/// When it is dropped, what has been written is still delivered: the write side is shut, and what
/// the client still sends is read and dropped for a while (for five seconds in service, for one in
/// the drain), so that it cannot turn the close into a reset.
pub struct Connection {
    io: GuardedIo<RawConn>,
    info: ConnectInfo,
    /// Dropped with the first byte that is read.
    until_read: Option<Box<dyn Any + Send + Sync>>,
}

impl Connection {
    pub(super) fn new(io: GuardedIo<RawConn>, info: ConnectInfo) -> Self {
        Self { io, info, until_read: None }
    }

    /// Has `value` dropped when something has been read, or with the connection.
    pub(crate) fn hold_until_read(&mut self, value: impl Any + Send + Sync) {
        self.until_read = Some(Box::new(value));
    }

    /// The client's address; `None`: it came over a Unix socket.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.info.peer_addr()
    }

    /// Both ends, credentials, TLS.
    #[must_use]
    pub fn info(&self) -> &ConnectInfo {
        &self.info
    }

    /// A future that resolves when the drain starts: time to come to an end. The same as
    /// [`graceful::shutdown()`](crate::shutdown()) in the handler.
    pub fn shutdown(&self) -> Shutdown {
        Handle::of(self.io.conn().core().shared()).shutdown()
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
        let before = buf.remaining();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if this.until_read.is_some() && buf.remaining() < before {
            this.until_read = None;
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
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// A `Connection`, as the table of work sees it.
#[derive(Debug)]
pub(super) struct RawConn {
    core: ConnCore,
    is_closing: AtomicBool,
}

impl RawConn {
    pub(super) fn new(core: ConnCore) -> Self {
        Self { core, is_closing: AtomicBool::new(false) }
    }

    fn doing(&self) -> Doing {
        match self.core.unread() {
            _ if self.core.is_shaking() => Doing::Handshake,
            _ if !self.is_closing.load(Ordering::Relaxed) => Doing::Handling,
            Some(bytes) => Doing::Delivering(bytes),
            None if self.core.is_sending() => Doing::Closing,
            None => Doing::Nothing,
        }
    }
}

impl GuardedConn for RawConn {
    fn core(&self) -> &ConnCore {
        &self.core
    }

    fn closed(&self) {
        let work = &self.core.shared().work;
        work.piece_finished(|| self.core.in_words(Instant::now(), Doing::Handling));
    }
}

impl WorkItem for RawConn {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        out.push(self.core.in_words(now, self.doing()));
    }

    fn oldest(&self) -> Option<Instant> {
        (self.doing() != Doing::Nothing).then(|| self.core.accepted_at())
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

    fn has_ended(&self) -> bool {
        // The cut ends it, or its handler has: that is not known apart.
        false
    }
}
