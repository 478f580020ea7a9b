//! What a connection finds out about its delivery while the drain lasts.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{conn::ConnCore, kernel::Facts};

/// A connection's part of the drain.
#[derive(Debug)]
pub(crate) struct ConnDrain {
    /// When the connection has learned of it.
    pub(crate) since: Instant,
    /// The latest answer of the kernel, as long as it holds.
    pub(crate) view: Option<KernelView>,
    /// The local address, once it is known: most connections are never asked for it.
    local: Option<SocketAddr>,
}

/// What the kernel knew of a connection when it was last asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelView {
    pub(crate) at: Instant,
    pub(crate) round_trip: Duration,
    /// When the client has last acknowledged something.
    pub(crate) last_ack: Option<Instant>,
    /// Whether something had not reached the client's system.
    pub(crate) undelivered: bool,
    /// How much that has room for; more than before, where the client has read meanwhile.
    pub(crate) window: Option<u32>,
    /// When the client had last certainly not read everything.
    pub(crate) last_unread: Option<Instant>,
}

impl ConnDrain {
    pub(crate) fn new(since: Instant) -> Self {
        Self { since, view: None, local: None }
    }

    /// The connection is being closed: from here on it is asked for alone.
    pub(crate) fn closes(&mut self, local: Option<SocketAddr>) {
        self.view = None;
        self.local = self.local.or(local);
    }

    /// Asks the kernel. What it cannot say counts as delivered, and as near.
    ///
    /// `active` is when the connection has last done anything. With `window_counts`, a client whose
    /// window grows is still reading. Returns whether something has not been delivered.
    pub(crate) fn ask(
        &mut self,
        core: &ConnCore,
        active: Instant,
        window_counts: bool,
        local: impl FnOnce() -> Option<SocketAddr>,
    ) -> bool {
        let facts = self.facts(core, active, local);
        let at = Instant::now();
        let undelivered = facts.map_or(0, |facts| facts.undelivered);
        let window = facts.and_then(|facts| facts.window);
        let before = self.view.as_ref();
        let reads = window_counts && before.is_some_and(|before| before.window < window);
        let last_unread = before.and_then(|before| before.last_unread);
        self.view = Some(KernelView {
            at,
            round_trip: facts.map(|facts| facts.round_trip).unwrap_or_default(),
            last_ack: facts.and_then(|facts| facts.last_ack),
            undelivered: undelivered > 0,
            window,
            last_unread: if undelivered > 0 || reads { Some(at) } else { last_unread },
        });
        core.set_delivery(undelivered, undelivered > 0 || reads);
        undelivered > 0
    }

    fn facts(
        &mut self,
        core: &ConnCore,
        active: Instant,
        local: impl FnOnce() -> Option<SocketAddr>,
    ) -> Option<Facts> {
        let (kernel, peer) = core.kernel()?;
        if self.local.is_none() {
            let at_the_drain = kernel.at_the_drain(peer);
            self.local = at_the_drain.map(|facts| facts.local).or_else(local);
            // That holds if the connection has done nothing since, and is asked again where it says
            // that something is on its way.
            let holds = |facts: &Facts| facts.undelivered == 0 && active < facts.at;
            if let Some(facts) = at_the_drain.filter(holds) {
                return Some(facts);
            }
        }
        kernel.ask(self.local?, peer)
    }
}
