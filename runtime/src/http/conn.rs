//! What a connection is doing: one allocation per connection, written by its own task, read by the
//! drain and the report from outside.

use std::{
    sync::{Arc, OnceLock},
    task::Waker,
    time::{Duration, Instant},
};

use super::{
    clock,
    held::Held,
    label::Label,
    listener::Peer,
    state::State,
    streams::Streams,
    wire::{Progress, Wire},
};
use crate::{
    handle::Handle,
    in_flight::InFlight,
    phase::Phase,
    sync::{AtomicU8, AtomicU64, AtomicUsize, AtomicWaker, Ordering, register},
    work::{Kind, Piece},
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
    pub(crate) wire: Wire,
    pub(crate) label: Label,
    /// The connection's task.
    waker: AtomicWaker,
    /// After an upgrade: whoever reads, and whoever writes.
    owners: OnceLock<Box<[AtomicWaker; 2]>>,
    /// How many `Held`s there are; theirs.
    pub(crate) holds: AtomicUsize,
    streams: OnceLock<Box<Streams>>,
}

/// Which half of an upgraded stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Half {
    Read,
    Write,
}

impl Conn {
    /// A connection that has just been accepted: counted and listed.
    pub(crate) fn accepted(handle: &Handle, peer: Peer) -> Held {
        let accepted = clock::now();
        let conn = Arc::new(Self {
            handle: handle.clone(),
            state: AtomicU8::new(State::Fresh as u8),
            since: AtomicU64::new(accepted),
            accepted,
            peer,
            wire: Wire::new(),
            label: Label::new(),
            waker: AtomicWaker::new(),
            owners: OnceLock::new(),
            holds: AtomicUsize::new(1),
            streams: OnceLock::new(),
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
    pub(crate) fn is_limited(&self) -> bool {
        self.state.load(Ordering::Relaxed) <= State::Closable as u8
    }

    /// Whether reading is nothing more than that.
    #[inline]
    pub(crate) fn reads_plainly(&self) -> bool {
        let special = State::Closable as u8..=State::Closed as u8;
        !special.contains(&self.state.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Enters `state`, now.
    #[inline]
    pub(crate) fn enter(&self, state: State) {
        self.stamp();
        self.set_state(state);
    }

    /// The head of an HTTP/1 request is complete; for `body` see [`Wire::head_complete`]. Returns whether its
    /// name is known.
    #[inline(never)]
    pub(crate) fn request_begins(&self, body: Option<u64>) -> bool {
        self.wire.head_complete(body);
        // Then it came in one piece, of which the beginning was kept.
        let named = self.is(State::NewHead);
        self.enter(State::Busy);
        named
    }

    #[inline]
    fn stamp(&self) {
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

    /// Bytes have been read, while this was HTTP/1 or not yet known to be.
    #[inline]
    pub(crate) fn bytes_read(&self, bytes: &[u8]) {
        match self.state() {
            State::Fresh | State::Idle | State::Closable => {
                self.label.write_head(bytes);
                self.wire.record_head(bytes);
                self.set_state(State::NewHead);
            }
            State::NewHead => {
                self.enter(State::Head);
                self.wire.record_head(bytes);
            }
            State::Head => self.wire.record_head(bytes),
            _ => _ = self.wire.record_rest(bytes),
        }
    }

    /// All that was written is with the kernel.
    #[inline]
    pub(crate) fn flushed(&self) {
        let flushing = self.is(State::Flushing);
        if flushing {
            self.handle.shared().request_drained();
        } else if !matches!(self.state(), State::Answered | State::Unsettled) {
            return;
        }
        match self.wire.progress() {
            Progress::Complete | Progress::LooksComplete => self.enter(State::Idle),
            Progress::Beyond => {
                self.wire.next_message();
                self.enter(State::Head);
            }
            Progress::Unknown | Progress::Incomplete if self.is(State::Unsettled) => {}
            Progress::Unknown => self.enter(State::Unsettled),
            // hyper flushes again when it is through.
            Progress::Incomplete => self.set_state(State::Answered),
        }
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

    /// The head of a response is out that leaves HTTP.
    pub(crate) fn upgraded(&self) {
        if self.state() != State::Upgraded {
            self.enter(State::Upgraded);
        }
    }

    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// Whether it should have been closed by now: then its task has not had its turn, and what the
    /// client has sent was never read.
    fn is_overdue(&self, now: Instant) -> bool {
        let shared = self.handle.shared();
        let quiet = matches!(self.state(), State::Fresh | State::Idle);
        let draining = shared.drain_started.get();
        draining.is_some_and(|&draining| {
            quiet && now > draining.max(self.since()) + shared.limits.linger + OVERDUE
        })
    }

    // ----- HTTP/2 -----

    pub(crate) fn streams(&self) -> &Streams {
        self.streams.get_or_init(Box::default)
    }

    pub(crate) fn stream_closed(&self, stream: usize) {
        if self.streams().closed(stream) {
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
        self.stamp();
        if self.phase() >= Phase::Draining {
            self.wake();
        }
    }

    pub(crate) fn has_streams(&self) -> bool {
        self.streams.get().is_some_and(|streams| streams.is_busy())
    }
}

impl Piece for Conn {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        // First: what is read after it belongs to it.
        let state = self.state();
        let peer = self.peer.to_string();
        let age = now.saturating_duration_since(self.since());
        let label = || self.label.read().unwrap_or_else(|| ("?".into(), "?".into()));
        match state {
            State::Busy | State::Responding | State::Flushing | State::Answered => {
                let (method, path) = label();
                let responding = state != State::Busy;
                out.push(InFlight::Request { method, path, peer, age, responding });
                return;
            }
            State::Upgraded => {
                let (_, path) = label();
                out.push(InFlight::Upgraded { path, peer, age });
                return;
            }
            State::Closed => return,
            _ => {}
        }
        let before = out.len();
        if let Some(streams) = self.streams.get() {
            streams.describe(&peer, now, out);
        }
        if out.len() == before {
            let overdue = self.is_overdue(now);
            let age = now.saturating_duration_since(clock::instant(self.accepted));
            out.push(InFlight::Connection { peer, age, overdue });
        }
    }

    fn kind(&self) -> Kind {
        Kind::Connection
    }

    fn drain(&self) {
        self.wake();
    }

    fn cut(&self) {
        self.wake();
        for owner in self.owners.get().into_iter().flat_map(|owners| owners.iter()) {
            owner.wake();
        }
        if let Some(streams) = self.streams.get() {
            streams.abort_all();
        }
    }
}
