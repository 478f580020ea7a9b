//! The accept loop of a listener: as long as the process serves, and then until nobody is waiting in
//! front of the door any more.

use std::{
    future::{Future, poll_fn},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    conn::Conn,
    io::Io,
    listener::{Listener, Peer},
    server::MakeConnection,
    stream::Stream,
};
use crate::{
    failure::Failure,
    handle::Handle,
    phase::Phase,
    race::{First, race, within},
};

/// How long the queue has to stay empty after the door is shut: handshakes that were under way may
/// still complete. Measured: without it, 7 of 70,615 one-request connections were lost in 30 restarts.
const WATCH: Duration = Duration::from_millis(5);

/// A listener that had nobody come for so long is not watched: an idle process exits at once.
const RECENT: Duration = Duration::from_secs(1);

/// How many are let in at the drain where new clients cannot be turned away: as many as Linux keeps in a
/// queue, unless told otherwise (`net.core.somaxconn`, listen(2)). Clients that never stop connecting
/// must not hold the exit.
const QUEUE: usize = 4096;

/// The waits between tries while the system is out of descriptors or memory.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts until the drain has emptied the queue. What is accepted late is served like the rest.
pub(crate) fn run(
    handle: Handle,
    listener: Listener,
    name: String,
    maker: Arc<dyn MakeConnection>,
) -> impl Future<Output = Result<(), Failure>> + Send {
    let mut door = Door { handle: handle.clone(), listener, name, maker, last: None };
    async move {
        if let First::Right(never) =
            race(handle.shared().phase.reached(Phase::Draining), door.serve()).await
        {
            match never {}
        }
        if door.listener.is_shared() {
            return Ok(());
        }
        if !door.close().await {
            return Ok(());
        }
        // Nobody new comes any more, but handshakes that were under way may still complete. For as long
        // as the rest of the drain takes anyway, whoever they bring is let in, too. This does not hold
        // the drain.
        let runtime = handle.runtime().clone();
        runtime.spawn(async move {
            let over = handle.shared().phase.reached(Phase::Cleanup);
            race(over, door.serve()).await;
        });
        Ok(())
    }
}

struct Door {
    handle: Handle,
    listener: Listener,
    name: String,
    maker: Arc<dyn MakeConnection>,
    /// When the latest connection was accepted.
    last: Option<Instant>,
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
                Err(error) => trouble.wait(self, &error).await,
            }
        }
    }

    fn admit(&mut self, stream: Stream, peer: Peer) {
        self.last = Some(Instant::now());
        self.maker.spawn(Io::new(stream, Conn::accepted(&self.handle, peer)));
    }

    /// Turns new clients away, then serves those that the kernel has let in before. Returns whether more
    /// may come.
    async fn close(&mut self) -> bool {
        let handshakes_go_on = self.listener.refuse_new();
        let recent = self.last.is_some_and(|last| last.elapsed() < RECENT);
        let mut watch = handshakes_go_on && recent;
        let mut trouble = Trouble::default();
        let most = if handshakes_go_on { usize::MAX } else { QUEUE };
        loop {
            match self.empty_queue(most) {
                Ok(any) => watch |= any && handshakes_go_on,
                // Somebody is waiting, and there is no descriptor to be had.
                Err(error) => {
                    trouble.wait(self, &error).await;
                    continue;
                }
            }
            if !watch {
                return handshakes_go_on;
            }
            // The queue is empty now. It has to stay so for a while.
            let next = poll_fn(|cx| self.listener.poll_accept(cx));
            match within(Some(WATCH), next).await {
                Some(Ok((stream, peer))) => self.admit(stream, peer),
                // `empty_queue` meets it, too.
                Some(Err(_)) => {}
                None => watch = false,
            }
        }
    }

    /// Accepts what the kernel has ready, within reason; returns whether there was anything.
    fn empty_queue(&mut self, most: usize) -> io::Result<bool> {
        let mut any = false;
        for _ in 0..most {
            match self.listener.try_accept() {
                Ok((stream, peer)) => {
                    any = true;
                    self.admit(stream, peer);
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) => return Err(error),
            }
        }
        Ok(any)
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
    /// Says so, once, and waits: each time longer.
    async fn wait(&mut self, door: &Door, error: &io::Error) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            door.handle.shared().log.accept_failed(&door.name, error);
        }
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        tokio::time::sleep(self.pause).await;
    }

    fn is_over(&mut self, door: &Door) {
        if let Some(since) = self.since.take() {
            self.pause = Duration::ZERO;
            door.handle.shared().log.accepting_again(&door.name, since.elapsed());
        }
    }
}
