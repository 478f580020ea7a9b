//! The accept loop of a listener: it runs as long as the process serves, and then until no client
//! is on the way any more.

use std::{
    collections::HashSet,
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    addr::{LocalAddr, Peer},
    kernel::Kernel,
    listener::Listener,
    stream::Stream,
};
use crate::{
    log::{Log, millis, say},
    stop::{Phase, Shared},
    util::{Failure, First, HumanDuration, race, within},
};

/// For how long a handshake that is under way holds the drain: a port scan leaves some behind that
/// never complete.
const HANDSHAKE: Duration = Duration::from_secs(1);

/// How often the kernel is asked whether a handshake has come to nothing. One that completes is
/// heard of at once.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// How many connections are accepted at the drain if new clients cannot be turned away: as many as
/// Linux keeps in a queue, unless told otherwise (`net.core.somaxconn`, listen(2)). Clients that
/// never stop connecting must not hold the exit.
const QUEUE: usize = 4096;

/// The waits between tries while the system is out of descriptors or memory.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Makes a connection of an accepted stream. The type of the protocol, and of the service behind
/// it, is known only behind this.
pub(crate) trait MakeConnection: Send + Sync {
    /// Counts the connection before it returns, and spawns its task.
    fn make(&self, accepted: Accepted);
}

/// A stream that has just been accepted.
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    pub(crate) peer: Peer,
    /// What the kernel knows of the listener's connections; `None`: it is a Unix socket.
    pub(crate) kernel: Option<Arc<Kernel>>,
}

/// The accept loop of one listener.
pub(crate) struct AcceptLoop {
    shared: Arc<Shared>,
    listener: Listener,
    addr: LocalAddr,
    name: String,
    maker: Arc<dyn MakeConnection>,
    kernel: Option<Arc<Kernel>>,
}

impl AcceptLoop {
    /// # Errors
    ///
    /// If the listener does not say where it listens.
    pub(crate) fn new(
        shared: Arc<Shared>,
        listener: Listener,
        maker: Arc<dyn MakeConnection>,
    ) -> Result<Self, Failure> {
        let addr = listener.local_addr().map_err(Failure::from_error)?;
        let kernel = addr.tcp().map(|addr| Arc::new(Kernel::new(addr, listener.inode())));
        Ok(Self { shared, listener, name: addr.to_string(), addr, maker, kernel })
    }

    /// What the server is called in messages: its address.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn local_addr(&self) -> &LocalAddr {
        &self.addr
    }

    /// Accepts until the drain has let in every client that was on the way. What is accepted late
    /// is served like the rest.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        let shared = self.shared.clone();
        let draining = shared.phase.reached(Phase::Draining);
        if let First::Right(never) = race(draining, self.serve()).await {
            match never {}
        }
        if self.listener.is_shared() {
            return Ok(());
        }
        let Some(late) = self.close().await else {
            return Ok(());
        };
        // The handshake of a slow client. For as long as the rest of the drain takes anyway, the
        // connections that it leads to are accepted, too. This does not hold the drain.
        shared.runtime().spawn(async move {
            let over = self.shared.clone();
            race(over.phase.reached(Phase::Cleanup), self.await_arriving(late, None)).await;
        });
        Ok(())
    }

    /// Accepts forever.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what is accepted is served within the same poll.
    async fn serve(&mut self) -> std::convert::Infallible {
        let mut backoff = Backoff::default();
        loop {
            match poll_fn(|cx| self.listener.poll_accept(cx)).await {
                Ok((stream, peer)) => {
                    backoff.end(&self.shared.log, &self.name);
                    self.admit(stream, peer);
                }
                Err(error) if is_connection_error(&error) => {}
                Err(error) => {
                    backoff.wait(&self.shared.log, &self.name, &error, LONGEST_PAUSE).await;
                }
            }
        }
    }

    fn admit(&mut self, stream: Stream, peer: Peer) {
        self.maker.make(Accepted { stream, peer, kernel: self.kernel.clone() });
    }

    /// Turns new clients away, then serves those that were on the way before. Returns the clients
    /// whose handshake is still not complete after a second.
    async fn close(&mut self) -> Option<HashSet<SocketAddr>> {
        let refused = self.listener.refuse_new();
        let Some(kernel) = self.kernel.clone().filter(|_| refused) else {
            self.empty_queue(if refused { usize::MAX } else { QUEUE }).await;
            return None;
        };
        // Before the queue is emptied: a handshake that completes meanwhile is in one of the two.
        // No client is added to these any more.
        let arriving = kernel.arriving();
        self.empty_queue(usize::MAX).await;
        let until = Instant::now() + HANDSHAKE;
        if let Some(arriving) = arriving {
            return self.await_arriving(arriving, Some(until)).await;
        }
        // The kernel cannot say who is on the way: all that come within that time are accepted.
        let rest = until.saturating_duration_since(Instant::now());
        within(Some(rest), self.serve()).await;
        None
    }

    /// Accepts those of `arriving` that arrive, and all others in the queue, until no client is on
    /// the way any more: then returns `None`. Else, at `until`, returns those that still are.
    async fn await_arriving(
        &mut self,
        mut arriving: HashSet<SocketAddr>,
        until: Option<Instant>,
    ) -> Option<HashSet<SocketAddr>> {
        let kernel = self.kernel.clone()?;
        while !arriving.is_empty() {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Some(arriving);
            }
            within(Some(ASK_AGAIN), self.accept_one()).await;
            // In this order, as above.
            let still = kernel.arriving()?;
            arriving.retain(|client| still.contains(client));
            self.empty_queue(usize::MAX).await;
        }
        None
    }

    /// # Cancel safety
    ///
    /// Cancel safe, as `serve` is.
    async fn accept_one(&mut self) {
        match poll_fn(|cx| self.listener.poll_accept(cx)).await {
            Ok((stream, peer)) => self.admit(stream, peer),
            // `empty_queue` meets it, too; until then there is nothing to wait for.
            Err(_) => std::future::pending().await,
        }
    }

    /// Accepts what the kernel has ready, `most` at the most.
    async fn empty_queue(&mut self, most: usize) {
        let mut backoff = Backoff::default();
        let mut count = 0;
        while count < most {
            match self.listener.try_accept() {
                Ok((stream, peer)) => {
                    backoff.end(&self.shared.log, &self.name);
                    count += 1;
                    self.admit(stream, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_connection_error(&error) => count += 1,
                // Out of descriptors, which says nothing of the queue.
                Err(_) if !self.listener.has_waiting() => return,
                Err(error) => backoff.wait(&self.shared.log, &self.name, &error, FIRST_PAUSE).await,
            }
        }
    }
}

/// Errors of the connection that was to be accepted, not of the listener (accept(2), "Error
/// handling").
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

/// The pauses while the system is out of descriptors or memory (`EMFILE`, `ENFILE`, `ENOBUFS`,
/// `ENOMEM`).
#[derive(Default)]
struct Backoff {
    since: Option<Instant>,
    pause: Duration,
}

impl Backoff {
    /// Says so, once, and waits: each time longer, up to `longest`.
    async fn wait(&mut self, log: &Log, server: &str, error: &io::Error, longest: Duration) {
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

    /// A connection was accepted.
    fn end(&mut self, log: &Log, server: &str) {
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
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn errors_of_a_connection_are_no_errors_of_the_listener() {
        let errors = |kinds: &[rustix::io::Errno]| -> Vec<_> {
            kinds.iter().map(|kind| io::Error::from_raw_os_error(kind.raw_os_error())).collect()
        };
        // accept(2), "Error handling": already pending network errors on the new socket.
        let connection = [
            Errno::NETDOWN,
            Errno::CONNABORTED,
            Errno::CONNRESET,
            Errno::HOSTUNREACH,
            Errno::NETUNREACH,
            Errno::TIMEDOUT,
            Errno::INTR,
        ];
        assert!(errors(&connection).iter().all(is_connection_error));
        let listener =
            [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::BADF, Errno::INVAL];
        assert!(!errors(&listener).iter().any(is_connection_error));
    }
}
