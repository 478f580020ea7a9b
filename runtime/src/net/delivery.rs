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

/// How long a client may acknowledge nothing of what it is owed, where the process serves on and
/// only this connection is to end: as long as the probes of `tcp_keepalive` wait by default.
const ABANDONED: Duration = Duration::from_secs(15);

/// A connection's part of the drain.
#[derive(Debug)]
pub(crate) struct ConnDrain {
    /// When the connection has learned of it.
    pub(crate) since: Instant,
    /// The latest answer of the kernel, as long as it holds.
    pub(crate) view: Option<KernelView>,
    /// When the kernel last looked: the next answer must be newer. `active` alone does not ensure
    /// that, because a connection that only waits for its client stays as it is.
    answered: Option<Instant>,
    /// How many bytes are undelivered, and since when it has been that many.
    unchanged: Option<(u32, Instant)>,
    /// The local address, once it is known: most connections are never asked for it.
    local: Option<SocketAddr>,
}

/// The kernel's view of a connection when it was last asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelView {
    pub(crate) at: Instant,
    /// Whether the kernel has yet to answer: the rest is of the answer before, if there was one.
    pub(crate) is_to_come: bool,
    pub(crate) round_trip: Duration,
    /// When the client has last acknowledged something.
    pub(crate) last_ack: Option<Instant>,
    /// Whether something had not reached the client's system.
    pub(crate) undelivered: bool,
    /// Whether bytes of the client waited to be read.
    pub(crate) unread: bool,
    /// How much that has room for; more than before, where the client has read meanwhile.
    pub(crate) window: Option<u32>,
    /// When the client had last certainly not read everything.
    pub(crate) last_unread: Option<Instant>,
}

impl KernelView {
    /// Whether something is not delivered, or that is not known yet.
    pub(crate) fn is_open(&self) -> bool {
        self.undelivered || self.is_to_come
    }
}

impl ConnDrain {
    pub(crate) fn new(since: Instant) -> Self {
        Self { since, view: None, answered: None, unchanged: None, local: None }
    }

    /// The connection is being closed: from here on it is asked for alone.
    pub(crate) fn closes(&mut self, local: Option<SocketAddr>) {
        self.view = None;
        self.local = self.local.or(local);
    }

    /// Asks the kernel. What it cannot say counts as delivered, and as near.
    ///
    /// `active` is when the connection has last done anything. With `window_counts`, a client whose
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
            // That holds if the connection has done nothing since, and is asked again where it says
            // that something is on its way.
            let holds = |facts: &TcpInfo| facts.undelivered <= core.goodbye() && active < facts.at;
            if let Some(facts) = at_the_drain.filter(holds) {
                return Answer::Known(facts);
            }
        }
        self.local.map_or(Answer::Unknown, |local| kernel.ask(local, peer, active))
    }

    /// How many bytes of answers have not reached the client's system. Our goodbye is no answer: it
    /// was written last, so it is the last to be acknowledged.
    fn owed(&mut self, core: &ConnCore, facts: &TcpInfo, now: Instant) -> u32 {
        let unchanged = self.unchanged.filter(|(bytes, _)| *bytes == facts.undelivered);
        let (_, since) = *self.unchanged.insert(unchanged.unwrap_or((facts.undelivered, now)));
        // The kernel does not always say when it was.
        let last_ack = facts.last_ack.unwrap_or(since);
        if core.phase() < Phase::Stopping && now > last_ack + ABANDONED {
            return 0;
        }
        facts.undelivered.saturating_sub(core.goodbye())
    }
}
