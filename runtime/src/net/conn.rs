//! The protocol-independent part of a connection: its peer, its tasks' wakers, and the data that
//! the kernel has not delivered.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    task::Waker,
    time::Instant,
};

#[cfg(feature = "handover")]
use super::hand_over::HandOver;
use super::{clock, kernel::Kernel, moving::Details, sockets::Slot, stream::PendingInput};
use crate::{
    stop::{Fraction, Phase, Shared},
    util::{
        Peer, ProxiedAddrs,
        sync::{
            AtomicBool, AtomicU32, AtomicU64, AtomicUsize, AtomicWaker, Mutex, Ordering, lock,
            register,
        },
    },
    work::{ConnectionState, InFlight, Key, WorkItem},
};

/// A connection in the table of work: one allocation that contains a `ConnCore`.
pub(crate) trait GuardedConn: WorkItem + Sized + 'static {
    fn core(&self) -> &ConnCore;

    /// Called when the last guard is dropped: the connection is over.
    fn closed(&self);

    /// Notes that the connection has gone to the next process.
    fn has_moved(&self);
}

/// Where connections come from: the listener of an accept loop.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The listener, as `moving::key` names it.
    pub(crate) listener: String,
    /// The kernel's view of its connections; `None` for a Unix socket.
    pub(crate) kernel: Option<Kernel>,
}

/// The part of a connection that does not depend on its protocol.
#[derive(Debug)]
pub(crate) struct ConnCore {
    shared: Arc<Shared>,
    /// When it was accepted, by `clock`.
    accepted: u64,
    peer: Peer,
    /// `None` for a Unix socket.
    origin: Option<Arc<Origin>>,
    #[cfg(feature = "handover")]
    hand_over: OnceLock<HandOver>,
    /// Released with the connection; `None` if there is no limit.
    _slot: Option<Slot>,
    /// The addresses from the PROXY header, if there was one.
    proxied: OnceLock<Box<ProxiedAddrs>>,
    /// Whether the steps before the protocol are still in progress.
    is_in_handshake: AtomicBool,
    /// Whether the drain no longer waits for them.
    is_late: AtomicBool,
    /// The number of `ConnGuard`s; only they change it.
    pub(super) guards: AtomicUsize,
    /// The waker of the connection's own task. It stays in place when used, so a task that has
    /// registered once is never missed.
    task: Mutex<Option<Waker>>,
    /// Once the program owns the stream: the task that reads, and the one that writes.
    owners: OnceLock<Box<[AtomicWaker; 2]>>,
    /// Bytes that had not reached the client's system when the kernel was last asked.
    undelivered: AtomicU32,
    /// Whether the client had not read everything at that time, as far as can be known.
    is_unread: AtomicBool,
    /// Whether the client keeps sending after its last response.
    is_sending: AtomicBool,
    /// How many of the last bytes written are not part of a response: the goodbye of TLS or HTTP/2,
    /// and other data that these protocols send on their own.
    goodbye: AtomicU32,
    /// Since when part of a TLS record or of a frame has been waiting for the rest, by `clock`; 0
    /// if there is none.
    partial_since: AtomicU64,
    /// Whether that is certain rather than just possible.
    is_partial_certain: AtomicBool,
}

/// One direction of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Half {
    Read,
    Write,
}

impl ConnCore {
    /// Creates the core of a connection that has just been accepted.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        peer: Peer,
        origin: Option<Arc<Origin>>,
        slot: Option<Slot>,
    ) -> Self {
        Self {
            shared: shared.clone(),
            accepted: clock::now(),
            peer,
            origin,
            #[cfg(feature = "handover")]
            hand_over: OnceLock::new(),
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

    /// The client, as reported by the load balancer if there is one.
    pub(crate) fn peer(&self) -> Peer {
        self.proxied.get().map_or(self.peer, |addrs| Peer::Tcp(addrs.peer))
    }

    /// The addresses from the PROXY header, if there was one.
    pub(super) fn proxied(&self) -> Option<ProxiedAddrs> {
        self.proxied.get().map(|addrs| **addrs)
    }

    #[cfg(feature = "proxy-protocol")]
    pub(super) fn set_proxied(&self, addrs: ProxiedAddrs) {
        // Set once, at the beginning of the connection.
        let _ = self.proxied.set(Box::new(addrs));
    }

    pub(super) fn set_in_handshake(&self, is_in_handshake: bool) {
        self.is_in_handshake.store(is_in_handshake, Ordering::Relaxed);
    }

    pub(super) fn set_late(&self, is_late: bool) {
        self.is_late.store(is_late, Ordering::Relaxed);
    }

    /// Whether its handshake is no longer waited for. Dropping it loses nothing that was accepted.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::Relaxed)
    }

    pub(crate) fn is_in_handshake(&self) -> bool {
        self.is_in_handshake.load(Ordering::Relaxed)
    }

    /// Describes it as a connection in `state`.
    pub(crate) fn in_words(&self, now: Instant, state: ConnectionState) -> InFlight {
        let age = now.saturating_duration_since(self.accepted_at());
        InFlight::Connection { peer: self.peer().to_string(), age, state }
    }

    pub(crate) fn accepted_at(&self) -> Instant {
        clock::instant(self.accepted)
    }

    /// When it was accepted, by `clock`.
    pub(crate) fn accepted_on_the_clock(&self) -> u64 {
        self.accepted
    }

    /// Returns the kernel's view of the listener's connections, and this connection's peer.
    pub(super) fn kernel(&self) -> Option<(&Kernel, SocketAddr)> {
        self.origin.as_ref()?.kernel.as_ref().zip(self.peer.tcp())
    }

    /// Whether bytes of the client wait to be read, at `since` or later, as far as is known.
    pub(crate) fn may_be_unread(&self, since: Instant) -> bool {
        let is_unread = self.kernel().and_then(|(kernel, peer)| kernel.is_unread(peer, since));
        is_unread.unwrap_or(true)
    }

    /// The handle by which it goes to the next process, once it has left HTTP.
    #[cfg(feature = "handover")]
    pub(crate) fn hand_over(&self) -> &HandOver {
        self.hand_over.get_or_init(|| HandOver::new(self.listener().unwrap_or_default()))
    }

    #[cfg(feature = "handover")]
    pub(crate) fn hand_over_if_any(&self) -> Option<&HandOver> {
        self.hand_over.get()
    }

    /// Returns the listener that it came from.
    pub(crate) fn listener(&self) -> Option<&str> {
        Some(&self.origin.as_ref()?.listener)
    }

    /// Describes a connection that has been idle for `idle` to the next process.
    pub(crate) fn details(&self, idle: std::time::Duration) -> Details {
        Details {
            listener: self.listener().unwrap_or_default().to_owned(),
            age: self.accepted_at().elapsed(),
            idle,
            proxied: self.proxied(),
            ..Details::default()
        }
    }

    /// Continues a connection of the process before: it is as old as it was there.
    pub(crate) fn continues(&mut self, details: &Details) {
        self.accepted = clock::ago(details.age);
        if let Some(proxied) = details.proxied {
            self.proxied = OnceLock::from(Box::new(proxied));
        }
    }

    /// Registers the connection's own task, which is woken by every change.
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
        // Outside the lock: the task may be polled immediately.
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Wakes every task that uses the stream.
    pub(crate) fn wake_all(&self) {
        self.wake();
        let owners = self.owners.get().into_iter().flat_map(|owners| owners.iter());
        owners.for_each(AtomicWaker::wake);
    }

    pub(super) fn set_delivery(&self, undelivered: u32, is_unread: bool) {
        // Relaxed, like all accesses below: no other memory depends on these values.
        self.undelivered.store(undelivered, Ordering::Relaxed);
        self.is_unread.store(is_unread, Ordering::Relaxed);
    }

    /// How many bytes have not reached the client's system; `None` if the client has read
    /// everything, as far as can be known.
    pub(crate) fn unread(&self) -> Option<u32> {
        let is_unread = self.is_unread.load(Ordering::Relaxed);
        is_unread.then(|| self.undelivered.load(Ordering::Relaxed))
    }

    /// Notes how many of the last bytes written are not part of a response.
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

    /// Whether part of a record or frame has been read.
    #[inline]
    pub(crate) fn is_partial(&self) -> bool {
        self.partial_since.load(Ordering::Relaxed) != 0
    }

    /// Since when that has been the case. While serving, only certain knowledge counts: a layer may
    /// keep what it has read indefinitely.
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

/// Holds the drain for a connection. It goes wherever the stream goes, even out of its protocol.
/// Dropping the last guard removes the connection from the table.
pub(crate) struct ConnGuard<C: GuardedConn> {
    conn: Arc<C>,
    key: Key,
}

impl<C: GuardedConn> ConnGuard<C> {
    /// Creates the first guard of a connection, which is counted and listed from here on.
    pub(crate) fn first(conn: C) -> Self {
        let conn = Arc::new(conn);
        let shared = conn.core().shared();
        shared.enter_group();
        let key = shared.work.add(conn.clone());
        Self { conn, key }
    }

    #[inline]
    pub(crate) fn conn(&self) -> &Arc<C> {
        &self.conn
    }

    /// Where in the spread its goodbye lies.
    pub(crate) fn fraction(&self) -> Fraction {
        Fraction::nth(self.key.number())
    }

    /// Whether this is the only guard.
    pub(crate) fn is_last(&self) -> bool {
        self.conn.core().guards.load(Ordering::Acquire) == 1
    }
}

impl<C: GuardedConn> Clone for ConnGuard<C> {
    fn clone(&self) -> Self {
        // Relaxed, as in `Arc::clone`: the guard being cloned keeps the count above zero.
        self.conn.core().guards.fetch_add(1, Ordering::Relaxed);
        Self { conn: self.conn.clone(), key: self.key }
    }
}

impl<C: GuardedConn> Drop for ConnGuard<C> {
    fn drop(&mut self) {
        // As in `Arc`: everything done under the other guards happens before the last drop.
        if self.conn.core().guards.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.conn.closed();
            let shared = self.conn.core().shared();
            shared.work.finished(self.key);
            shared.leave_group();
        }
    }
}

impl<C: GuardedConn> fmt::Debug for ConnGuard<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnGuard").field("key", &self.key).finish_non_exhaustive()
    }
}
