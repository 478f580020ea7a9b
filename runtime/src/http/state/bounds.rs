//! From a state to the moment at which something has to happen without anything from the client:
//! the last two columns of the table in `table.rs`.

#![allow(clippy::match_same_arms, reason = "a table: a line for each group of states")]

use std::time::{Duration, Instant};

use super::table::State::{
    self, Answered, Busy, Closed, Closing, Delivering, Flushing, Fresh, Head, Http2, Idle, Named,
    Queued, Responding, Upgraded,
};
use crate::net::{KernelView, TICK};

/// How long a head may take to become complete once the drain has started.
const HEAD_GRACE: Duration = Duration::from_secs(1);

/// How long an HTTP/2 client may take to answer the PING that comes with GOAWAY, once it has
/// received all.
const PONG_GRACE: Duration = Duration::from_secs(1);

/// How often the kernel is asked for an answer that it has yet to give.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// All that a bound may depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    pub(crate) accepted: Instant,
    /// When the state was entered, or what it goes on with began: see `State::notes_time`.
    pub(crate) since: Instant,
    /// When this connection has learned of the drain.
    pub(crate) draining: Option<Instant>,
    pub(crate) header_timeout: Option<Duration>,
    pub(crate) in_service: InService,
    pub(crate) linger: Duration,
    /// What the kernel knew when it was last asked; `None`: nothing that still holds.
    pub(crate) view: Option<KernelView>,
    /// Whether an HTTP/2 stream is still worked on, or its response not yet all written.
    pub(crate) has_streams: bool,
    /// Since when half a record of TLS has been there, or half a frame of HTTP/2.
    pub(crate) partial: Option<Instant>,
}

/// What bounds a connection while nothing drains, where the program has set it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InService {
    /// How long it may be idle.
    pub(crate) keep_alive: Option<Duration>,
    /// When it is old enough.
    pub(crate) retires: Option<Instant>,
}

/// What is to be done when a deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    AskKernel,
    /// The connection is to end as in the drain, although nothing drains.
    Retire,
    /// The connection is over, whatever it is at.
    End,
}

impl Moments {
    /// When a grace begins: with the state or with the drain, whichever is later, and not before
    /// the client has read what there is.
    fn after_reading(&self, draining: Instant, view: &KernelView) -> Instant {
        let entered = self.since.max(draining);
        view.last_unread.map_or(entered, |seen| seen.max(entered))
    }

    /// Half a record where nothing is under way is half a head.
    fn half_a_head(&self, state: State) -> Option<Instant> {
        self.partial.filter(|_| matches!(state, Fresh | Idle | Delivering))
    }

    /// How long half a head of this moment may take, once the drain has started.
    fn head_grace(&self, since: Instant, draining: Instant) -> Instant {
        let grace = since.max(draining) + HEAD_GRACE;
        self.header_deadline(since).map_or(grace, |limit| limit.min(grace))
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
                Named | Queued | Busy | Responding | Flushing | Answered | Idle | Delivering
                | Http2 => self.deadline_in_service(moments),
                // What is closed has a clock of its own.
                Upgraded | Closing | Closed => None,
            };
        };
        if let Some(since) = moments.half_a_head(self) {
            return Some(moments.head_grace(since, draining));
        }
        let entered = since.max(draining);
        // Where the kernel has not been asked yet, that comes first.
        let known = |deadline: &dyn Fn(&KernelView) -> Instant| {
            Some(match &moments.view {
                None => draining,
                Some(view) if view.is_to_come => view.at + ASK_AGAIN,
                Some(view) => deadline(view),
            })
        };
        match self {
            Fresh => known(&|view| since + linger + 2 * view.round_trip),
            Head => Some(moments.head_grace(since, draining)),
            Named | Queued => Some(entered + HEAD_GRACE),
            Idle => known(&|view| {
                // As the client sees it: its next request takes as long to come here as this took
                // to get there.
                let seen = [Some(since + view.round_trip), view.last_ack, view.last_unread];
                seen.into_iter().flatten().max().unwrap_or(since) + linger
            }),
            Delivering => known(&|view| view.at + view.round_trip.max(TICK)),
            Http2 if moments.has_streams => None,
            Http2 => known(&|view| {
                let read = moments.after_reading(draining, view);
                moments.partial.map_or(read, |since| since.max(read)) + PONG_GRACE
            }),
            Busy | Responding | Flushing | Answered | Upgraded | Closing | Closed => None,
        }
    }

    /// By what the program has set. Work that is under way is left alone; when the connection is old
    /// enough, it learns that this was its last.
    fn deadline_in_service(self, moments: &Moments) -> Option<Instant> {
        let Moments { since, in_service, has_streams, .. } = moments;
        let own = match self {
            Idle | Delivering if moments.partial.is_some() => {
                moments.partial.and_then(|since| moments.header_deadline(since))
            }
            Idle | Delivering => in_service.keep_alive.map(|limit| *since + limit),
            Http2 if !has_streams => in_service.keep_alive.map(|limit| *since + limit),
            _ => None,
        };
        own.into_iter().chain(in_service.retires).min()
    }

    /// What is to be done when that has passed.
    pub(crate) fn due(self, moments: &Moments) -> Due {
        let in_service = moments.draining.is_none();
        let known = moments.view.as_ref().filter(|view| !view.is_to_come);
        match self {
            Fresh | Head if in_service => Due::End,
            _ if in_service && self.deadline(moments) == moments.in_service.retires => Due::Retire,
            _ if moments.half_a_head(self).is_some() => Due::End,
            Idle | Delivering if in_service => Due::End,
            Http2 if in_service => Due::Retire,
            Fresh | Idle | Http2 | Delivering if known.is_none() => Due::AskKernel,
            Delivering => Due::AskKernel,
            // Something may have been written since then, or read.
            Http2 if known.map(|view| view.at) < self.deadline(moments) => Due::AskKernel,
            Fresh | Head | Named | Queued | Idle | Http2 => Due::End,
            // They have no deadline of their own.
            Busy | Responding | Flushing | Answered | Upgraded | Closing | Closed => Due::End,
        }
    }
}
