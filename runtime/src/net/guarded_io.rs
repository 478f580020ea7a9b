//! A stream together with its connection's guard, as handed to the program.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    closing::close,
    conn::ConnGuard,
    conn::{GuardedConn, Half},
    stream::{PendingInput, Stream, forward_write},
    system::OwnedSocket,
};
use crate::{
    context::InContext,
    stop::{OwnsStream, Phase},
};
#[cfg(feature = "handover")]
use {
    super::{
        hand_over::HandOver,
        moving::{self, Details, Moved},
        websocket::Frames,
    },
    std::time::Duration,
};

/// A stream and the guard of its connection. The drain waits as long as this exists; after the cut,
/// reads and writes fail so that the owner ends.
#[derive(Debug)]
pub(crate) struct GuardedIo<C: GuardedConn> {
    stream: Stream,
    /// Whether the client has closed its side.
    ended: bool,
    /// How many bytes had been written when this was created, for example by a TLS handshake.
    written_before: u64,
    /// The tasks that the cut wakes: the last reader and the last writer.
    owners: Option<Box<[Option<Owner>; 2]>>,
    /// The frames of the client, if they are followed.
    #[cfg(feature = "handover")]
    frames: Option<Box<Frames>>,
    /// Dropped last, so that the stream is closed before the drain stops waiting for it.
    guard: ConnGuard<C>,
}

/// A task that waits for one half of the stream.
#[derive(Debug)]
struct Owner {
    waker: Waker,
    /// Has it told of the drain at this connection's moment.
    _owns: Option<OwnsStream>,
}

impl<C: GuardedConn> GuardedIo<C> {
    pub(crate) fn new(stream: Stream, guard: ConnGuard<C>) -> Self {
        let written_before = stream.bytes_written();
        Self {
            stream,
            ended: false,
            written_before,
            owners: None,
            #[cfg(feature = "handover")]
            frames: None,
            guard,
        }
    }

    #[inline]
    pub(crate) fn guard(&self) -> &ConnGuard<C> {
        &self.guard
    }

    #[inline]
    pub(crate) fn conn(&self) -> &C {
        self.guard.conn()
    }

    /// The stream itself, for our own protocols, which watch the phase themselves.
    #[inline]
    pub(crate) fn stream(&mut self) -> Pin<&mut Stream> {
        Pin::new(&mut self.stream)
    }

    /// Reads from the stream, and notes whether a layer holds part of a record. `is_inside` is
    /// whether the protocol above has read part of a message.
    #[inline]
    pub(crate) fn poll_read_stream(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        is_inside: impl FnOnce() -> bool,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Unix(_) | Stream::Layered(_) | Stream::Taken => {
                self.poll_read_other_stream(cx, buf, is_inside())
            }
        }
    }

    #[inline(never)]
    fn poll_read_other_stream(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        is_inside: bool,
    ) -> Poll<io::Result<()>> {
        let read = self.stream().poll_read(cx, buf);
        if self.stream.is_layered() {
            let input = match read {
                // Bytes that came out of the layer are no longer pending in it.
                Poll::Ready(_) => PendingInput::Nothing,
                Poll::Pending if is_inside => PendingInput::PartOfRecord,
                Poll::Pending => self.stream.pending_input(),
            };
            self.conn().core().note_input(input);
        }
        read
    }

    #[inline]
    pub(crate) fn stream_ref(&self) -> &Stream {
        &self.stream
    }

    /// Called when the program has dropped the stream: a separate task delivers what was written.
    /// While serving, the kernel does so once the client has closed its side.
    pub(crate) fn close(&mut self) {
        let phase = self.conn().core().phase();
        if phase >= Phase::Cut
            || self.ended && phase < Phase::Stopping
            || matches!(self.stream, Stream::Taken)
        {
            return;
        }
        #[cfg(feature = "handover")]
        if self.move_marked() {
            return;
        }
        let shared = self.conn().core().shared().clone();
        let (stream, guard) = (self.take_stream(), self.guard.clone());
        // If the program has written nothing, there is no response.
        let written = stream.bytes_written();
        let goodbye = if written == self.written_before { written } else { 0 };
        shared.spawn_quietly(InContext::new(&shared, close(stream, goodbye, guard)));
    }

    /// Follows what is read, if the connection may be handed over with it.
    #[cfg(feature = "handover")]
    #[inline]
    pub(super) fn follow(&mut self, read: &[u8]) {
        if self.conn().core().hand_over_if_any().is_some() {
            self.frames.get_or_insert_default().feed(read);
        }
    }

    #[cfg(not(feature = "handover"))]
    #[allow(clippy::unused_self, reason = "as with the feature")]
    pub(super) fn follow(&mut self, _: &[u8]) {}

    /// Sends the connection to the next process, if the program has marked it for that. Returns
    /// whether it is on its way; if it comes back, it is closed as it would have been.
    #[cfg(feature = "handover")]
    fn move_marked(&mut self) -> bool {
        let core = self.conn().core();
        let Some(mark) = core.hand_over_if_any().and_then(HandOver::take_mark) else {
            return false;
        };
        let read = self.frames.as_ref().map_or(Some(Vec::new()), |frames| frames.incomplete());
        let (Some(read), false) = (read, self.ended) else { return false };
        let (state, handler) = (Some(mark.state), Some(mark.name));
        let details = Details { read, state, handler, ..core.details(Duration::ZERO) };
        let Some(socket) = self.take_socket() else { return false };
        let (shared, guard) = (self.conn().core().shared().clone(), self.guard.clone());
        let moving = async move {
            match moving::give(Moved { socket, details }).await {
                Ok(None) => guard.conn().has_moved(),
                Ok(Some(socket)) => {
                    // One that is not connected any more is over.
                    if let Ok((stream, _)) = Stream::of_socket(socket) {
                        close(stream, 0, guard).await;
                    }
                }
                // The process is over.
                Err(_) => {}
            }
        };
        shared.spawn_quietly(InContext::new(&shared, moving));
        true
    }

    /// Takes the stream out, leaving `Stream::Taken` behind.
    pub(crate) fn take_stream(&mut self) -> Stream {
        self.stream.take()
    }

    /// Takes the socket out; see `Stream::take_socket`.
    pub(crate) fn take_socket(&mut self) -> Option<OwnedSocket> {
        self.stream.take_socket()
    }

    /// Puts a stream back that has been taken out.
    pub(crate) fn put_back(&mut self, stream: Stream) {
        self.stream = stream;
    }

    /// Fails after the cut.
    #[inline]
    fn check_cut(&self) -> io::Result<()> {
        if self.guard.conn().core().phase() < Phase::Cut { Ok(()) } else { Err(cut_off()) }
    }

    /// Called when there is nothing to read or no room to write: has the cut wake the task as well,
    /// or fails if the cut has already come.
    #[inline]
    fn wait_for_cut<T>(&mut self, half: Half, cx: &Context<'_>) -> Poll<io::Result<T>> {
        // A task keeps its waker for life, and while serving nobody takes it, so registering once
        // is enough.
        let owner = self.owners.as_ref().and_then(|owners| owners[half as usize].as_ref());
        if self.conn().core().phase() < Phase::Draining
            && owner.is_some_and(|owner| owner.waker.will_wake(cx.waker()))
        {
            return Poll::Pending;
        }
        self.register(half, cx)?;
        Poll::Pending
    }

    #[cold]
    fn register(&mut self, half: Half, cx: &Context<'_>) -> io::Result<()> {
        // In the drain, `IdleShutdown` takes the waker. Register before looking, so that no cut
        // slips in between.
        let owner = &mut self.owners.get_or_insert_default()[half as usize];
        let core = self.guard.conn().core();
        core.register_owner(half, cx.waker());
        let owns = core.shared().goodbyes.owns_stream(self.guard.fraction());
        *owner = Some(Owner { waker: cx.waker().clone(), _owns: owns });
        self.check_cut()
    }
}

#[cold]
fn cut_off() -> io::Error {
    // At the limit, or by a second signal.
    let error = "cut off by the graceful shutdown";
    io::Error::new(io::ErrorKind::ConnectionAborted, error)
}

impl<C: GuardedConn> AsyncRead for GuardedIo<C> {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check_cut()?;
        let (before, filled) = (buf.remaining(), buf.filled().len());
        if this.poll_read_stream(cx, buf, || false)?.is_pending() {
            return this.wait_for_cut(Half::Read, cx);
        }
        this.follow(&buf.filled()[filled..]);
        // Nothing was read although there was room: end of file.
        this.ended |= before > 0 && buf.remaining() == before;
        Poll::Ready(Ok(()))
    }
}

impl<C: GuardedConn> AsyncWrite for GuardedIo<C> {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_cut()?;
        let written = this.stream().poll_write(cx, buf);
        if written.is_pending() { this.wait_for_cut(Half::Write, cx) } else { written }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_cut()?;
        let written = this.stream().poll_write_vectored(cx, bufs);
        if written.is_pending() { this.wait_for_cut(Half::Write, cx) } else { written }
    }

    forward_write!(end => stream);
}
