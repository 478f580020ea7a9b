//! The protocol-independent part of a connection: its peer, its tasks' wakers, and what
//! the kernel has not delivered.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    task::Waker,
    time::Instant,
};

use super::{clock, kernel::Kernel, sockets::Slot, stream::PendingInput};
use crate::{
    stop::{Phase, Shared},
    util::{
        Peer, ProxiedAddrs,
        sync::{
            AtomicBool, AtomicU32, AtomicU64, AtomicUsize, AtomicWaker, Mutex, Ordering, lock,
            register,
        },
    },
    work::{ConnectionState, InFlight, Key, WorkItem},
};

/// A connection in the table of work. It is one allocation, which has a `ConnCore` in it.
pub(crate) trait GuardedConn: WorkItem + Sized + 'static {
    fn core(&self) -> &ConnCore;

    /// The last guard is being dropped: the connection is over.
    fn closed(&self);
}

/// The part of a connection that does not depend on its protocol.
#[derive(Debug)]
pub(crate) struct ConnCore {
    shared: Arc<Shared>,
    /// When it was accepted, by `clock`.
    accepted: u64,
    peer: Peer,
    /// `None` for a Unix socket.
    kernel: Option<Arc<Kernel>>,
    /// Given back with the connection; `None`: there is no limit.
    _slot: Option<Slot>,
    /// The addresses from the PROXY header, if there was one.
    proxied: OnceLock<Box<ProxiedAddrs>>,
    /// Whether what comes before the protocol is still under way.
    is_in_handshake: AtomicBool,
    /// Whether the drain does not wait for that any more.
    is_late: AtomicBool,
    /// How many `ConnGuard`s there are. They alone change it.
    pub(super) guards: AtomicUsize,
    /// The connection's own task.
    /// Whoever wakes it leaves the waker there: a task that has registered once is never missed.
    task: Mutex<Option<Waker>>,
    /// Once the stream is in the hands of the program: the task that reads, and the one that
    /// writes.
    owners: OnceLock<Box<[AtomicWaker; 2]>>,
    /// Bytes that have not reached the client's system, when the kernel was last asked.
    undelivered: AtomicU32,
    /// Whether the client had not read everything then, as far as that can be known.
    is_unread: AtomicBool,
    /// Whether the client goes on sending after its last response.
    is_sending: AtomicBool,
    /// How many of the bytes that were written last are no answer: those of our own goodbye, of TLS
    /// and HTTP/2, and what else these protocols say for themselves.
    goodbye: AtomicU32,
    /// Since when a part of something is there, of which nothing has been read by the protocol
    /// above: a TLS record, a frame. By `clock`; 0: there is none.
    partial_since: AtomicU64,
    /// Whether that is known, and not only possible.
    is_partial_certain: AtomicBool,
}

/// One direction of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Half {
    Read,
    Write,
}

impl ConnCore {
    /// For a connection that has just been accepted.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        peer: Peer,
        kernel: Option<Arc<Kernel>>,
        slot: Option<Slot>,
    ) -> Self {
        Self {
            shared: shared.clone(),
            accepted: clock::now(),
            peer,
            kernel,
            _slot: slot,
            proxied: OnceLock::new(),
            is_in_handshake: AtomicBool::new(false),
            is_late: AtomicBool::new(false),
            // The one that `ConnGuard::first` makes.
            guards: AtomicUsize::new(1),
            task: Mutex::new(None),
            owners: OnceLock::new(),
            undelivered: AtomicU32::new(0),
            is_unread: AtomicBool::new(false),
            is_sending: AtomicBool::new(false),
            goodbye: AtomicU32::new(0),
            partial_since: AtomicU64::new(0),
            is_partial_certain: AtomicBool::new(false),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.shared.phase.now()
    }

    /// The client's end, as a load balancer says it, if one does.
    pub(crate) fn peer(&self) -> Peer {
        self.proxied.get().map_or(self.peer, |addrs| Peer::Tcp(addrs.peer))
    }

    /// The addresses from the PROXY header, if there was one.
    pub(super) fn proxied(&self) -> Option<ProxiedAddrs> {
        self.proxied.get().map(|addrs| **addrs)
    }

    #[cfg(feature = "proxy-protocol")]
    pub(super) fn set_proxied(&self, addrs: ProxiedAddrs) {
        // Said once, at the beginning of the connection.
        let _ = self.proxied.set(Box::new(addrs));
    }

    pub(super) fn set_in_handshake(&self, is_in_handshake: bool) {
        self.is_in_handshake.store(is_in_handshake, Ordering::Relaxed);
    }

    pub(super) fn set_late(&self, is_late: bool) {
        self.is_late.store(is_late, Ordering::Relaxed);
    }

    /// Whether it is at a handshake that nobody waits for: nothing is lost with it that was
    /// accepted.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::Relaxed)
    }

    pub(crate) fn is_in_handshake(&self) -> bool {
        self.is_in_handshake.load(Ordering::Relaxed)
    }

    /// It as a connection that is at this.
    pub(crate) fn in_words(&self, now: Instant, state: ConnectionState) -> InFlight {
        let age = now.saturating_duration_since(self.accepted_at());
        InFlight::Connection { peer: self.peer().to_string(), age, state }
    }

    pub(crate) fn accepted_at(&self) -> Instant {
        clock::instant(self.accepted)
    }

    /// By `clock`.
    pub(crate) fn accepted_on_the_clock(&self) -> u64 {
        self.accepted
    }

    /// The kernel's view of the listener's connections, and this one's peer in it.
    pub(super) fn kernel(&self) -> Option<(&Kernel, SocketAddr)> {
        self.kernel.as_deref().zip(self.peer.tcp())
    }

    /// Registers the connection's own task, to be woken by whatever happens to the connection.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut task = lock(&self.task);
        if !task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    /// Registers the owner of one half of the stream to be woken by the cut.
    pub(super) fn register_owner(&self, half: Half, waker: &Waker) {
        let owners = self.owners.get_or_init(|| Box::new([AtomicWaker::new(), AtomicWaker::new()]));
        register(&owners[half as usize], waker);
    }

    /// Wakes the connection's own task.
    pub(crate) fn wake(&self) {
        let task = lock(&self.task).clone();
        // Outside of the lock: the task may be polled at once.
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Wakes all tasks that have to do with the stream.
    pub(crate) fn wake_all(&self) {
        self.wake();
        let owners = self.owners.get().into_iter().flat_map(|owners| owners.iter());
        owners.for_each(AtomicWaker::wake);
    }

    pub(super) fn set_delivery(&self, undelivered: u32, is_unread: bool) {
        // Relaxed, as all that follows: for the report alone, which names what it finds.
        self.undelivered.store(undelivered, Ordering::Relaxed);
        self.is_unread.store(is_unread, Ordering::Relaxed);
    }

    /// How many bytes have not reached the client's system; `None`: the client has read all there
    /// was, as far as that can be known.
    pub(crate) fn unread(&self) -> Option<u32> {
        let is_unread = self.is_unread.load(Ordering::Relaxed);
        is_unread.then(|| self.undelivered.load(Ordering::Relaxed))
    }

    /// Of what was written last, so many bytes are no answer.
    pub(crate) fn set_goodbye(&self, bytes: u64) {
        self.goodbye.store(u32::try_from(bytes).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    pub(super) fn goodbye(&self) -> u32 {
        self.goodbye.load(Ordering::Relaxed)
    }

    /// Notes whether a layer or a protocol has read part of a message.
    #[inline]
    pub(crate) fn note_input(&self, input: PendingInput) {
        let since = self.partial_since.load(Ordering::Relaxed);
        if input == PendingInput::Nothing {
            if since != 0 {
                self.partial_since.store(0, Ordering::Relaxed);
            }
            return;
        }
        self.is_partial_certain.store(input == PendingInput::PartOfRecord, Ordering::Relaxed);
        if since == 0 {
            self.partial_since.store(clock::now(), Ordering::Relaxed);
        }
    }

    /// Whether there is a part of something.
    #[inline]
    pub(crate) fn is_partial(&self) -> bool {
        self.partial_since.load(Ordering::Relaxed) != 0
    }

    /// Since when. While serving only what is known counts: a layer may keep for good what it has
    /// read.
    pub(crate) fn partial_since(&self) -> Option<Instant> {
        let since = self.partial_since.load(Ordering::Relaxed);
        let counts = since != 0
            && (self.is_partial_certain.load(Ordering::Relaxed) || self.phase() >= Phase::Draining);
        counts.then(|| clock::instant(since))
    }

    pub(crate) fn set_sending(&self, is_sending: bool) {
        self.is_sending.store(is_sending, Ordering::Relaxed);
    }

    pub(crate) fn is_sending(&self) -> bool {
        self.is_sending.load(Ordering::Relaxed)
    }
}

// The guard that keeps a connection in the table of work, and the drain waiting for it.

/// Holds the drain for a connection: it goes wherever the stream goes, also out of its protocol.
/// When the last guard is dropped, the connection is taken off the table.
pub(crate) struct ConnGuard<C: GuardedConn> {
    conn: Arc<C>,
    key: Key,
}

impl<C: GuardedConn> ConnGuard<C> {
    /// The first guard of a connection, which is counted and listed from here on.
    pub(crate) fn first(conn: C) -> Self {
        let conn = Arc::new(conn);
        let key = conn.core().shared().work.add(conn.clone());
        Self { conn, key }
    }

    #[inline]
    pub(crate) fn conn(&self) -> &Arc<C> {
        &self.conn
    }

    /// Whether this is the only guard.
    pub(crate) fn is_last(&self) -> bool {
        self.conn.core().guards.load(Ordering::Acquire) == 1
    }
}

impl<C: GuardedConn> Clone for ConnGuard<C> {
    fn clone(&self) -> Self {
        // Relaxed, as in `Arc::clone`: what is cloned is a guard, too.
        self.conn.core().guards.fetch_add(1, Ordering::Relaxed);
        Self { conn: self.conn.clone(), key: self.key }
    }
}

impl<C: GuardedConn> Drop for ConnGuard<C> {
    fn drop(&mut self) {
        // As in `Arc`: what the other guards' owners did comes before what the last one does.
        if self.conn.core().guards.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.conn.closed();
            self.conn.core().shared().work.finished(self.key);
        }
    }
}

impl<C: GuardedConn> fmt::Debug for ConnGuard<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnGuard").field("key", &self.key).finish_non_exhaustive()
    }
}
