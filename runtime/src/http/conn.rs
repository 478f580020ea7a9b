//! What a connection is doing: one allocation per connection, written by its own task, read by the
//! drain and the report from outside.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    task::Waker,
    time::{Duration, Instant},
};

use super::{
    framing::Framing,
    held::Held,
    label::Label,
    plain::PlainRead,
    state::{
        Event,
        State::{self, Fresh, Idle},
    },
    streams::Streams,
};
use crate::{
    handle::Handle,
    net::{clock, kernel::Kernel, listener::Peer, stream::Stream},
    phase::Phase,
    sync::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, AtomicWaker, Mutex, Ordering,
        lock, register,
    },
};

/// How late a connection may be with its end before that is taken as a sign of blocked threads.
const OVERDUE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) handle: Handle,
    /// Written by the connection's task alone, which reads it relaxed. Release, and acquire for whoever
    /// looks from outside: with a state come the label and the time that belong to it, or later ones.
    state: AtomicU8,
    /// Since when, by `clock`.
    since: AtomicU64,
    accepted: u64,
    peer: Peer,
    /// `None` for a Unix socket.
    kernel: Option<Arc<Kernel>>,
    pub(super) plain: PlainRead,
    /// How many requests hyper has handed to the service; wraps. Written as `state` is.
    pub(super) calls: AtomicU32,
    /// Bytes that have not reached the client's system, as of the latest look.
    undelivered: AtomicU32,
    /// Whether the client had not read everything then, as far as that can be known.
    is_unread: AtomicBool,
    /// Whether the client goes on sending after its last response.
    is_sending: AtomicBool,
    /// Whether the last request was answered to its end although the cut had come.
    answered_late: AtomicBool,
    pub(crate) label: Label,
    /// The connection's task.
    waker: AtomicWaker,
    /// After an upgrade: whoever reads, and whoever writes.
    owners: OnceLock<Box<[AtomicWaker; 2]>>,
    /// How many `Held`s there are; theirs.
    pub(crate) holds: AtomicUsize,
    streams: OnceLock<Box<Streams>>,
    /// The stream, once the protocol is over and it has to be closed with care.
    left: Mutex<Option<Left>>,
}

/// What a protocol leaves behind.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) stream: Stream,
    /// What the client may still have to say; `None`: there is no telling.
    pub(crate) framing: Option<Framing>,
}

/// Which half of an upgraded stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Half {
    Read,
    Write,
}

impl Conn {
    /// A connection that has just been accepted: counted and listed.
    pub(crate) fn accepted(handle: &Handle, peer: Peer, kernel: Option<Arc<Kernel>>) -> Held {
        let accepted = clock::now();
        let conn = Arc::new(Self {
            handle: handle.clone(),
            state: AtomicU8::new(State::Fresh as u8),
            since: AtomicU64::new(accepted),
            accepted,
            peer,
            plain: PlainRead::new(),
            kernel,
            calls: AtomicU32::new(0),
            undelivered: AtomicU32::new(0),
            is_unread: AtomicBool::new(false),
            is_sending: AtomicBool::new(false),
            answered_late: AtomicBool::new(false),
            label: Label::new(),
            waker: AtomicWaker::new(),
            owners: OnceLock::new(),
            holds: AtomicUsize::new(1),
            streams: OnceLock::new(),
            left: Mutex::new(None),
        });
        let key = handle.shared().work.add(conn.clone());
        Held::new(conn, key)
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        State::from_byte(self.state.load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn is(&self, state: State) -> bool {
        self.state.load(Ordering::Relaxed) == state as u8
    }

    /// Whether the state may not last, even while nothing drains.
    #[inline]
    pub(crate) fn is_bounded(&self) -> bool {
        self.own_state().is_bounded_in_service()
    }

    /// Whether reading is nothing more than that.
    #[inline]
    pub(crate) fn reads_http1(&self) -> bool {
        self.own_state().reads_http1()
    }

    /// For the connection's own task, which wrote it.
    #[inline]
    pub(super) fn own_state(&self) -> State {
        State::from_byte(self.state.load(Ordering::Relaxed))
    }

    /// Something has happened.
    #[allow(clippy::inline_always, reason = "as of `State::after`")]
    #[inline(always)]
    pub(crate) fn on(&self, event: Event) {
        self.step(self.own_state(), event);
    }

    /// From `state` on.
    #[allow(clippy::inline_always, reason = "as of `State::after`")]
    #[inline(always)]
    pub(super) fn step(&self, state: State, event: Event) {
        if state.notes_time(event) {
            self.note_time();
        }
        self.state.store(state.after(event) as u8, Ordering::Release);
    }

    #[inline]
    fn note_time(&self) {
        self.since.store(clock::now(), Ordering::Relaxed);
    }

    /// Since when the connection is in its state, as far as the state is one that is timed.
    pub(crate) fn since(&self) -> Instant {
        clock::instant(self.since.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.handle.shared().phase.now()
    }

    /// Who is woken by the next thing that happens to the connection: once, then it is due again.
    pub(crate) fn register(&self, waker: &Waker) {
        register(&self.waker, waker);
    }

    /// The owner of one half of the upgraded stream, to be woken by the cut.
    pub(crate) fn register_owner(&self, half: Half, waker: &Waker) {
        let owners = self.owners.get_or_init(|| Box::new([AtomicWaker::new(), AtomicWaker::new()]));
        register(&owners[half as usize], waker);
    }

    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    // ----- the end -----

    /// The protocol is over.
    pub(crate) fn leave(&self, left: Left) {
        *lock(&self.left) = Some(left);
    }

    pub(crate) fn take_left(&self) -> Option<Left> {
        lock(&self.left).take()
    }

    /// What the kernel knows of this listener's connections, and which of them this is.
    pub(crate) fn kernel(&self) -> Option<(&Kernel, SocketAddr)> {
        match (self.kernel.as_deref(), self.peer) {
            (Some(kernel), Peer::Tcp(peer)) => Some((kernel, peer)),
            (None, _) | (_, Peer::Unix) => None,
        }
    }

    pub(crate) fn set_delivery(&self, undelivered: u32, is_unread: bool) {
        self.undelivered.store(undelivered, Ordering::Relaxed);
        self.is_unread.store(is_unread, Ordering::Relaxed);
    }

    /// The bytes of responses that have not reached the client's system; `None`: the client has read all there
    /// was, as far as that can be known.
    pub(crate) fn unread(&self) -> Option<u32> {
        let is_unread = self.is_unread.load(Ordering::Relaxed);
        is_unread.then(|| self.undelivered.load(Ordering::Relaxed))
    }

    pub(crate) fn set_sending(&self, is_sending: bool) {
        self.is_sending.store(is_sending, Ordering::Relaxed);
    }

    pub(crate) fn is_sending(&self) -> bool {
        self.is_sending.load(Ordering::Relaxed)
    }

    /// A request of HTTP/1 has been answered to its end.
    #[inline]
    pub(crate) fn request_drained(&self) {
        if self.handle.shared().request_drained() {
            self.answered_late.store(true, Ordering::Release);
        }
    }

    pub(crate) fn has_answered_late(&self) -> bool {
        self.answered_late.load(Ordering::Acquire)
    }

    pub(crate) fn accepted_at(&self) -> Instant {
        clock::instant(self.accepted)
    }

    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    pub(crate) fn owners(&self) -> impl Iterator<Item = &AtomicWaker> {
        self.owners.get().into_iter().flat_map(|owners| owners.iter())
    }

    pub(crate) fn streams_if_any(&self) -> Option<&Streams> {
        self.streams.get().map(|streams| &**streams)
    }

    /// Whether it should have been closed by now: then its task has not had its turn, and what the
    /// client has sent was never read.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        let shared = self.handle.shared();
        let idle = matches!(self.state(), Fresh | Idle);
        let draining = shared.drain_started.get();
        draining.is_some_and(|&draining| {
            idle && now > draining.max(self.since()) + shared.limits.linger + OVERDUE
        })
    }

    // ----- HTTP/2 -----

    pub(crate) fn streams(&self) -> &Streams {
        self.streams.get_or_init(Box::default)
    }

    /// `complete`: the response was written to its end.
    pub(crate) fn stream_closed(&self, stream: usize, complete: bool) {
        let late = complete && self.handle.shared().request_drained();
        if self.streams().closed(stream, late) {
            self.settled();
        }
    }

    pub(crate) fn task_ended(&self, slot: usize) {
        if self.streams().task_ended(slot) {
            self.settled();
        }
    }

    /// The last stream is done.
    fn settled(&self) {
        self.note_time();
        if self.phase() >= Phase::Draining {
            self.wake();
        }
    }

    pub(crate) fn has_streams(&self) -> bool {
        self.streams.get().is_some_and(|streams| streams.is_busy())
    }
}
