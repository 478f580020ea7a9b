//! What a connection finds out about itself while the drain lasts.

use std::{net::SocketAddr, time::Instant};

use super::{bounds::Look, conn::Conn, state::Event};
use crate::net::kernel::Facts;

/// A connection's part of the drain.
#[derive(Debug)]
pub(crate) struct Draining {
    /// When the connection has learned of it.
    pub(crate) since: Instant,
    /// The latest look at what the kernel knows, as long as it holds.
    pub(crate) look: Option<Look>,
    /// The local address, once it is known: most connections are never asked for it.
    local: Option<SocketAddr>,
}

impl Draining {
    pub(crate) fn new(since: Instant) -> Self {
        Self { since, look: None, local: None }
    }

    /// What was found out before the connection did something else is void.
    pub(crate) fn forget_what_is_void(&mut self, conn: &Conn) {
        if !conn.state().is_between_messages() || conn.has_streams() {
            self.look = None;
        }
    }

    /// The connection is being closed: from here on it is asked for alone.
    pub(crate) fn closes(&mut self, local: Option<SocketAddr>) {
        self.look = None;
        self.local = self.local.or(local);
    }

    /// Asks the kernel. What it cannot say counts as delivered, and as near.
    pub(crate) fn look(&mut self, conn: &Conn, local: impl FnOnce() -> Option<SocketAddr>) {
        let facts = self.facts(conn, local);
        let at = Instant::now();
        let undelivered = facts.map_or(0, |facts| facts.undelivered);
        let window = facts.and_then(|facts| facts.window);
        let before = self.look.as_ref();
        // The client's system has it, and the client is reading: over HTTP/2 it says so by frames, which a close
        // would answer with a reset. Over HTTP/1 a client that goes on sending gets its second, and no more.
        let is_http2 = conn.streams_if_any().is_some();
        let reads = is_http2 && before.is_some_and(|before| before.window < window);
        let last_unread = before.and_then(|before| before.last_unread);
        self.look = Some(Look {
            at,
            round_trip: facts.map(|facts| facts.round_trip).unwrap_or_default(),
            last_ack: facts.and_then(|facts| facts.last_ack),
            undelivered: undelivered > 0,
            window,
            last_unread: if undelivered > 0 || reads { Some(at) } else { last_unread },
        });
        conn.set_delivery(undelivered, undelivered > 0 || reads);
        conn.on(if undelivered > 0 { Event::Unacknowledged } else { Event::Acknowledged });
    }

    fn facts(&mut self, conn: &Conn, local: impl FnOnce() -> Option<SocketAddr>) -> Option<Facts> {
        let (kernel, peer) = conn.kernel()?;
        if self.local.is_none() {
            let at_the_drain = kernel.at_the_drain(peer);
            self.local = at_the_drain.map(|facts| facts.local).or_else(local);
            // That holds if the connection has done nothing since, and is asked again where it says that
            // something is on its way.
            let holds = |facts: &Facts| facts.undelivered == 0 && conn.since() < facts.at;
            if let Some(facts) = at_the_drain.filter(holds) {
                return Some(facts);
            }
        }
        kernel.ask(self.local?, peer)
    }
}
