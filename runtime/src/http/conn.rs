//! What a connection is doing: one allocation per connection, written by its own task, read by the
//! drain and the report from outside.

use std::{
    sync::{Arc, OnceLock},
    task::Waker,
    time::{Duration, Instant},
};

use super::{
    clock,
    label::Label,
    listener::Peer,
    streams::Streams,
    wire::{Progress, Wire},
};
use crate::{
    handle::Handle,
    in_flight::InFlight,
    phase::Phase,
    registry::Key,
    sync::{AtomicU8, AtomicU64, AtomicUsize, AtomicWaker, Ordering, register},
    work::{Kind, Piece},
};

/// What an HTTP/1 connection is at, or that it is none any more.
///
/// In groups, so that steady state needs one comparison: the first may not last for ever, drain or not
/// (`is_limited`); those around the border to the second read differently (`reads_plainly`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum State {
    /// Accepted, nothing read yet.
    Fresh,
    /// The first bytes of a head have just been read.
    NewHead,
    /// A head is incomplete.
    Head,
    /// The write side is shut; what the client still sends is read and dropped.
    LastWords,
    /// Quiet for too long: to be closed, unless bytes are found in the kernel's buffer.
    Closable,

    /// HTTP/2: `Streams` has the rest.
    Http2,
    /// Not HTTP any more: somebody else owns the stream.
    Upgraded,
    /// The stream is gone.
    Closed,
    /// A request is with the service.
    Busy,
    /// The head of the response is out.
    Responding,
    /// The body of the response has ended; its last bytes may not be written yet.
    Flushing,
    /// Answered; the body of the request is still being read.
    Answered,
    /// Answered; whether more of the request's body is to come, or half a head is there, is not known.
    Unsettled,
    /// Answered, nothing read since.
    Idle,
}

impl State {
    #[inline]
    fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Fresh,
            1 => Self::NewHead,
            2 => Self::Head,
            3 => Self::LastWords,
            4 => Self::Closable,
            5 => Self::Http2,
            6 => Self::Upgraded,
            7 => Self::Closed,
            8 => Self::Busy,
            9 => Self::Responding,
            10 => Self::Flushing,
            11 => Self::Answered,
            12 => Self::Unsettled,
            _ => Self::Idle,
        }
    }
}

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
    /// How many `Held`s there are.
    holds: AtomicUsize,
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
        Held { conn, key }
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

/// Holds the drain for a connection: goes wherever its stream goes, also out of HTTP. The last one to be
/// dropped takes the connection off the table.
#[derive(Debug)]
pub(crate) struct Held {
    conn: Arc<Conn>,
    key: Key,
}

impl Held {
    #[inline]
    pub(crate) fn conn(&self) -> &Arc<Conn> {
        &self.conn
    }

    /// Whether nobody else holds the connection.
    pub(crate) fn is_last(&self) -> bool {
        self.conn.holds.load(Ordering::Acquire) == 1
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        // Relaxed, as in `Arc::clone`: whoever clones holds it, too.
        self.conn.holds.fetch_add(1, Ordering::Relaxed);
        Self { conn: self.conn.clone(), key: self.key }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // As in `Arc`: what the others did comes before what the last one does.
        if self.conn.holds.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.conn.set_state(State::Closed);
            self.conn.handle.shared().finished(self.key, Kind::Connection);
        }
    }
}

#[cfg(all(test, graceful_loom))]
mod loom_models {
    use loom::{future::block_on, thread};
    use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

    use super::{Conn, Held, State};
    use crate::{
        handle::{Handle, Owns},
        http::listener::Peer,
        in_flight::InFlight,
        limits::Limits,
        phase::Phase,
        work::{Kind, Piece},
    };

    fn handle() -> Handle {
        let limits =
            Limits { timeout: None, delay: Duration::ZERO, linger: Duration::ZERO, cleanup: None };
        Handle::new(limits, Owns::Nothing, tokio::sync::mpsc::unbounded_channel().0)
    }

    /// What the task of a connection does about the phases: it ends when it sees `last`.
    fn run_until(last: Phase, held: Held) {
        let conn = held.conn().clone();
        block_on(poll_fn(|cx| {
            conn.register(cx.waker());
            if conn.phase() >= last { Poll::Ready(()) } else { Poll::Pending }
        }));
        drop(held);
        assert_eq!(conn.state(), State::Closed);
    }

    /// The accept loop, as far as the table is concerned.
    struct Door;

    impl Piece for Door {
        fn describe(&self, _: std::time::Instant, _: &mut Vec<InFlight>) {}
        fn kind(&self) -> Kind {
            Kind::Other
        }
    }

    /// One is accepted while the drain starts, and ends as soon as it hears of it; the door closes.
    /// The drain is over when both are, whoever is last.
    #[test]
    fn loom_accept_and_finish_against_drain_start() {
        loom::model(|| {
            let handle = handle();
            let door = handle.shared().work.add(Arc::new(Door));
            let accept = {
                let handle = handle.clone();
                thread::spawn(move || {
                    let held = Conn::accepted(&handle, Peer::Unix);
                    let task = thread::spawn(move || run_until(Phase::Draining, held));
                    handle.shared().finished(door, Kind::Other);
                    task.join().unwrap();
                })
            };
            let shared = handle.shared();
            shared.phase.advance(Phase::Draining);
            shared.work.drain();
            block_on(shared.work.none());
            accept.join().unwrap();
            assert!(shared.work.is_none());
        });
    }

    /// One is accepted at any point of drain and cut, and would go on for good: the cut ends it.
    #[test]
    fn loom_accept_against_drain_and_cut() {
        loom::model(|| {
            let handle = handle();
            let task = {
                let handle = handle.clone();
                thread::spawn(move || run_until(Phase::Cut, Conn::accepted(&handle, Peer::Unix)))
            };
            let shared = handle.shared();
            shared.phase.advance(Phase::Draining);
            shared.work.drain();
            shared.phase.advance(Phase::Cut);
            shared.work.cut();
            task.join().unwrap();
            assert!(shared.work.is_none());
        });
    }

    /// The report is made while a request begins on a connection that has answered one before.
    #[test]
    fn loom_a_request_is_never_called_by_the_name_of_the_one_before() {
        loom::model(|| {
            let handle = handle();
            let held = Conn::accepted(&handle, Peer::Unix);
            held.conn().bytes_read(b"GET /a HTTP/1.1\r\n\r\n");
            held.conn().enter(State::Idle);
            let task = thread::spawn(move || {
                held.conn().bytes_read(b"GET /b HTTP/1.1\r\n\r\n");
                assert!(held.conn().request_begins(Some(0)));
                held
            });
            if let [InFlight::Request { path, .. }] = &handle.in_flight()[..] {
                // Or it was being written.
                assert!(path == "/b" || path == "?", "{path}");
            }
            drop(task.join().unwrap());
        });
    }

    /// The stream and a task of HTTP/2 hold a connection; each may be the last, also while the table is
    /// walked. It is taken off once, and is not closed before.
    #[test]
    fn loom_the_last_of_several_holders_takes_it_off() {
        loom::model(|| {
            let handle = handle();
            let held = Conn::accepted(&handle, Peer::Unix);
            let other = held.clone();
            let holders = [held, other].map(|held| {
                thread::spawn(move || {
                    held.conn().set_state(State::Http2);
                    assert_ne!(held.conn().state(), State::Closed);
                })
            });
            handle.shared().work.drain();
            holders.into_iter().for_each(|holder| holder.join().unwrap());
            assert!(handle.shared().work.is_none());
            assert_eq!(handle.shared().work.counts().connections, 0);
        });
    }
}
