//! From a state to the moment at which something has to happen without anything from the client: the last two
//! columns of the table in `state.rs`.

#![allow(clippy::match_same_arms, reason = "a table: a line for each group of states")]

use std::time::{Duration, Instant};

use super::state::State::{
    self, Answered, Busy, Closed, Closing, Delivering, Expired, Flushing, Fresh, Head, Http2, Idle,
    Named, Queued, Responding, Upgraded,
};

/// How long a head may take to become complete once the drain has started.
const HEAD_GRACE: Duration = Duration::from_secs(1);

/// How long an HTTP/2 client may take to answer the PING that comes with GOAWAY, once it has received all.
const PONG_GRACE: Duration = Duration::from_secs(1);

/// How long hyper may take to end a connection of which it was told that it is over: no time at all.
const END_GRACE: Duration = Duration::from_secs(1);

/// How long a client that is still sending after the last response is read from: long enough for it
/// to see the response; short where a process wants to exit.
const LINGERING_CLOSE: Duration = Duration::from_secs(5);
const LINGERING_CLOSE_DRAINING: Duration = Duration::from_secs(1);

/// The kernel is not asked about one connection more often than its clock ticks.
const TICK: Duration = Duration::from_millis(10);

/// All that a bound may depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    pub(crate) accepted: Instant,
    /// When the state was entered, or what it goes on with began: see `State::notes_time`.
    pub(crate) since: Instant,
    /// When this connection has learned of the drain.
    pub(crate) draining: Option<Instant>,
    pub(crate) header_timeout: Option<Duration>,
    pub(crate) linger: Duration,
    /// The latest look at what the kernel knows; `None`: none that still holds.
    pub(crate) look: Option<Look>,
    /// Whether an HTTP/2 stream is still worked on, or its response not yet all written.
    pub(crate) has_streams: bool,
}

/// What the kernel knew of a connection when it was last asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
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

/// What is to be done when a deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The kernel has to be asked.
    Look,
    /// An idle connection is over.
    Expire,
    /// The connection is over, whatever it is at.
    End,
}

impl Moments {
    /// When a grace begins: with the state or with the drain, whichever is later, and not before the client has
    /// read what there is.
    fn after_reading(&self, draining: Instant, look: &Look) -> Instant {
        let entered = self.since.max(draining);
        look.last_unread.map_or(entered, |seen| seen.max(entered))
    }

    fn header_deadline(&self, since: Instant) -> Option<Instant> {
        self.header_timeout.map(|limit| since + limit)
    }
}

impl State {
    /// When something is to happen without anything from the client; `None`: not before the limit.
    pub(crate) fn deadline(self, moments: &Moments) -> Option<Instant> {
        let Moments { accepted, since, linger, .. } = *moments;
        let Some(draining) = moments.draining else {
            return match self {
                Fresh => moments.header_deadline(accepted),
                Head => moments.header_deadline(since),
                Expired => Some(since + END_GRACE),
                Closing => Some(since + LINGERING_CLOSE),
                Named | Queued | Busy | Responding | Flushing | Answered | Idle | Delivering => {
                    None
                }
                Http2 | Upgraded | Closed => None,
            };
        };
        let entered = since.max(draining);
        // Where the kernel has not been asked yet, that comes first.
        let known = |deadline: &dyn Fn(&Look) -> Instant| {
            Some(moments.look.as_ref().map_or(draining, deadline))
        };
        match self {
            Fresh => known(&|look| accepted + linger + 2 * look.round_trip),
            Head => {
                let grace = entered + HEAD_GRACE;
                Some(moments.header_deadline(since).map_or(grace, |limit| limit.min(grace)))
            }
            Named | Queued => Some(entered + HEAD_GRACE),
            Idle => known(&|look| {
                // As the client sees it: its next request takes as long to come here as this took to get there.
                let seen = [Some(since + look.round_trip), look.last_ack, look.last_unread];
                seen.into_iter().flatten().max().unwrap_or(since) + linger
            }),
            Delivering => known(&|look| look.at + look.round_trip.max(TICK)),
            Expired => Some(since + END_GRACE),
            Http2 if moments.has_streams => None,
            Http2 => known(&|look| moments.after_reading(draining, look) + PONG_GRACE),
            Closing => known(&|look| {
                if look.undelivered {
                    look.at + look.round_trip.max(TICK)
                } else {
                    moments.after_reading(draining, look) + LINGERING_CLOSE_DRAINING
                }
            }),
            Busy | Responding | Flushing | Answered | Upgraded | Closed => None,
        }
    }

    /// What is to be done when that has passed.
    pub(crate) fn due(self, moments: &Moments) -> Due {
        let in_service = moments.draining.is_none();
        let known = moments.look.as_ref();
        match self {
            Fresh | Idle | Closing | Http2 | Delivering if in_service => Due::End,
            Fresh | Idle | Closing | Http2 | Delivering if known.is_none() => Due::Look,
            Delivering => Due::Look,
            // Something may have been written since then, or read.
            Closing | Http2 if known.map(|look| look.at) < self.deadline(moments) => Due::Look,
            Idle => Due::Expire,
            Fresh | Head | Named | Queued | Expired | Http2 | Closing => Due::End,
            Busy | Responding | Flushing | Answered | Upgraded | Closed => Due::End,
        }
    }
}
