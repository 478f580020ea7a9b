//! What every connection has, whatever protocol it speaks: its peer, its tasks' wakers, and what
//! the kernel has not delivered.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    task::Waker,
    time::Instant,
};

use super::{clock, kernel::Kernel, slots::Slot};
use crate::{
    stop::{Phase, Shared},
    util::sync::{AtomicBool, AtomicU32, AtomicUsize, AtomicWaker, Ordering, register},
    util::{Ends, Peer},
    work::{Doing, InFlight, WorkItem},
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
    /// What a load balancer has said of the two ends, if it has.
    ends: OnceLock<Box<Ends>>,
    /// Whether what comes before the protocol is still under way.
    is_shaking: AtomicBool,
    /// How many `ConnGuard`s there are. They alone change it.
    pub(super) guards: AtomicUsize,
    /// The connection's own task.
    task: AtomicWaker,
    /// Once the stream is in the hands of the program: the task that reads, and the one that
    /// writes.
    owners: OnceLock<Box<[AtomicWaker; 2]>>,
    /// Bytes that have not reached the client's system, when the kernel was last asked.
    undelivered: AtomicU32,
    /// Whether the client had not read everything then, as far as that can be known.
    is_unread: AtomicBool,
    /// Whether the client goes on sending after its last response.
    is_sending: AtomicBool,
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
            ends: OnceLock::new(),
            is_shaking: AtomicBool::new(false),
            // The one that `ConnGuard::first` makes.
            guards: AtomicUsize::new(1),
            task: AtomicWaker::new(),
            owners: OnceLock::new(),
            undelivered: AtomicU32::new(0),
            is_unread: AtomicBool::new(false),
            is_sending: AtomicBool::new(false),
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
        self.ends.get().map_or(self.peer, |ends| Peer::Tcp(ends.peer))
    }

    /// What a load balancer has said.
    pub(super) fn ends(&self) -> Option<Ends> {
        self.ends.get().map(|ends| **ends)
    }

    #[cfg(feature = "proxy-protocol")]
    pub(super) fn set_ends(&self, ends: Ends) {
        // Said once, at the beginning of the connection.
        let _ = self.ends.set(Box::new(ends));
    }

    pub(super) fn set_shaking(&self, is_shaking: bool) {
        self.is_shaking.store(is_shaking, Ordering::Relaxed);
    }

    pub(crate) fn is_shaking(&self) -> bool {
        self.is_shaking.load(Ordering::Relaxed)
    }

    /// It as a connection that is at this.
    pub(crate) fn in_words(&self, now: Instant, doing: Doing) -> InFlight {
        let age = now.saturating_duration_since(self.accepted_at());
        InFlight::Connection { peer: self.peer().to_string(), age, doing }
    }

    pub(crate) fn accepted_at(&self) -> Instant {
        clock::instant(self.accepted)
    }

    /// By `clock`.
    pub(crate) fn accepted_on_the_clock(&self) -> u64 {
        self.accepted
    }

    /// What the kernel knows of this listener's connections, and which of them this is.
    pub(super) fn kernel(&self) -> Option<(&Kernel, SocketAddr)> {
        self.kernel.as_deref().zip(self.peer.tcp())
    }

    /// Has `waker` woken by the next thing that happens to the connection, once.
    pub(crate) fn register(&self, waker: &Waker) {
        register(&self.task, waker);
    }

    /// Has the owner of one half of the stream woken by the cut.
    pub(super) fn register_owner(&self, half: Half, waker: &Waker) {
        let owners = self.owners.get_or_init(|| Box::new([AtomicWaker::new(), AtomicWaker::new()]));
        register(&owners[half as usize], waker);
    }

    /// Wakes the connection's own task.
    pub(crate) fn wake(&self) {
        self.task.wake();
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

    pub(crate) fn set_sending(&self, is_sending: bool) {
        self.is_sending.store(is_sending, Ordering::Relaxed);
    }

    pub(crate) fn is_sending(&self) -> bool {
        self.is_sending.load(Ordering::Relaxed)
    }
}
