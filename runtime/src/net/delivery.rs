//! Tracks the delivery of a connection's data during the drain.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    conn::ConnCore,
    kernel::{Answer, TcpInfo},
};
use crate::stop::Phase;

/// How long a client may acknowledge nothing while the process keeps serving and only this
/// connection is to end: as long as the probes of `tcp_keepalive` wait by default.
const ABANDONED: Duration = Duration::from_secs(15);

/// A connection's part of the drain.
#[derive(Debug)]
pub(crate) struct ConnDrain {
    /// When the connection learned about the drain.
    pub(crate) since: Instant,
    /// The kernel's latest answer, while it is still valid.
    pub(crate) view: Option<KernelView>,
    /// When the kernel last answered; the next answer must be newer. `active` alone does not ensure
    /// that, because it does not change while the connection only waits for its client.
    answered: Option<Instant>,
    /// The number of undelivered bytes, and since when it has been unchanged.
    unchanged: Option<(u32, Instant)>,
    /// The local address, once known; most connections never need it.
    local: Option<SocketAddr>,
}

/// The kernel's view of a connection when it was last asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelView {
    pub(crate) at: Instant,
    /// Whether the answer is still pending; the rest is from the previous answer, if there was one.
    pub(crate) is_to_come: bool,
    pub(crate) round_trip: Duration,
    /// When the client last acknowledged something.
    pub(crate) last_ack: Option<Instant>,
    /// Whether some data had not reached the client's system.
    pub(crate) undelivered: bool,
    /// Whether bytes from the client were waiting to be read.
    pub(crate) unread: bool,
    /// The client's receive window; it grows when the client reads.
    pub(crate) window: Option<u32>,
    /// When the client was last known not to have read everything.
    pub(crate) last_unread: Option<Instant>,
}

impl KernelView {
    /// Whether some data is undelivered, or that is not known yet.
    pub(crate) fn is_open(&self) -> bool {
        self.undelivered || self.is_to_come
    }
}

impl ConnDrain {
    pub(crate) fn new(since: Instant) -> Self {
        Self { since, view: None, answered: None, unchanged: None, local: None }
    }

    /// Marks the connection as closing: from here on, the kernel is asked about it alone.
    pub(crate) fn closes(&mut self, local: Option<SocketAddr>) {
        self.view = None;
        self.local = self.local.or(local);
    }

    /// Asks the kernel. If it does not know, the data counts as delivered, and the client as near.
    ///
    /// `active` is when the connection last did anything. With `window_counts`, a client whose
    /// window grows is still reading.
    pub(crate) fn ask(
        &mut self,
        core: &ConnCore,
        active: Instant,
        window_counts: bool,
        local: impl FnOnce() -> Option<SocketAddr>,
    ) -> KernelView {
        let active = self.answered.map_or(active, |answered| answered.max(active));
        let answer = self.facts(core, active, local);
        let at = Instant::now();
        if let (Answer::Later, Some(before)) = (answer, self.view) {
            // The previous view holds until there is an answer.
            return *self.view.insert(KernelView { at, is_to_come: true, ..before });
        }
        let facts = match answer {
            Answer::Known(facts) => Some(facts),
            Answer::Later | Answer::Unknown => None,
        };
        self.answered = facts.map_or(self.answered, |facts| Some(facts.at));
        let undelivered = facts.map_or(0, |facts| self.owed(core, &facts, at));
        let window = facts.and_then(|facts| facts.window);
        let before = self.view.as_ref();
        let reads = window_counts && before.is_some_and(|before| before.window < window);
        let last_unread = before.and_then(|before| before.last_unread);
        let view = KernelView {
            at,
            is_to_come: answer == Answer::Later,
            round_trip: facts.map(|facts| facts.round_trip).unwrap_or_default(),
            last_ack: facts.and_then(|facts| facts.last_ack),
            undelivered: undelivered > 0,
            unread: facts.is_some_and(|facts| facts.unread),
            window,
            last_unread: if undelivered > 0 || reads { Some(at) } else { last_unread },
        };
        self.view = Some(view);
        core.set_delivery(undelivered, undelivered > 0 || reads);
        view
    }

    fn facts(
        &mut self,
        core: &ConnCore,
        active: Instant,
        local: impl FnOnce() -> Option<SocketAddr>,
    ) -> Answer {
        let Some((kernel, peer)) = core.kernel() else {
            return Answer::Unknown;
        };
        if self.local.is_none() {
            let at_the_drain = match kernel.at_the_drain(peer, active) {
                Answer::Known(facts) => Some(facts),
                Answer::Unknown => None,
                Answer::Later => return Answer::Later,
            };
            self.local = at_the_drain.map(|facts| facts.local).or_else(local);
            // Valid only if the connection has done nothing since and nothing is on the way; else
            // ask again.
            let holds = |facts: &TcpInfo| facts.undelivered <= core.goodbye() && active < facts.at;
            if let Some(facts) = at_the_drain.filter(holds) {
                return Answer::Known(facts);
            }
        }
        self.local.map_or(Answer::Unknown, |local| kernel.ask(local, peer, active))
    }

    /// How many response bytes have not reached the client's system. Our goodbye does not count: it
    /// was written last, so it is acknowledged last.
    fn owed(&mut self, core: &ConnCore, facts: &TcpInfo, now: Instant) -> u32 {
        let unchanged = self.unchanged.filter(|(bytes, _)| *bytes == facts.undelivered);
        let (_, since) = *self.unchanged.insert(unchanged.unwrap_or((facts.undelivered, now)));
        // The kernel does not always report the time.
        let last_ack = facts.last_ack.unwrap_or(since);
        if core.phase() < Phase::Stopping && now > last_ack + ABANDONED {
            return 0;
        }
        facts.undelivered.saturating_sub(core.goodbye())
    }
}
