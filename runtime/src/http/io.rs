//! The stream of a connection as hyper sees it. Follows what is read and written, and knows how
//! carefully it has to be closed.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
#[cfg(feature = "http2")]
use tokio::sync::oneshot;

#[cfg(feature = "handover")]
use super::framing::Position;
#[cfg(feature = "http2")]
use super::h2::Wire;
use super::{conn::HttpConn, framing::Framing, state::ConnState};
use crate::{
    net::{
        Closing, ConnGuard, GuardedConn as _, GuardedIo, OwnedSocket, PendingInput, Received,
        Stream,
    },
    stop::Phase,
};

#[derive(Debug)]
pub(super) struct Io {
    /// Bytes that were read to detect the protocol.
    prefix: Option<Box<Prefix>>,
    framing: Framing,
    /// Whether a read has returned end of file.
    ended: bool,
    wrote: bool,
    /// The frames, once the connection speaks HTTP/2.
    #[cfg(feature = "http2")]
    wire: Option<Box<Wire>>,
    /// Set if not everything written is part of a response: with TLS, or for HTTP/2.
    overhead: Option<Box<Overhead>>,
    /// Where to send the stream when hyper drops it, once the connection speaks HTTP/2.
    #[cfg(feature = "http2")]
    returns: Option<Box<oneshot::Sender<Closing<Framing>>>>,
    /// Dropped last, because it contains the guard.
    guarded: GuardedIo<HttpConn>,
}

/// Counts of bytes that the socket has taken.
#[derive(Debug, Default)]
struct Overhead {
    /// All bytes of HTTP/2 without a layer; a layer keeps its own count.
    written: u64,
    /// The count when everything had last been answered.
    answered: u64,
    /// The bytes since then, as last reported.
    goodbye: u64,
    /// Whether something was written since the last flush.
    is_unflushed: bool,
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
            overhead: guarded.stream_ref().is_layered().then(Box::default),
            #[cfg(feature = "http2")]
            returns: None,
            guarded,
        };
        // Bytes of the TLS handshake, such as session tickets, are not part of a response.
        this.note_goodbye();
        this
    }

    /// Called when everything has been answered: all bytes written so far were needed for that.
    fn note_answers(&mut self) {
        let by_layer = self.stream().bytes_written();
        if let Some(overhead) = &mut self.overhead {
            overhead.answered = overhead.written + by_layer;
        }
    }

    /// Reports the bytes written since the last response, which are not part of one.
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

    /// Switches to HTTP/2 once the preface has been read. When hyper drops the stream, it is sent
    /// to the returned receiver, unless it can simply be dropped.
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
        self.returns = Some(Box::new(returns));
        returned
    }

    /// Notes whether half a frame, or half a record below it, has been read.
    fn note_input(&self) {
        let input = self.stream().pending_input();
        #[cfg(feature = "http2")]
        let input = match &self.wire {
            Some(wire) if wire.is_inside() => PendingInput::PartOfRecord,
            Some(_) | None => input,
        };
        self.conn().core().note_input(input);
    }

    /// Flushes the layers above the socket, and determines how much of that was a response.
    #[inline(never)]
    fn poll_flush_overhead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stream().is_layered() {
            ready!(self.guarded.stream().poll_flush(cx))?;
        }
        let overhead = self.overhead.as_mut();
        let is_news = overhead.is_some_and(|it| std::mem::take(&mut it.is_unflushed));
        if is_news {
            #[cfg(feature = "http2")]
            let is_answer = self.wire.as_mut().is_none_or(|wire| wire.take_answered());
            #[cfg(not(feature = "http2"))]
            let is_answer = true;
            if is_answer {
                self.note_answers();
            }
            self.note_goodbye();
        }
        #[cfg(feature = "http2")]
        if let Some(open) = self.wire.as_mut().and_then(|wire| wire.take_open()) {
            self.conn().set_open_streams(open);
        }
        Poll::Ready(Ok(()))
    }

    /// Called when something has been written, which may be part of no response.
    #[inline]
    fn note_written(&mut self, written: &Poll<io::Result<usize>>, bufs: &[IoSlice<'_>]) {
        if self.overhead.is_some()
            && let Poll::Ready(Ok(count)) = written
        {
            self.follow_written(*count, bufs);
        }
    }

    #[inline(never)]
    #[cfg_attr(not(feature = "http2"), allow(unused_variables))]
    fn follow_written(&mut self, count: usize, bufs: &[IoSlice<'_>]) {
        let Some(overhead) = &mut self.overhead else { return };
        overhead.is_unflushed = true;
        #[cfg(feature = "http2")]
        if let Some(wire) = &mut self.wire {
            if !self.guarded.stream_ref().is_layered() {
                overhead.written += count as u64;
            }
            let mut left = count;
            for buf in bufs {
                let taken = left.min(buf.len());
                wire.write(&buf[..taken]);
                left -= taken;
            }
            // Bytes written before a response may be needed for it.
            if wire.has_answered() && std::mem::take(&mut overhead.goodbye) > 0 {
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
        self.prefix = Some(Box::new(Prefix { bytes: bytes.into(), taken: 0 }));
    }

    /// Follows `bytes` that have been read.
    pub(super) fn note_read(&mut self, bytes: &[u8]) {
        #[cfg(feature = "http2")]
        if let Some(wire) = &mut self.wire {
            wire.read(bytes);
            return self.note_input();
        }
        let conn = self.guarded.conn();
        conn.look_through(&mut self.framing);
        let summary = self.framing.read(bytes, conn.calls());
        conn.bytes_read(summary, bytes);
    }

    /// Continues a connection on which the process before has answered: the client may not have
    /// read that yet.
    pub(super) fn has_answered(&mut self) {
        self.wrote = true;
    }

    /// Takes the socket out; see `Stream::take_socket`.
    pub(super) fn take_socket(&mut self) -> Option<OwnedSocket> {
        self.guarded.take_socket()
    }

    /// Puts a socket back that has been taken out.
    ///
    /// # Errors
    ///
    /// If it is not connected any more.
    pub(super) fn put_back(&mut self, socket: OwnedSocket) -> io::Result<()> {
        self.guarded.put_back(Stream::of_socket(socket)?.0);
        Ok(())
    }

    pub(super) fn stream(&self) -> &Stream {
        self.guarded.stream_ref()
    }

    /// Reads from the stream, past the prefix.
    #[inline]
    pub(super) fn poll_read_stream(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        #[cfg(feature = "http2")]
        let is_inside = || self.wire.as_ref().is_some_and(|wire| wire.is_inside());
        #[cfg(not(feature = "http2"))]
        let is_inside = || false;
        self.guarded.poll_read_stream(cx, buf, is_inside)
    }

    #[cold]
    fn read_prefix(&mut self, buf: &mut ReadBuf<'_>) {
        let Some(prefix) = &mut self.prefix else { return };
        let rest = &prefix.bytes[prefix.taken..];
        let taken = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..taken]);
        prefix.taken += taken;
        if prefix.taken == prefix.bytes.len() {
            self.prefix = None;
        }
    }

    /// Reads for the program.
    #[inline(never)]
    fn poll_read_upgraded(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.guarded).poll_read(cx, buf)
    }

    /// Called when the protocol is over: returns the close to perform, if one is needed.
    /// `is_silent` means that nothing from the client is there to be read, and `is_delivered` that,
    /// according to the kernel, the client has received everything.
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
        // An HTTP/2 client always has something to send: window updates, acknowledgements.
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

    /// A connection that left HTTP with something behind the head, which hyper has handed on, has
    /// not been followed from its beginning: it does not move.
    #[cfg(feature = "handover")]
    fn look_behind_the_head(&mut self) {
        let conn = self.guarded.conn();
        if conn.core().hand_over_if_any().is_some() {
            conn.look_through(&mut self.framing);
            if self.framing.position() != Position::Between {
                conn.core().hand_over().keep();
            }
        }
    }
}

/// Dropped by hyper along with the connection: after an upgrade, by HTTP/2, or in the middle of a
/// truncated message.
impl Drop for Io {
    fn drop(&mut self) {
        if self.conn().is(ConnState::Upgraded) {
            #[cfg(feature = "handover")]
            self.look_behind_the_head();
            // Like a `Connection`: something may still be on the way to the client.
            self.guarded.close();
        }
        #[cfg(feature = "http2")]
        if let Some(returns) = self.returns.take()
            && let Some(closing) = self.take_closing(false, false)
        {
            // At the cut, the receiver is gone.
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
        if this.prefix.is_some() {
            this.read_prefix(buf);
            return Poll::Ready(Ok(()));
        }
        if this.conn().is(ConnState::Upgraded) {
            return this.poll_read_upgraded(cx, buf);
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

    /// hyper flushes when it has written everything it had. A kernel socket itself has nothing to
    /// flush.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.overhead.is_some() {
            ready!(this.poll_flush_overhead(cx))?;
        }
        this.guarded.conn().flushed(&mut this.framing);
        Poll::Ready(Ok(()))
    }

    /// Shuts the write side. The rest of the close happens once hyper has released this.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.conn().begins_to_shut();
        let shut = this.guarded.stream().poll_shutdown(cx);
        this.note_goodbye();
        shut
    }
}
