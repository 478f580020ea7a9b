//! A connection in the hands of the program: any protocol.

use std::{
    fmt,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    conn::GuardedConn, connect_info::ConnectInfo, guarded_io::GuardedIo,
    idle_shutdown::IdleShutdown, raw_conn::RawConn,
};
use crate::context::{Handle, Shutdown};

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
    has_read: bool,
}

impl Connection {
    pub(super) fn new(io: GuardedIo<RawConn>, info: ConnectInfo) -> Self {
        Self { io, info, has_read: false }
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

    /// A future that resolves when the drain starts: the same as
    /// [`graceful::shutdown()`](crate::shutdown()) in the handler. For a protocol in which the server
    /// speaks, such as a feed. Where the client asks and the server answers, it comes too early: see
    /// [`idle_shutdown`](Self::idle_shutdown).
    pub fn shutdown(&self) -> Shutdown {
        Handle::of(self.io.conn().core().shared()).shutdown()
    }

    /// A future that resolves when this connection may go without a loss: the drain has started, and
    /// the client has been silent for the [`linger`](crate::Config::linger), as it sees it. For
    /// protocols of request and reply.
    ///
    /// A client that has just connected, or that was still in the accept queue when the drain started,
    /// has its first request answered; so has one that sends the next before it can know of the stop.
    /// Silent is a client of which nothing has come since the last read and the last write, whose
    /// system has acknowledged all that was written, and of which no bytes wait to be read. How far
    /// away it is is asked of the kernel (on Linux).
    ///
    /// Make it once, before the loop, and await it beside each read.
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
        // From here on the time of each read and write is noted.
        if !conn.is_watched.swap(true, Ordering::Relaxed) && self.has_read {
            self.note_activity(true);
        }
        IdleShutdown::new(conn.clone(), self.io.stream_ref().local_addr())
    }

    /// Something has been read, or written.
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
