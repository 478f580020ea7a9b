//! The accept loop of a listener. It runs while the process serves, then until every client that is
//! already on the way has been accepted.

use std::{
    collections::HashSet,
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    conn::Origin,
    handshake::{LOOK_AGAIN, nobody_is_served},
    kernel::Kernel,
    listener::Listener,
    moving::{self, Arriving, Details},
    sockets::{Slot, Slots},
    stream::Stream,
};
use crate::{
    log::{Log, millis, say},
    stop::{Phase, Shared},
    util::{Failure, First, HumanDuration, LocalAddr, Peer, race, within},
    work::{CountWaiting, TaskGuard},
};

/// How long a handshake in progress holds the drain. Bounded, because port scans leave handshakes
/// behind that never complete.
const HANDSHAKE: Duration = Duration::from_secs(1);

/// How often to ask the kernel whether a handshake has been abandoned. A completed one is noticed
/// immediately.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// How many connections the drain accepts if new clients cannot be turned away: the default length
/// of Linux's accept queue (`net.core.somaxconn`, listen(2)). Clients that never stop connecting
/// must not hold the exit.
const QUEUE: usize = 4096;

/// Turns an accepted stream into a connection. Hides the types of the protocol and of its service.
pub(crate) trait MakeConnection: Send + Sync {
    /// Counts the connection before returning, and spawns its task.
    fn make(&self, accepted: Accepted);
}

/// A stream that has just been accepted.
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    pub(crate) peer: Peer,
    pub(crate) origin: Option<Arc<Origin>>,
    /// `None` if the number of connections is not limited.
    pub(crate) slot: Option<Slot>,
    /// What the process before knew of it; `None`: it was accepted here.
    pub(crate) moved: Option<Box<Details>>,
}

/// A stream that an accept loop lets in.
type Arrival = (Stream, Peer, Option<Before>);

/// What the process before knew of a connection, and what holds the drain until it is counted.
type Before = (Box<Details>, Arc<TaskGuard>);

/// The accept loop of one listener.
pub(crate) struct AcceptLoop {
    shared: Arc<Shared>,
    listener: Arc<Listener>,
    addr: LocalAddr,
    name: String,
    maker: Arc<dyn MakeConnection>,
    origin: Arc<Origin>,
    slots: Slots,
    /// Connections of the process before.
    arrivals: mpsc::UnboundedReceiver<Arriving>,
}

impl AcceptLoop {
    /// # Errors
    ///
    /// If the listener's local address cannot be read.
    pub(crate) fn new(
        shared: Arc<Shared>,
        listener: Listener,
        maker: Arc<dyn MakeConnection>,
        slots: Slots,
        scheme: &str,
    ) -> Result<Self, Failure> {
        let addr = listener.local_addr().map_err(Failure::from_error)?;
        let listener = Arc::new(listener);
        moving::listens(Arc::downgrade(&listener) as _);
        let key = listener.key().map_err(Failure::from_error)?;
        let arrivals = moving::arrivals(&key);
        let kernel = addr.tcp().map(|addr| Kernel::new(addr, listener.inode()));
        let origin = Arc::new(Origin { listener: key, kernel });
        Ok(Self {
            shared,
            listener,
            name: addr.named(scheme),
            addr,
            maker,
            origin,
            slots,
            arrivals,
        })
    }

    /// The server's name in messages: its address.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn local_addr(&self) -> &LocalAddr {
        &self.addr
    }

    /// Returns a function that counts the clients waiting in the kernel's queue.
    pub(crate) fn waiting(&self) -> CountWaiting {
        let (origin, inode) = (self.origin.clone(), self.listener.inode());
        Box::new(move || match &origin.kernel {
            Some(kernel) => kernel.waiting(),
            None => inode.map_or(0, Kernel::waiting_unix),
        })
    }

    /// Accepts until the drain has let in every client that was already on the way. Connections
    /// accepted late are served like the rest.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        let shared = self.shared.clone();
        let origin = self.origin.clone();
        let next = moving::succeeded(&origin.listener);
        let draining = race(shared.phase.reached(Phase::Draining), next);
        let serving = async {
            moving::accepting().await;
            self.serve().await
        };
        race(draining, serving).await;
        self.take_late_arrivals().await;
        moving::decided().await;
        if self.listener.is_shared()
            || self.listener.is_anothers()
            || moving::is_wanted(&origin.listener)
        {
            return Ok(());
        }
        let Some(late) = self.close().await else {
            return Ok(());
        };
        // Handshakes of slow clients: the connections they lead to are accepted as long as other
        // clients are being served anyway. This does not hold the drain.
        shared.spawn_quietly(async move {
            let over = self.shared.clone();
            // The accept loop holds the service, too: see `watch_late` in `handshake.rs`.
            let over = race(over.phase.reached(Phase::Cleanup), nobody_is_served(&over));
            race(over, self.await_arriving(late, None)).await;
        });
        Ok(())
    }

    /// Accepts forever.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an accepted stream is admitted within the same poll.
    async fn serve(&mut self) -> std::convert::Infallible {
        let mut backoff = Backoff::default();
        loop {
            let (accepted, slot) = self.next().await;
            match accepted {
                Ok(arrival) => {
                    backoff.end(&self.shared.log, &self.name);
                    self.admit(arrival, slot);
                }
                Err(error) if is_connection_error(&error) => {}
                Err(error) => {
                    backoff.wait(&self.shared.log, &self.name, &error, LONGEST_PAUSE).await;
                }
            }
        }
    }

    /// Returns the next client and its slot. A listener that waits for clients holds no slot,
    /// because another listener of the same server may need it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an accepted stream is returned within the same poll.
    async fn next(&mut self) -> (io::Result<Arrival>, Option<Slot>) {
        loop {
            let Self { arrivals, listener, slots, shared, name, .. } = self;
            // One of the process before waits for no slot: it has had one there.
            let moved = poll_fn(|cx| poll_moved(arrivals, cx));
            let mut slot = match race(moved, slots.take(&shared.log, name)).await {
                First::Left(arrival) => return (Ok(arrival), slots.take_free()),
                First::Right(slot) => Some(slot),
            };
            let is_limited = matches!(slot, Some(Some(_)));
            let mut given_back = false;
            let accepted = poll_fn(|cx| {
                if given_back {
                    // Woken by the listener: take a slot first, then accept.
                    return Poll::Ready(None);
                }
                if let Poll::Ready(arrival) = poll_moved(arrivals, cx) {
                    return Poll::Ready(Some(Ok(arrival)));
                }
                let accepted = listener.poll_accept(cx);
                let accepted = accepted.map_ok(|(stream, peer)| (stream, peer, None));
                if accepted.is_pending() && is_limited {
                    (slot, given_back) = (None, true);
                }
                accepted.map(Some)
            });
            if let (Some(accepted), Some(slot)) = (accepted.await, slot) {
                return (accepted, slot);
            }
        }
    }

    /// Waits until the limit allows one more connection.
    async fn slot(&self) -> Option<Slot> {
        self.slots.take(&self.shared.log, &self.name).await
    }

    fn admit(&self, (stream, peer, before): Arrival, slot: Option<Slot>) {
        let origin = Some(self.origin.clone());
        let (moved, _hold) = before.unzip();
        self.maker.make(Accepted { stream, peer, origin, slot, moved });
    }

    /// Serves the connections of the process before that have not been let in yet, and those that
    /// it goes on giving while this one drains.
    async fn take_late_arrivals(&mut self) {
        let (_, none) = mpsc::unbounded_channel();
        let mut arrivals = std::mem::replace(&mut self.arrivals, none);
        if !moving::is_taking() {
            // All that came is there.
            arrivals.close();
            while let Some(arriving) = arrivals.recv().await {
                if let Some(arrival) = arriving.into_arrival() {
                    self.admit(arrival, self.slots.take_free());
                }
            }
            // The accept loop has the service: nobody may wait for what it holds.
            return;
        }
        let (shared, maker) = (self.shared.clone(), self.maker.clone());
        let (origin, slots) = (self.origin.clone(), self.slots.clone());
        self.shared.spawn_quietly(async move {
            let taking = async {
                while let Some(arriving) = arrivals.recv().await {
                    if let Some((stream, peer, before)) = arriving.into_arrival() {
                        let (moved, _hold) = before.unzip();
                        let (origin, slot) = (Some(origin.clone()), slots.take_free());
                        maker.make(Accepted { stream, peer, origin, slot, moved });
                    }
                }
            };
            race(shared.phase.reached(Phase::Cleanup), taking).await;
        });
    }

    /// Turns new clients away, then accepts those that were already on the way. Returns the clients
    /// whose handshakes are still incomplete after a second.
    async fn close(&mut self) -> Option<HashSet<SocketAddr>> {
        let refused = self.listener.refuse_new();
        let origin = self.origin.clone();
        let Some(kernel) = origin.kernel.as_ref().filter(|_| refused) else {
            self.empty_queue(if refused { usize::MAX } else { QUEUE }).await;
            return None;
        };
        // Before emptying the queue, so that a handshake that completes in between is in one of the
        // two. No client is added to this set from here on.
        let arriving = kernel.arriving();
        self.empty_queue(usize::MAX).await;
        let until = Instant::now() + HANDSHAKE;
        if let Some(arriving) = arriving {
            return self.await_arriving(arriving, Some(until)).await;
        }
        // The kernel cannot tell who is on the way, so accept everyone who arrives within that
        // time.
        let rest = until.saturating_duration_since(Instant::now());
        within(Some(rest), self.serve()).await;
        None
    }

    /// Accepts the clients in `arriving` as they arrive, and all others in the queue. Returns
    /// `None` once no client is on the way any more, or, at `until`, the clients that still are.
    async fn await_arriving(
        &mut self,
        mut arriving: HashSet<SocketAddr>,
        until: Option<Instant>,
    ) -> Option<HashSet<SocketAddr>> {
        let origin = self.origin.clone();
        let kernel = origin.kernel.as_ref()?;
        while !arriving.is_empty() {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Some(arriving);
            }
            // Late handshakes are checked less often.
            let again = if until.is_some() { ASK_AGAIN } else { LOOK_AGAIN };
            within(Some(again), self.accept_one()).await;
            // In this order: see `close`.
            let still = kernel.arriving()?;
            arriving.retain(|client| still.contains(client));
            self.empty_queue(usize::MAX).await;
        }
        None
    }

    /// # Cancel safety
    ///
    /// Cancel safe, like `serve`.
    async fn accept_one(&mut self) {
        let (accepted, slot) = self.next().await;
        match accepted {
            Ok(arrival) => self.admit(arrival, slot),
            // `empty_queue` meets the same error; until then there is nothing to do but wait.
            Err(_) => std::future::pending().await,
        }
    }

    /// Accepts the connections that the kernel has ready, at most `most`.
    async fn empty_queue(&mut self, most: usize) {
        let mut backoff = Backoff::default();
        let mut count = 0;
        while count < most {
            let slot = self.slot().await;
            match self.listener.try_accept() {
                Ok((stream, peer)) => {
                    backoff.end(&self.shared.log, &self.name);
                    count += 1;
                    self.admit((stream, peer, None), slot);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_connection_error(&error) => count += 1,
                // Out of descriptors, which `accept` reports before it looks at the queue.
                Err(_) if !self.listener.has_waiting() => return,
                Err(error) => backoff.wait(&self.shared.log, &self.name, &error, FIRST_PAUSE).await,
            }
        }
    }
}

/// Polls for a connection of the process before; never ready, once there are no more.
fn poll_moved(
    arrivals: &mut mpsc::UnboundedReceiver<Arriving>,
    cx: &mut Context<'_>,
) -> Poll<Arrival> {
    while let Poll::Ready(Some(arriving)) = arrivals.poll_recv(cx) {
        if let Some(arrival) = arriving.into_arrival() {
            return Poll::Ready(arrival);
        }
    }
    Poll::Pending
}

impl Arriving {
    /// `None`: it is no connection any more.
    fn into_arrival(self) -> Option<Arrival> {
        let Self { moved, hold } = self;
        let (stream, peer, details) = moved.into_stream().ok()?;
        Some((stream, peer, Some((Box::new(details), hold))))
    }
}

/// Whether the error concerns the connection being accepted rather than the listener (accept(2),
/// "Error handling").
fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::Interrupted
            | Kind::HostUnreachable
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::TimedOut
    )
}

// Backing off while the system is out of resources.

/// The bounds of the pauses between attempts.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(10);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Backs off while the system is out of descriptors or memory (`EMFILE`, `ENFILE`, `ENOBUFS`,
/// `ENOMEM`).
#[derive(Default)]
pub(super) struct Backoff {
    since: Option<Instant>,
    pause: Duration,
}

impl Backoff {
    /// Logs the error once, then waits, longer each time up to `longest`.
    pub(super) async fn wait(
        &mut self,
        log: &Log,
        server: &str,
        error: &io::Error,
        longest: Duration,
    ) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            say!(
                log, warn, { server = server.to_owned(), error = error.to_string() },
                "{server}: cannot accept: {error}; trying again until it works"
            );
        }
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, longest);
        tokio::time::sleep(self.pause).await;
    }

    /// Resets the backoff after a successful accept.
    pub(super) fn end(&mut self, log: &Log, server: &str) {
        if let Some(since) = self.since.take() {
            self.pause = Duration::ZERO;
            let after = since.elapsed();
            say!(
                log, info, { server = server.to_owned(), elapsed_ms = millis(after) },
                "{server}: accepting again after {}", HumanDuration(after)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn errors_of_a_connection_are_no_errors_of_the_listener() {
        let errors = |kinds: &[Errno]| -> Vec<_> {
            kinds.iter().map(|kind| io::Error::from(*kind)).collect()
        };
        // accept(2), "Error handling": already pending network errors on the new socket.
        let connection = [
            Errno::ENETDOWN,
            Errno::ECONNABORTED,
            Errno::ECONNRESET,
            Errno::EHOSTUNREACH,
            Errno::ENETUNREACH,
            Errno::ETIMEDOUT,
            Errno::EINTR,
        ];
        assert!(errors(&connection).iter().all(is_connection_error));
        let listener = [
            Errno::EMFILE,
            Errno::ENFILE,
            Errno::ENOBUFS,
            Errno::ENOMEM,
            Errno::EBADF,
            Errno::EINVAL,
        ];
        assert!(!errors(&listener).iter().any(is_connection_error));
    }
}
