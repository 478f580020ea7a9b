//! The accept loop of a listener: as long as the process serves, and then until nobody is on the way to it any
//! more.

use std::{
    collections::HashSet,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{conn::Conn, io::Io, server::MakeConnection};
use crate::{
    failure::Failure,
    handle::Handle,
    net::{
        kernel::Kernel,
        listener::{Listener, Peer},
        stream::Stream,
    },
    phase::Phase,
    race::{First, race, within},
    serve::LocalAddr,
};

/// For how long a handshake that is under way holds the drain: a port scan leaves some behind that never
/// complete.
const HANDSHAKE: Duration = Duration::from_secs(1);

/// How often the kernel is asked whether a handshake has come to nothing. Those that complete are heard of at
/// once.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// How many are let in at the drain where new clients cannot be turned away: as many as Linux keeps in a
/// queue, unless told otherwise (`net.core.somaxconn`, listen(2)). Clients that never stop connecting
/// must not hold the exit.
const QUEUE: usize = 4096;

/// The waits between tries while the system is out of descriptors or memory.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts until the drain has let in whoever was on the way. What is accepted late is served like the rest.
pub(crate) fn run(
    handle: Handle,
    listener: Listener,
    name: String,
    maker: Arc<dyn MakeConnection>,
) -> impl Future<Output = Result<(), Failure>> + Send {
    let kernel = match listener.local_addr() {
        Ok(LocalAddr::Tcp(addr)) => Some(Arc::new(Kernel::new(addr, listener.inode()))),
        Ok(LocalAddr::Unix(_)) | Err(_) => None,
    };
    let mut door = Door { handle: handle.clone(), listener, name, maker, kernel };
    async move {
        if let First::Right(never) =
            race(handle.shared().phase.reached(Phase::Draining), door.serve()).await
        {
            match never {}
        }
        if door.listener.is_shared() {
            return Ok(());
        }
        let Some(late) = door.close().await else {
            return Ok(());
        };
        // Somebody's handshake takes its time. For as long as the rest of the drain takes anyway, whoever it
        // brings is let in, too. This does not hold the drain.
        let runtime = handle.runtime().clone();
        runtime.spawn(async move {
            let over = handle.shared().phase.reached(Phase::Cleanup);
            race(over, door.let_in(late, None)).await;
        });
        Ok(())
    }
}

struct Door {
    handle: Handle,
    listener: Listener,
    name: String,
    maker: Arc<dyn MakeConnection>,
    /// What the kernel knows of this listener; `None`: it is a Unix socket.
    kernel: Option<Arc<Kernel>>,
}

impl Door {
    /// Accepts for good.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what is accepted is served within the same poll.
    async fn serve(&mut self) -> std::convert::Infallible {
        let mut trouble = Trouble::default();
        loop {
            match poll_fn(|cx| self.listener.poll_accept(cx)).await {
                Ok((stream, peer)) => {
                    trouble.is_over(self);
                    self.admit(stream, peer);
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => trouble.wait(self, &error, LONGEST_PAUSE).await,
            }
        }
    }

    fn admit(&mut self, stream: Stream, peer: Peer) {
        let held = Conn::accepted(&self.handle, peer, self.kernel.clone());
        self.maker.spawn(Io::new(stream, held));
    }

    /// Turns new clients away, then serves those that were on the way before. Returns whose handshake is
    /// still not complete after a second.
    async fn close(&mut self) -> Option<HashSet<SocketAddr>> {
        let refused = self.listener.refuse_new();
        let Some(kernel) = self.kernel.clone().filter(|_| refused) else {
            self.empty_queue(if refused { usize::MAX } else { QUEUE }).await;
            return None;
        };
        // Before the queue is emptied: a handshake that completes meanwhile is in one of the two. Nobody is
        // added to these any more.
        let arriving = kernel.arriving();
        self.empty_queue(usize::MAX).await;
        let until = Instant::now() + HANDSHAKE;
        if let Some(arriving) = arriving {
            return self.let_in(arriving, Some(until)).await;
        }
        // Nobody can say who is on the way: whoever comes within that time is let in.
        let rest = until.saturating_duration_since(Instant::now());
        within(Some(rest), self.serve()).await;
        None
    }

    /// Serves those of `arriving` that arrive, and whoever else is in the queue, until nobody is on the way
    /// any more: then returns `None`. Else, at `until`, whoever still is.
    async fn let_in(
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
        let mut trouble = Trouble::default();
        let mut count = 0;
        while count < most {
            match self.listener.try_accept() {
                Ok((stream, peer)) => {
                    trouble.is_over(self);
                    count += 1;
                    self.admit(stream, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_of_the_connection(&error) => count += 1,
                // Out of descriptors, which says nothing of the queue.
                Err(_) if !self.listener.has_waiting() => return,
                Err(error) => trouble.wait(self, &error, FIRST_PAUSE).await,
            }
        }
    }
}

/// Errors of the connection that was to be accepted, not of the listener (accept(2), "Error handling").
fn is_of_the_connection(error: &io::Error) -> bool {
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

/// The system is out of descriptors or memory (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`).
#[derive(Default)]
struct Trouble {
    since: Option<Instant>,
    pause: Duration,
}

impl Trouble {
    /// Says so, once, and waits: each time longer, up to `longest`.
    async fn wait(&mut self, door: &Door, error: &io::Error, longest: Duration) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            door.handle.shared().log.accept_failed(&door.name, error);
        }
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, longest);
        tokio::time::sleep(self.pause).await;
    }

    fn is_over(&mut self, door: &Door) {
        if let Some(since) = self.since.take() {
            self.pause = Duration::ZERO;
            door.handle.shared().log.accepting_again(&door.name, since.elapsed());
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
        assert!(errors(&connection).iter().all(is_of_the_connection));
        let listener =
            [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::BADF, Errno::INVAL];
        assert!(!errors(&listener).iter().any(is_of_the_connection));
    }
}
