//! What a connection is doing: one allocation per connection, written by its own task, read by the
//! drain and the report from outside.

use std::{
    sync::{Arc, OnceLock},
    task::Waker,
    time::{Duration, Instant},
};

use http::{Method, Uri};
use slab::Slab;
use tokio::task::AbortHandle;

use super::{
    label::Label,
    listener::Peer,
    wire::{Progress, Wire},
};
use crate::{
    handle::Handle,
    in_flight::InFlight,
    phase::Phase,
    registry::Key,
    sync::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicWaker, Mutex, Ordering, lock, register,
    },
    work::{Kind, Piece},
};

/// What an HTTP/1 connection is at, or that it is none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Accepted, nothing read yet.
    Fresh,
    /// The first bytes of a head have just been read.
    NewHead,
    /// A head is incomplete.
    Head,
    /// A request is with the service.
    Busy,
    /// The head of the response is out.
    Responding,
    /// The body of the response has ended; its last bytes may not be written yet.
    Flushing,
    /// Answered; whether more of the request's body is to come, or half a head is there, is not known.
    Unsettled,
    /// Answered, nothing read since.
    Idle,
    /// Quiet for too long: to be closed, unless bytes are found in the kernel's buffer.
    Closable,
    /// The write side is shut; what the client still sends is read and dropped.
    LastWords,
    /// HTTP/2: `H2` has the rest.
    Http2,
    /// Not HTTP any more: somebody else owns the stream.
    Upgraded,
    /// The stream is gone.
    Closed,
}

impl State {
    const ALL: [Self; 13] = [
        Self::Fresh,
        Self::NewHead,
        Self::Head,
        Self::Busy,
        Self::Responding,
        Self::Flushing,
        Self::Unsettled,
        Self::Idle,
        Self::Closable,
        Self::LastWords,
        Self::Http2,
        Self::Upgraded,
        Self::Closed,
    ];
}

/// How late a connection may be with its end before that is taken as a sign of blocked threads.
const OVERDUE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) handle: Handle,
    /// Relaxed wherever it is used: one task writes, and whoever reads from outside takes a picture
    /// of a moment that is over anyway. The wake-ups carry the order that matters.
    state: AtomicU8,
    /// Since when: nanoseconds after the handle's epoch.
    since: AtomicU64,
    /// Whether the response that is being flushed was complete.
    answered: AtomicBool,
    /// Polls of the task, and the one in which the current request began: a request that is answered
    /// within one poll needs no second look at the clock.
    polls: AtomicU32,
    began_in: AtomicU32,
    accepted: Instant,
    peer: Peer,
    pub(crate) wire: Wire,
    pub(crate) label: Label,
    /// The connection's task.
    waker: AtomicWaker,
    /// After an upgrade: whoever reads, and whoever writes.
    owners: OnceLock<Box<[AtomicWaker; 2]>>,
    key: OnceLock<Key>,
    h2: OnceLock<Box<Mutex<H2>>>,
}

/// Which half of an upgraded stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Half {
    Read,
    Write,
}

/// The streams of an HTTP/2 connection. Its lock is shared by them alone.
#[derive(Debug, Default)]
struct H2 {
    requests: Slab<Request>,
    tasks: Slab<Arc<OnceLock<AbortHandle>>>,
}

#[derive(Debug)]
struct Request {
    method: Method,
    uri: Uri,
    since: Instant,
    responding: bool,
    upgraded: bool,
}

impl Conn {
    /// A connection that has just been accepted: counted and listed.
    pub(crate) fn accepted(handle: &Handle, peer: Peer) -> (Arc<Self>, Held) {
        let accepted = Instant::now();
        let conn = Arc::new(Self {
            handle: handle.clone(),
            state: AtomicU8::new(State::Fresh as u8),
            since: AtomicU64::new(0),
            answered: AtomicBool::new(false),
            polls: AtomicU32::new(0),
            began_in: AtomicU32::new(0),
            accepted,
            peer,
            wire: Wire::new(),
            label: Label::new(),
            waker: AtomicWaker::new(),
            owners: OnceLock::new(),
            key: OnceLock::new(),
            h2: OnceLock::new(),
        });
        conn.stamp(accepted);
        let key = handle.shared().work.add(conn.clone());
        // The only place that sets it.
        let _ = conn.key.set(key);
        let held = Held(Arc::new(Guard(conn.clone())));
        (conn, held)
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        State::ALL[usize::from(self.state.load(Ordering::Relaxed))]
    }

    #[inline]
    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Enters `state`, now.
    pub(crate) fn enter(&self, state: State) {
        self.stamp(Instant::now());
        self.set_state(state);
    }

    /// The task is being polled.
    #[inline]
    pub(crate) fn polled(&self) {
        let polls = self.polls.load(Ordering::Relaxed);
        self.polls.store(polls.wrapping_add(1), Ordering::Relaxed);
    }

    /// The head of an HTTP/1 request is complete.
    pub(crate) fn request_begins(&self) {
        self.began_in.store(self.polls.load(Ordering::Relaxed), Ordering::Relaxed);
        self.enter(State::Busy);
    }

    fn stamp(&self, now: Instant) {
        let since = now.saturating_duration_since(self.handle.shared().epoch);
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.since.store(nanos, Ordering::Relaxed);
    }

    /// Since when the connection is in its state, as far as the state is one that is timed.
    pub(crate) fn since(&self) -> Instant {
        let nanos = self.since.load(Ordering::Relaxed);
        self.handle.shared().epoch + Duration::from_nanos(nanos)
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.handle.shared().phase.now()
    }

    /// Bytes have been read, while this was HTTP/1 or not yet known to be.
    #[inline]
    pub(crate) fn bytes_read(&self, bytes: &[u8]) {
        let state = self.state();
        match state {
            State::Fresh | State::Idle | State::Closable => {
                self.wire.next_message();
                self.set_state(State::NewHead);
            }
            _ => {}
        }
        let in_head = matches!(
            state,
            State::Fresh | State::Idle | State::Closable | State::NewHead | State::Head
        );
        self.wire.record(bytes, in_head);
    }

    /// All that was written is with the kernel.
    #[inline]
    pub(crate) fn flushed(&self) {
        let state = self.state();
        if !matches!(state, State::Flushing | State::Unsettled) {
            return;
        }
        if state == State::Flushing && self.answered.swap(false, Ordering::Relaxed) {
            self.handle.shared().request_drained();
        }
        match self.wire.progress() {
            Progress::Complete | Progress::LooksComplete => {
                if self.began_in.load(Ordering::Relaxed) != self.polls.load(Ordering::Relaxed) {
                    self.stamp(Instant::now());
                }
                self.set_state(State::Idle);
            }
            Progress::Beyond => {
                self.wire.next_message();
                self.enter(State::Head);
            }
            Progress::Unknown if state == State::Unsettled => {}
            Progress::Unknown => self.enter(State::Unsettled),
            // Somebody still reads the body; hyper flushes again when it is through.
            Progress::Incomplete => {}
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

    /// The response is on its way to the kernel; `complete`: to its end.
    #[inline]
    pub(crate) fn response_ended(&self, complete: bool) {
        self.answered.store(complete, Ordering::Relaxed);
        self.set_state(State::Flushing);
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

    fn h2(&self) -> &Mutex<H2> {
        self.h2.get_or_init(Box::default)
    }

    pub(crate) fn stream_opened(&self, method: Method, uri: Uri) -> usize {
        lock(self.h2()).requests.insert(Request {
            method,
            uri,
            since: Instant::now(),
            responding: false,
            upgraded: false,
        })
    }

    pub(crate) fn stream_responds(&self, stream: usize) {
        lock(self.h2()).requests[stream].responding = true;
    }

    pub(crate) fn stream_upgraded(&self, stream: usize) {
        lock(self.h2()).requests[stream].upgraded = true;
    }

    pub(crate) fn stream_closed(&self, stream: usize) {
        self.h2_less(|h2| drop(h2.requests.remove(stream)));
    }

    /// A place for a task of this connection, and for the means to abort it.
    pub(crate) fn task_slot(&self) -> (usize, Arc<OnceLock<AbortHandle>>) {
        let abort = Arc::new(OnceLock::new());
        (lock(self.h2()).tasks.insert(abort.clone()), abort)
    }

    pub(crate) fn task_spawned(&self, place: &OnceLock<AbortHandle>, abort: AbortHandle) {
        {
            // Under the lock that the cut's walk takes: either it finds the handle, or the phase is
            // visible below.
            let _h2 = lock(self.h2());
            // The only one who sets it.
            let _ = place.set(abort);
        }
        if self.phase() >= Phase::Cut
            && let Some(abort) = place.get()
        {
            abort.abort();
        }
    }

    pub(crate) fn task_ended(&self, slot: usize) {
        self.h2_less(|h2| drop(h2.tasks.remove(slot)));
    }

    /// Takes something off the connection, which has to look up when it was the last.
    fn h2_less(&self, take: impl FnOnce(&mut H2)) {
        let none_left = {
            let mut h2 = lock(self.h2());
            take(&mut h2);
            h2.requests.is_empty() && h2.tasks.is_empty()
        };
        if none_left {
            self.stamp(Instant::now());
            if self.phase() >= Phase::Draining {
                self.wake();
            }
        }
    }

    /// Whether a stream is still worked on, or its response not yet all written.
    pub(crate) fn has_streams(&self) -> bool {
        let busy = |h2: &H2| !(h2.requests.is_empty() && h2.tasks.is_empty());
        self.h2.get().is_some_and(|h2| busy(&lock(h2)))
    }
}

impl Piece for Conn {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        let peer = self.peer.to_string();
        let age = now.saturating_duration_since(self.since());
        let label = || self.label.read().unwrap_or_else(|| ("?".into(), "?".into()));
        let state = self.state();
        match state {
            State::Busy | State::Responding | State::Flushing => {
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
        if let Some(h2) = self.h2.get() {
            for (_, request) in &lock(h2).requests {
                out.push(request.describe(now, peer.clone()));
            }
        }
        if out.len() == before {
            let overdue = self.is_overdue(now);
            let age = now.saturating_duration_since(self.accepted);
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
        if let Some(h2) = self.h2.get() {
            let tasks: Vec<_> = lock(h2).tasks.iter().map(|(_, task)| task.clone()).collect();
            tasks.iter().filter_map(|task| task.get()).for_each(AbortHandle::abort);
        }
    }
}

impl Request {
    fn describe(&self, now: Instant, peer: String) -> InFlight {
        let age = now.saturating_duration_since(self.since);
        let path = self.uri.path().to_owned();
        if self.upgraded {
            return InFlight::Upgraded { path, peer, age };
        }
        let method = self.method.to_string();
        let responding = self.responding;
        InFlight::Request { method, path, peer, age, responding }
    }
}

/// Holds the drain for a connection: goes wherever its stream goes, also out of HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Held(Arc<Guard>);

#[derive(Debug)]
struct Guard(Arc<Conn>);

impl Held {
    pub(crate) fn conn(&self) -> &Arc<Conn> {
        &self.0.0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set_state(State::Closed);
        if let Some(key) = self.0.key.get() {
            self.0.handle.shared().finished(*key, Kind::Connection);
        }
    }
}
