//! The stream of a connection as hyper sees it: follows what is read and written, and knows with
//! how much care it has to be closed.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
#[cfg(feature = "http2")]
use tokio::sync::oneshot;

#[cfg(feature = "http2")]
use super::h2::Wire;
use super::{conn::HttpConn, framing::Framing, state::ConnState};
use crate::{
    net::{Closing, ConnGuard, GuardedConn as _, GuardedIo, PendingInput, Received, Stream},
    stop::Phase,
};

#[derive(Debug)]
pub(super) struct Io {
    /// Bytes that were read to find out the protocol.
    prefix: Option<Prefix>,
    framing: Framing,
    /// Whether the peer has closed its side, or was said to have.
    ended: bool,
    wrote: bool,
    /// The frames, once the connection speaks HTTP/2.
    #[cfg(feature = "http2")]
    wire: Option<Box<Wire>>,
    /// Where not all that is written is part of an answer: by TLS, or for HTTP/2.
    overhead: Option<Overhead>,
    /// Where the stream goes when hyper drops it, once the connection speaks HTTP/2.
    #[cfg(feature = "http2")]
    returns: Option<oneshot::Sender<Closing<Framing>>>,
    /// Dropped last, with the guard in it.
    guarded: GuardedIo<HttpConn>,
}

/// In bytes that the socket has taken.
#[derive(Debug, Default)]
struct Overhead {
    /// All of HTTP/2, without a layer: a layer counts by itself.
    written: u64,
    /// When all was answered that there was.
    answered: u64,
    /// Since then, when that was last said.
    goodbye: u64,
}

#[derive(Debug)]
struct Prefix {
    bytes: Box<[u8]>,
    taken: usize,
}

impl Io {
    pub(super) fn new(stream: Stream, guard: ConnGuard<HttpConn>) -> Self {
        let (framing, guarded) = (Framing::new(), GuardedIo::new(stream, guard));
        let mut this = Self {
            prefix: None,
            framing,
            ended: false,
            wrote: false,
            #[cfg(feature = "http2")]
            wire: None,
            overhead: guarded.stream_ref().is_layered().then(Overhead::default),
            #[cfg(feature = "http2")]
            returns: None,
            guarded,
        };
        // Bytes of the TLS handshake, such as session tickets, are no answer.
        this.note_goodbye();
        this
    }

    /// All is answered that there is: what has been written so far was needed for that.
    fn note_answers(&mut self) {
        let by_layer = self.stream().bytes_written();
        if let Some(overhead) = &mut self.overhead {
            overhead.answered = overhead.written + by_layer;
        }
    }

    /// Bytes written since the last answer are not part of one.
    fn note_goodbye(&mut self) {
        let by_layer = self.stream().bytes_written();
        let Some(overhead) = &mut self.overhead else {
            return;
        };
        let goodbye = overhead.written + by_layer - overhead.answered;
        if std::mem::replace(&mut overhead.goodbye, goodbye) != goodbye {
            self.conn().core().set_goodbye(goodbye);
        }
    }

    /// The preface has been read: from here on frames pass. The stream, when hyper drops it, comes
    /// out of what this returns, unless it may be dropped as well.
    #[cfg(feature = "http2")]
    pub(super) fn speak_http2(&mut self) -> oneshot::Receiver<Closing<Framing>> {
        let mut wire = Box::new(Wire::new());
        if let Some(prefix) = &self.prefix {
            wire.read(&prefix.bytes);
        }
        self.wire = Some(wire);
        self.overhead.get_or_insert_default();
        self.note_input();
        let (returns, returned) = oneshot::channel();
        self.returns = Some(returns);
        returned
    }

    /// Whether half a frame has been read, or half a record below it.
    fn note_input(&self) {
        let input = self.stream().pending_input();
        #[cfg(feature = "http2")]
        let input = match &self.wire {
            Some(wire) if wire.is_inside() => PendingInput::PartOfRecord,
            Some(_) | None => input,
        };
        self.conn().core().note_input(input);
    }

    /// Flushes what lies above the socket, and finds out what of that was an answer.
    #[inline(never)]
    fn poll_flush_overhead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.guarded.stream().poll_flush(cx))?;
        #[cfg(feature = "http2")]
        if let Some(wire) = &mut self.wire {
            let (answered, open) = (wire.take_answered(), wire.open());
            if answered {
                self.note_answers();
            }
            self.note_goodbye();
            self.conn().set_open_streams(open);
            return Poll::Ready(Ok(()));
        }
        self.note_answers();
        self.note_goodbye();
        Poll::Ready(Ok(()))
    }

    #[cfg(not(feature = "http2"))]
    #[allow(clippy::unused_self, reason = "as with the feature")]
    fn note_written(&mut self, _: &Poll<io::Result<usize>>, _: &[IoSlice<'_>]) {}

    /// So many bytes of `bufs` have been written.
    #[cfg(feature = "http2")]
    #[inline]
    fn note_written(&mut self, written: &Poll<io::Result<usize>>, bufs: &[IoSlice<'_>]) {
        if let (Some(wire), Poll::Ready(Ok(count))) = (&mut self.wire, written) {
            let mut left = *count;
            if let Some(overhead) = &mut self.overhead
                && !self.guarded.stream_ref().is_layered()
            {
                overhead.written += left as u64;
            }
            for buf in bufs {
                let taken = left.min(buf.len());
                wire.write(&buf[..taken]);
                left -= taken;
            }
            // Bytes written before an answer may be needed for it.
            if wire.has_answered()
                && let Some(overhead) = &mut self.overhead
                && std::mem::take(&mut overhead.goodbye) > 0
            {
                self.guarded.conn().core().set_goodbye(0);
            }
        }
    }

    #[inline]
    fn conn(&self) -> &HttpConn {
        self.guarded.conn()
    }

    pub(super) fn guard(&self) -> &ConnGuard<HttpConn> {
        self.guarded.guard()
    }

    /// Puts bytes back to be read first.
    pub(super) fn set_prefix(&mut self, bytes: &[u8]) {
        self.prefix = Some(Prefix { bytes: bytes.into(), taken: 0 });
    }

    /// `bytes` of HTTP/1 have been read, or what may become that.
    #[inline]
    pub(super) fn note_read(&mut self, bytes: &[u8]) {
        let conn = self.guarded.conn();
        conn.look_through(&mut self.framing);
        let summary = self.framing.read(bytes, conn.calls());
        conn.bytes_read(summary, bytes);
    }

    pub(super) fn stream(&self) -> &Stream {
        self.guarded.stream_ref()
    }

    /// Reads from the stream itself.
    pub(super) fn poll_read_stream(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.guarded.stream().poll_read(cx, buf);
        if self.stream().is_layered() {
            if read.is_pending() {
                self.note_input();
            } else {
                self.conn().core().note_input(PendingInput::Nothing);
            }
        }
        read
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
        let before = buf.filled().len();
        ready!(self.poll_read_stream(cx, buf))?;
        match &buf.filled()[before..] {
            [] => self.ended = true,
            #[cfg(feature = "http2")]
            bytes if self.wire.is_some() => {
                if let Some(wire) = &mut self.wire {
                    wire.read(bytes);
                }
                self.note_input();
            }
            bytes => self.note_read(bytes),
        }
        Poll::Ready(Ok(()))
    }

    /// The protocol is over: what has to be closed with care, if anything. `is_silent`: nothing of
    /// the client is there to be read; `is_delivered`: the kernel has said that the client has it
    /// all.
    pub(super) fn take_closing(
        &mut self,
        is_silent: bool,
        is_delivered: bool,
    ) -> Option<Closing<Framing>> {
        let conn = self.guarded.conn();
        let phase = conn.phase();
        let state = conn.state();
        let says_its_end = self.stream().is_layered();
        if !self.wrote && !says_its_end
            || matches!(state, ConnState::Upgraded | ConnState::Closed)
            || phase >= Phase::Cut
        {
            return None;
        }
        conn.look_through(&mut self.framing);
        // An HTTP/2 client always has something to say: window updates, acknowledgements.
        let is_http2 = state == ConnState::Http2;
        let is_followed = !is_http2 && !conn.is_lost();
        let is_silent = self.ended
            || is_followed
                && self.framing.is_between()
                && (is_silent || self.stream().peek() != Received::Something);
        // While serving, the kernel delivers the rest.
        let is_seen_to = phase < Phase::Stopping || is_delivered;
        if is_silent && is_seen_to && !says_its_end {
            return None;
        }
        let framing = is_followed.then(|| std::mem::take(&mut self.framing));
        self.note_goodbye();
        let goodbye = self.overhead.as_ref().map_or(0, |overhead| overhead.goodbye);
        Some(Closing::new(self.guarded.take_stream(), goodbye, framing, is_http2))
    }
}

/// By hyper, with the connection: after an upgrade, by HTTP/2, or in the middle of a message that
/// is cut off.
impl Drop for Io {
    fn drop(&mut self) {
        if self.conn().is(ConnState::Upgraded) {
            // As a `Connection`: the client may have something on its way to it still.
            self.guarded.close();
        }
        #[cfg(feature = "http2")]
        if let Some(returns) = self.returns.take()
            && let Some(closing) = self.take_closing(false, false)
        {
            // Nobody is there at the cut.
            let _ = returns.send(closing);
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
            if this.prefix.is_none() && this.conn().is(ConnState::Upgraded) {
                return Pin::new(&mut this.guarded).poll_read(cx, buf);
            }
            return this.poll_read_otherwise(cx, buf);
        }
        let before = buf.filled().len();
        let read = this.poll_read_stream(cx, buf);
        this.conn().set_awaits_input(read.is_pending());
        ready!(read)?;
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
        if this.conn().is(ConnState::Upgraded) {
            return Pin::new(&mut this.guarded).poll_write(cx, buf);
        }
        this.wrote = true;
        let written = this.guarded.stream().poll_write(cx, buf);
        this.note_written(&written, &[IoSlice::new(buf)]);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.conn().is(ConnState::Upgraded) {
            return Pin::new(&mut this.guarded).poll_write_vectored(cx, bufs);
        }
        this.wrote = true;
        let written = this.guarded.stream().poll_write_vectored(cx, bufs);
        this.note_written(&written, bufs);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.guarded.is_write_vectored()
    }

    /// hyper flushes when it has written all it had. Sockets of the kernel have nothing to flush.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.overhead.is_some() {
            ready!(this.poll_flush_overhead(cx))?;
        }
        this.guarded.conn().flushed(&mut this.framing);
        Poll::Ready(Ok(()))
    }

    /// Shuts the write side. What else there is to a close comes when hyper has let go of this.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.conn().begins_to_shut();
        let shut = this.guarded.stream().poll_shutdown(cx);
        this.note_goodbye();
        shut
    }
}
