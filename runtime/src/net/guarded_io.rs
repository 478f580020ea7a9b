//! A stream that is in the hands of the program: a connection that has left HTTP.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    conn::{GuardedConn, Half},
    guard::ConnGuard,
    stream::Stream,
};
use crate::stop::Phase;

/// A stream and the guard of its connection. The drain waits for as long as this exists; after the
/// cut it fails, so that its owner comes to an end.
#[derive(Debug)]
pub(crate) struct GuardedIo<C: GuardedConn> {
    stream: Stream,
    /// Dropped last: the stream is closed when the drain stops waiting for it.
    guard: ConnGuard<C>,
}

impl<C: GuardedConn> GuardedIo<C> {
    pub(crate) fn new(stream: Stream, guard: ConnGuard<C>) -> Self {
        Self { stream, guard }
    }

    #[inline]
    pub(crate) fn guard(&self) -> &ConnGuard<C> {
        &self.guard
    }

    #[inline]
    pub(crate) fn conn(&self) -> &C {
        self.guard.conn()
    }

    /// The stream itself, for a protocol of our own, which watches the phase by itself.
    #[inline]
    pub(crate) fn stream(&mut self) -> Pin<&mut Stream> {
        Pin::new(&mut self.stream)
    }

    #[inline]
    pub(crate) fn stream_ref(&self) -> &Stream {
        &self.stream
    }

    /// Takes the stream out and leaves its end behind.
    pub(crate) fn take_stream(&mut self) -> Stream {
        self.stream.take()
    }

    /// Fails after the cut; before it, has the cut wake the task.
    #[inline]
    fn check_cut(&self, half: Half, cx: &Context<'_>) -> io::Result<()> {
        let core = self.conn().core();
        // Before the look, so that no cut slips in between.
        core.register_owner(half, cx.waker());
        if core.phase() >= Phase::Cut {
            let error = "cut off by the limit of the graceful shutdown";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, error));
        }
        Ok(())
    }
}

impl<C: GuardedConn> AsyncRead for GuardedIo<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_cut(Half::Read, cx)?;
        self.get_mut().stream().poll_read(cx, buf)
    }
}

impl<C: GuardedConn> AsyncWrite for GuardedIo<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_cut(Half::Write, cx)?;
        self.get_mut().stream().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_cut(Half::Write, cx)?;
        self.get_mut().stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Streams of the kernel have nothing to flush.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream().poll_shutdown(cx)
    }
}
