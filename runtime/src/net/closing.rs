//! Closes a connection of any protocol (RFC 9112, section 9.6): shuts the write side first, then
//! reads and discards what the client still sends for a while. Unread bytes would turn the close
//! into a reset, which can destroy a response that the client has not read yet.

use std::{
    convert::Infallible,
    future::poll_fn,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    clock::Timer,
    conn::ConnGuard,
    conn::{ConnCore, GuardedConn},
    delivery::ConnDrain,
    stream::Stream,
};
use crate::stop::Phase;

/// How long to read from a client that is still sending after the last byte: long enough for it to
/// see that byte, but shorter when the process wants to exit.
const LINGERING_CLOSE: Duration = Duration::from_secs(5);
const LINGERING_CLOSE_DRAINING: Duration = Duration::from_secs(1);

/// The minimum interval between kernel queries about one connection: a tick of the kernel's clock.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// How many reads one poll performs before other connections get their turn.
const READS: usize = 16;

/// Follows what a client sends after its last response.
pub(crate) trait Follow: Send {
    fn read(&mut self, bytes: &[u8]);

    /// Whether the client is between messages.
    fn is_between(&self) -> bool;
}

/// For protocols whose framing is unknown.
impl Follow for Infallible {
    fn read(&mut self, _: &[u8]) {
        match *self {}
    }

    fn is_between(&self) -> bool {
        match *self {}
    }
}

/// A connection that is being closed; owns the stream.
#[derive(Debug)]
pub(crate) struct Closing<F> {
    stream: Stream,
    step: CloseStep,
    /// Whether the client has closed its side, or the connection is broken.
    ended: bool,
    /// How many of the last bytes written are not part of a response, so far.
    goodbye: u64,
    /// How many bytes had been written when `goodbye` was set.
    written: u64,
    /// Follows what the client still sends; `None` if its framing is unknown.
    follows: Option<F>,
    /// Whether a growing receive window means that the client is still reading.
    window_counts: bool,
    since: Instant,
    /// Set once the process is stopping.
    drain: Option<Box<ConnDrain>>,
    timer: Timer,
}

/// How far the close has progressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CloseStep {
    /// Nothing is done: a layer may still hold written data.
    Open,
    /// All written data is with the kernel.
    Flushed,
    /// The write side is shut, and the layer has announced the end.
    Shut,
}

impl<F: Follow> Closing<F> {
    /// `goodbye` is how many of the last bytes written are not part of a response.
    pub(crate) fn new(
        stream: Stream,
        goodbye: u64,
        follows: Option<F>,
        window_counts: bool,
    ) -> Self {
        Self {
            written: stream.bytes_written(),
            stream,
            step: CloseStep::Open,
            ended: false,
            goodbye,
            follows,
            window_counts,
            since: Instant::now(),
            drain: None,
            timer: Timer::default(),
        }
    }

    /// Ready once the stream may be dropped. While serving, that is when the client has closed its
    /// side or its time is up. While stopping, the client's system must also have acknowledged
    /// everything, unless the cut comes first.
    pub(crate) fn poll(&mut self, core: &ConnCore, cx: &mut Context<'_>) -> Poll<()> {
        // Register before looking, so that no change slips in between.
        core.register(cx.waker());
        let phase = core.phase();
        if phase >= Phase::Cut {
            return Poll::Ready(());
        }
        let (ended, heard) = self.poll_ended(cx);
        let is_between = self.follows.as_ref().map(Follow::is_between);
        core.set_sending(is_between.map_or(heard, |is_between| !is_between));
        core.set_goodbye(self.goodbye());
        let is_through =
            ended.is_ready() || self.step == CloseStep::Shut && is_between == Some(true);
        loop {
            if phase < Phase::Stopping {
                // While serving, the kernel delivers the rest.
                let over = is_through || self.timer.has_passed(self.since + LINGERING_CLOSE, cx);
                return if over { Poll::Ready(()) } else { Poll::Pending };
            }
            let local = self.stream.local_addr();
            let drain = self.drain.get_or_insert_with(|| {
                let mut drain = ConnDrain::new(Instant::now());
                drain.closes(local);
                Box::new(drain)
            });
            let view = drain.ask(core, self.since, self.window_counts, || local);
            let undelivered = view.is_open();
            if is_through && !undelivered {
                return Poll::Ready(());
            }
            let deadline = if undelivered {
                view.at + view.round_trip.max(TICK)
            } else {
                let entered = self.since.max(drain.since);
                view.last_unread.map_or(entered, |seen| seen.max(entered))
                    + LINGERING_CLOSE_DRAINING
            };
            if !self.timer.has_passed(deadline, cx) {
                return Poll::Pending;
            }
            if !undelivered {
                return Poll::Ready(());
            }
        }
    }

    /// Ready once the client has closed its side or the connection is broken, so that nothing more
    /// will arrive. Until then, the task is also woken when the client has acknowledged everything.
    /// The flag is whether something was read.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> (Poll<()>, bool) {
        let mut heard = false;
        if self.poll_shut(cx).is_pending() {
            return (Poll::Pending, heard);
        }
        self.stream.register_acknowledged(cx);
        let mut scratch = [MaybeUninit::uninit(); 4096];
        for _ in 0..READS {
            if self.ended {
                return (Poll::Ready(()), heard);
            }
            let mut buf = ReadBuf::uninit(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    heard = true;
                    if let Some(follows) = &mut self.follows {
                        follows.read(buf.filled());
                    }
                }
                Poll::Ready(_) => self.ended = true,
                Poll::Pending => return (Poll::Pending, heard),
            }
        }
        cx.waker().wake_by_ref();
        (Poll::Pending, heard)
    }

    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.step == CloseStep::Open {
            // If the connection is broken, the next read reports it.
            let _ = ready!(Pin::new(&mut self.stream).poll_flush(cx));
            let written = self.stream.bytes_written();
            if written != self.written {
                // The layer still held data from before, which may be part of a response.
                (self.goodbye, self.written) = (0, written);
            }
            self.step = CloseStep::Flushed;
        }
        if self.step == CloseStep::Flushed {
            let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
            self.step = CloseStep::Shut;
        }
        Poll::Ready(())
    }

    /// How many of the last bytes written are not part of a response.
    fn goodbye(&self) -> u64 {
        match self.step {
            CloseStep::Open => self.goodbye,
            CloseStep::Flushed | CloseStep::Shut => {
                self.goodbye + (self.stream.bytes_written() - self.written)
            }
        }
    }
}

/// Closes the stream of a connection that the program has dropped.
pub(super) async fn close<C: GuardedConn>(stream: Stream, goodbye: u64, guard: ConnGuard<C>) {
    let mut closing = Closing::<Infallible>::new(stream, goodbye, None, false);
    let core = guard.conn().core();
    poll_fn(|cx| closing.poll(core, cx)).await;
    // The stream is closed before the drain stops waiting for it.
    drop(closing);
    drop(guard);
}
