//! The stream of a connection as hyper sees it: counts what it reads, closes without harm, and holds
//! the drain for as long as it exists, in whoever's hands.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    conn::{Conn, Half},
    held::Held,
    state::State,
    stream::{Received, Stream},
    wire::Progress,
};
use crate::phase::Phase;

#[derive(Debug)]
pub(crate) struct Io {
    stream: Stream,
    /// Bytes that were read to find out the protocol.
    prefix: Option<Prefix>,
    closing: Closing,
    http2: bool,
    /// Dropped last: the stream is closed when the drain stops waiting for it.
    held: Held,
}

#[derive(Debug)]
struct Prefix {
    bytes: Box<[u8]>,
    taken: usize,
}

/// How far the end of the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    /// Not begun.
    No,
    /// The peer has closed its side, or nothing is in its way: there are no bytes to wait for.
    Clear,
    /// The write side is shut, the peer may still be sending.
    Dropping,
}

impl Io {
    pub(crate) fn new(stream: Stream, held: Held) -> Self {
        Self { stream, prefix: None, closing: Closing::No, http2: false, held }
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

    /// Reads from the stream itself.
    pub(crate) fn poll_read_stream(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }

    pub(crate) fn peek(&self) -> Received {
        self.stream.peek()
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
                [] => self.closing = Closing::Clear,
                _ if state == State::Http2 => {}
                bytes => self.conn().bytes_read(bytes),
            }
            return Poll::Ready(Ok(()));
        }
        if state == State::Closable && self.stream.peek() != Received::Something {
            // An end of file is how hyper is told that a quiet connection is over, whatever it is at.
            self.closing = Closing::Clear;
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

    /// Reads and drops what the client still sends, until it has closed its side.
    fn poll_drop_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [MaybeUninit::uninit(); 4096];
        // Other connections want their turn, too.
        for _ in 0..16 {
            let mut buf = ReadBuf::uninit(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                // A client that is still reading a response acknowledges it: it gets more time.
                Ok(()) if !buf.filled().is_empty() => {
                    if self.http2 {
                        self.conn().enter(State::LastWords);
                    }
                }
                // An end or a broken connection: either way nothing more will come.
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix.is_some() || !this.conn().reads_plainly() {
            return this.poll_read_otherwise(cx, buf);
        }
        let before = buf.filled().len();
        ready!(this.poll_read_stream(cx, buf))?;
        match buf.filled().get(before..) {
            None | Some([]) => this.closing = Closing::Clear,
            Some(bytes) => this.conn().bytes_read(bytes),
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
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_upgraded(Half::Write, cx)?;
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written all it had. Streams of the kernel have nothing to flush.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.conn().flushed();
        Poll::Ready(Ok(()))
    }

    /// Shuts the write side, and then reads on for as long as the client may still be sending: bytes
    /// that are left unread would turn the close into a reset, which can destroy a response that the
    /// client has not read yet (RFC 9112, section 9.6). The connection's task bounds the wait.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let state = this.conn().state();
        if state == State::Upgraded {
            return Pin::new(&mut this.stream).poll_shutdown(cx);
        }
        if this.closing == Closing::No {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            // After a request that was read to its end, with nothing behind it, nothing is unread. An
            // HTTP/2 client always has something to say: window updates, acknowledgements.
            this.http2 = state == State::Http2;
            let all_read = !this.http2 && this.conn().wire.progress() == Progress::Complete;
            if all_read && this.stream.peek() == Received::Nothing {
                this.closing = Closing::Clear;
            } else {
                this.closing = Closing::Dropping;
                this.conn().enter(State::LastWords);
            }
        }
        match this.closing {
            Closing::Dropping => this.poll_drop_rest(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}
