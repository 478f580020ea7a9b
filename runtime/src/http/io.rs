//! The stream of a connection as hyper sees it: counts what it reads, closes without harm, and holds
//! the drain for as long as it exists, in whoever's hands.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    conn::{Conn, Half, Left},
    framing::Framing,
    held::Held,
    state::State,
};
use crate::{
    net::stream::{Received, Stream},
    phase::Phase,
};

#[derive(Debug)]
pub(crate) struct Io {
    stream: Stream,
    /// Bytes that were read to find out the protocol.
    prefix: Option<Prefix>,
    framing: Framing,
    /// Whether the peer has closed its side, or was said to have.
    ended: bool,
    wrote: bool,
    /// Dropped last: the stream is closed when the drain stops waiting for it.
    held: Held,
}

#[derive(Debug)]
struct Prefix {
    bytes: Box<[u8]>,
    taken: usize,
}

impl Io {
    pub(crate) fn new(stream: Stream, held: Held) -> Self {
        let framing = Framing::new();
        Self { stream, prefix: None, framing, ended: false, wrote: false, held }
    }

    #[inline]
    fn conn(&self) -> &Conn {
        self.held.conn()
    }

    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    /// Puts bytes back to be read first.
    pub(crate) fn set_prefix(&mut self, bytes: &[u8]) {
        self.prefix = Some(Prefix { bytes: bytes.into(), taken: 0 });
    }

    /// `bytes` of HTTP/1 have been read, or what may become that.
    #[inline]
    pub(crate) fn note_read(&mut self, bytes: &[u8]) {
        let conn = self.held.conn();
        conn.look_through(&mut self.framing);
        let brought = self.framing.read(bytes, conn.calls());
        conn.bytes_read(brought, bytes);
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Reads from the stream itself.
    pub(crate) fn poll_read_stream(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }

    /// Reads where that is more than reading HTTP/1 from the stream.
    #[inline(never)]
    fn poll_read_otherwise(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(prefix) = &mut self.prefix {
            let rest = &prefix.bytes[prefix.taken..];
            let taken = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..taken]);
            prefix.taken += taken;
            if prefix.taken == prefix.bytes.len() {
                self.prefix = None;
            }
            return Poll::Ready(Ok(()));
        }
        let state = self.conn().state();
        if state == State::Upgraded {
            self.check_upgraded(Half::Read, cx)?;
            return self.poll_read_stream(cx, buf);
        }
        let before = buf.filled().len();
        if let Poll::Ready(result) = self.poll_read_stream(cx, buf) {
            result?;
            match &buf.filled()[before..] {
                [] => self.ended = true,
                _ if state == State::Http2 => {}
                bytes => self.note_read(bytes),
            }
            return Poll::Ready(Ok(()));
        }
        if state == State::Expired && self.stream.peek() != Received::Something {
            // An end of file is how hyper is told that an idle connection is over, whatever it is at.
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// After the cut, streams that have left HTTP fail, so that their owners come to an end. Until
    /// then their reader is who the cut wakes.
    #[inline]
    fn check_upgraded(&self, half: Half, cx: &Context<'_>) -> io::Result<()> {
        if !self.conn().is(State::Upgraded) {
            return Ok(());
        }
        self.conn().register_owner(half, cx.waker());
        if self.conn().phase() >= Phase::Cut {
            let error = "cut off by the limit of the graceful shutdown";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, error));
        }
        Ok(())
    }

    /// What has to be closed with care once the protocol is over, if anything.
    fn leaves(&mut self) -> Option<Left> {
        let conn = self.held.conn();
        let phase = conn.phase();
        let state = conn.state();
        if !self.wrote || matches!(state, State::Upgraded | State::Closed) || phase >= Phase::Cut {
            return None;
        }
        conn.look_through(&mut self.framing);
        // An HTTP/2 client always has something to say: window updates, acknowledgements.
        let is_followed = state != State::Http2 && !conn.is_lost();
        let is_silent = self.ended
            || is_followed
                && self.framing.is_between()
                && self.stream.peek() != Received::Something;
        // In service the kernel sees to what is on its way. So it may where it has said that nothing is: that
        // is how a connection expires.
        let is_seen_to = phase < Phase::Stopping || state == State::Expired;
        if is_silent && is_seen_to {
            return None;
        }
        let framing = is_followed.then(|| std::mem::take(&mut self.framing));
        Some(Left { stream: self.stream.take(), framing })
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if let Some(left) = self.leaves() {
            self.held.conn().leave(left);
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix.is_some() || !this.conn().reads_http1() {
            return this.poll_read_otherwise(cx, buf);
        }
        let before = buf.filled().len();
        ready!(this.poll_read_stream(cx, buf))?;
        match buf.filled().get(before..) {
            None | Some([]) => this.ended = true,
            Some(bytes) => this.note_read(bytes),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_upgraded(Half::Write, cx)?;
        this.wrote = true;
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_upgraded(Half::Write, cx)?;
        this.wrote = true;
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written all it had. Streams of the kernel have nothing to flush.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.held.conn().flushed(&mut this.framing);
        Poll::Ready(Ok(()))
    }

    /// Shuts the write side. What else there is to a close comes when hyper has let go of this.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
