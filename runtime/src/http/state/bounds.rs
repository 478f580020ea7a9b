//! From a state to the moment at which something has to happen without anything from the client:
//! the last two columns of the table in `table.rs`.

#![allow(clippy::match_same_arms, reason = "a table: a line for each group of states")]

use std::time::{Duration, Instant};

use super::table::State::{
    self, Answered, Busy, Closed, Closing, Delivering, Expired, Flushing, Fresh, Head, Http2, Idle,
    Named, Queued, Responding, Upgraded,
};
use crate::net::KernelView;

/// How long a head may take to become complete once the drain has started.
const HEAD_GRACE: Duration = Duration::from_secs(1);

/// How long an HTTP/2 client may take to answer the PING that comes with GOAWAY, once it has
/// received all.
const PONG_GRACE: Duration = Duration::from_secs(1);

/// How long hyper may take to end a connection of which it was told that it is over: no time at
/// all.
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
    /// What the kernel knew when it was last asked; `None`: nothing that still holds.
    pub(crate) view: Option<KernelView>,
    /// Whether an HTTP/2 stream is still worked on, or its response not yet all written.
    pub(crate) has_streams: bool,
}

/// What is to be done when a deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    AskKernel,
    /// An idle connection is over.
    Expire,
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
        let known = |deadline: &dyn Fn(&KernelView) -> Instant| {
            Some(moments.view.as_ref().map_or(draining, deadline))
        };
        match self {
            Fresh => known(&|view| accepted + linger + 2 * view.round_trip),
            Head => {
                let grace = entered + HEAD_GRACE;
                Some(moments.header_deadline(since).map_or(grace, |limit| limit.min(grace)))
            }
            Named | Queued => Some(entered + HEAD_GRACE),
            Idle => known(&|view| {
                // As the client sees it: its next request takes as long to come here as this took
                // to get there.
                let seen = [Some(since + view.round_trip), view.last_ack, view.last_unread];
                seen.into_iter().flatten().max().unwrap_or(since) + linger
            }),
            Delivering => known(&|view| view.at + view.round_trip.max(TICK)),
            Expired => Some(since + END_GRACE),
            Http2 if moments.has_streams => None,
            Http2 => known(&|view| moments.after_reading(draining, view) + PONG_GRACE),
            Closing => known(&|view| {
                if view.undelivered {
                    view.at + view.round_trip.max(TICK)
                } else {
                    moments.after_reading(draining, view) + LINGERING_CLOSE_DRAINING
                }
            }),
            Busy | Responding | Flushing | Answered | Upgraded | Closed => None,
        }
    }

    /// What is to be done when that has passed.
    pub(crate) fn due(self, moments: &Moments) -> Due {
        let in_service = moments.draining.is_none();
        let known = moments.view.as_ref();
        match self {
            Fresh | Idle | Closing | Http2 | Delivering if in_service => Due::End,
            Fresh | Idle | Closing | Http2 | Delivering if known.is_none() => Due::AskKernel,
            Delivering => Due::AskKernel,
            // Something may have been written since then, or read.
            Closing | Http2 if known.map(|view| view.at) < self.deadline(moments) => Due::AskKernel,
            Idle => Due::Expire,
            Fresh | Head | Named | Queued | Expired | Http2 | Closing => Due::End,
            Busy | Responding | Flushing | Answered | Upgraded | Closed => Due::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Each of them at a time of its own, so that none is taken for another.
    fn moments(start: Instant) -> Moments {
        Moments {
            accepted: start,
            since: start + ms(10_000),
            draining: None,
            header_timeout: Some(ms(30_000)),
            linger: ms(250),
            view: None,
            has_streams: false,
        }
    }

    fn view(start: Instant) -> KernelView {
        KernelView {
            at: start + ms(20_100),
            round_trip: ms(70),
            last_ack: Some(start + ms(10_500)),
            undelivered: false,
            window: None,
            last_unread: None,
        }
    }

    /// The deadlines in milliseconds from the accept.
    fn deadlines(moments: &Moments) -> Vec<(State, u128)> {
        let millis = |at: Instant| at.duration_since(moments.accepted).as_millis();
        let all = State::ALL.iter();
        all.filter_map(|it| it.deadline(moments).map(|at| (*it, millis(at)))).collect()
    }

    #[test]
    fn in_service() {
        let start = Instant::now();
        let moments = moments(start);
        let expected = [(Fresh, 30_000), (Head, 40_000), (Expired, 11_000), (Closing, 15_000)];
        assert_eq!(deadlines(&moments), expected);
        for (state, _) in expected {
            assert_eq!(state.due(&moments), Due::End, "{state:?}");
        }
        let without = Moments { header_timeout: None, ..moments };
        assert_eq!(deadlines(&without), expected[2..]);
    }

    #[test]
    fn in_the_drain_the_kernel_is_asked_first() {
        let start = Instant::now();
        let draining = Moments { draining: Some(start + ms(20_000)), ..moments(start) };
        let asked_first = [Fresh, Idle, Delivering, Http2, Closing];
        for state in asked_first {
            assert_eq!(state.deadline(&draining), draining.draining, "{state:?}");
            assert_eq!(state.due(&draining), Due::AskKernel, "{state:?}");
        }
        let others = deadlines(&draining).into_iter().filter(|(it, _)| !asked_first.contains(it));
        let expected = [(Head, 21_000), (Named, 21_000), (Queued, 21_000), (Expired, 11_000)];
        assert_eq!(others.collect::<Vec<_>>(), expected);
        // Entered after the drain; and a header timeout that is nearer than the second.
        let late = Moments { since: start + ms(20_400), header_timeout: Some(ms(300)), ..draining };
        assert_eq!(Named.deadline(&late), Some(start + ms(21_400)));
        assert_eq!(Head.deadline(&late), Some(start + ms(20_700)));
    }

    #[test]
    fn in_the_drain_as_the_client_sees_it() {
        let start = Instant::now();
        let at = |millis| Some(start + ms(millis));
        let known = Moments { draining: at(20_000), view: Some(view(start)), ..moments(start) };
        // From the accept two round trips more; from the last acknowledgement the linger.
        assert_eq!((Fresh.deadline(&known), Fresh.due(&known)), (at(250 + 140), Due::End));
        assert_eq!((Idle.deadline(&known), Idle.due(&known)), (at(10_750), Due::Expire));
        assert_eq!(
            (Delivering.deadline(&known), Delivering.due(&known)),
            (at(20_170), Due::AskKernel)
        );
        // A look that is older than the deadline is void by then; one that is younger is the last.
        assert_eq!((Http2.deadline(&known), Http2.due(&known)), (at(21_000), Due::AskKernel));
        assert_eq!((Closing.deadline(&known), Closing.due(&known)), (at(21_000), Due::AskKernel));
        let viewed = |change: &dyn Fn(&mut KernelView)| {
            let mut view = view(start);
            change(&mut view);
            Moments { view: Some(view), ..known }
        };
        let fresh_view = viewed(&|view| view.at = start + ms(21_000));
        assert_eq!((Http2.due(&fresh_view), Closing.due(&fresh_view)), (Due::End, Due::End));
        let no_ack = viewed(&|view| view.last_ack = None);
        assert_eq!(Idle.deadline(&no_ack), at(10_000 + 70 + 250));
        let unread = viewed(&|view| view.last_unread = at(20_050));
        assert_eq!(Idle.deadline(&unread), at(20_300));
        assert_eq!((Http2.deadline(&unread), Closing.deadline(&unread)), (at(21_050), at(21_050)));
        let undelivered = viewed(&|view| view.undelivered = true);
        assert_eq!(Closing.deadline(&undelivered), at(20_170));
        let near = viewed(&|view| (view.undelivered, view.round_trip) = (true, ms(1)));
        assert_eq!((Closing.deadline(&near), Delivering.deadline(&near)), (at(20_110), at(20_110)));
        let busy = Moments { has_streams: true, ..known };
        assert_eq!(Http2.deadline(&busy), None);
    }
}
