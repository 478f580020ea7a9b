//! From a state to the moment at which something has to happen without anything from the client:
//! the last two columns of the table in `table.rs`.

#![allow(clippy::match_same_arms, reason = "a table: a line for each group of states")]

use std::time::{Duration, Instant};

use super::table::ConnState::{
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
pub(crate) struct Timestamps {
    pub(crate) accepted: Instant,
    /// When the state was entered, or what it goes on with began: see `ConnState::notes_time`.
    pub(crate) since: Instant,
    /// When this connection has learned of the drain.
    pub(crate) draining: Option<Instant>,
    pub(crate) header_timeout: Option<Duration>,
    pub(crate) serving: ServingLimits,
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
pub(crate) struct ServingLimits {
    /// How long it may be idle.
    pub(crate) keep_alive: Option<Duration>,
    /// When it is old enough.
    pub(crate) retires: Option<Instant>,
}

/// What is to be done when a deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    AskKernel,
    /// The connection is to end as in the drain, although nothing drains.
    Retire,
    /// The connection is over, whatever it is at.
    End,
}

impl Timestamps {
    /// When a grace begins: with the state or with the drain, whichever is later, and not before
    /// the client has read what there is.
    fn after_reading(&self, draining: Instant, view: &KernelView) -> Instant {
        let entered = self.since.max(draining);
        view.last_unread.map_or(entered, |seen| seen.max(entered))
    }

    /// Half a record where nothing is under way is half a head.
    fn half_a_head(&self, state: ConnState) -> Option<Instant> {
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

impl ConnState {
    /// When something is to happen without anything from the client; `None`: not before the limit.
    pub(crate) fn deadline(self, timestamps: &Timestamps) -> Option<Instant> {
        let Timestamps { accepted, since, linger, .. } = *timestamps;
        let Some(draining) = timestamps.draining else {
            return match self {
                Fresh => timestamps.header_deadline(accepted),
                Head => timestamps.header_deadline(since),
                Named | Queued | Busy | Responding | Flushing | Answered | Idle | Delivering
                | Http2 => self.deadline_while_serving(timestamps),
                // What is closed has a clock of its own.
                Upgraded | Closing | Closed => None,
            };
        };
        if let Some(since) = timestamps.half_a_head(self) {
            return Some(timestamps.head_grace(since, draining));
        }
        let entered = since.max(draining);
        // Where the kernel has not been asked yet, that comes first.
        let known = |deadline: &dyn Fn(&KernelView) -> Instant| {
            Some(match &timestamps.view {
                None => draining,
                Some(view) if view.is_to_come => view.at + ASK_AGAIN,
                Some(view) => deadline(view),
            })
        };
        match self {
            Fresh => known(&|view| since + linger + 2 * view.round_trip),
            Head => Some(timestamps.head_grace(since, draining)),
            Named | Queued => Some(entered + HEAD_GRACE),
            Idle => known(&|view| {
                // As the client sees it: its next request takes as long to come here as this took
                // to get there.
                let seen = [Some(since + view.round_trip), view.last_ack, view.last_unread];
                seen.into_iter().flatten().max().unwrap_or(since) + linger
            }),
            Delivering => known(&|view| view.at + view.round_trip.max(TICK)),
            Http2 if timestamps.has_streams => None,
            Http2 => known(&|view| {
                let read = timestamps.after_reading(draining, view);
                timestamps.partial.map_or(read, |since| since.max(read)) + PONG_GRACE
            }),
            Busy | Responding | Flushing | Answered | Upgraded | Closing | Closed => None,
        }
    }

    /// By what the program has set. Work that is under way is left alone; when the connection is old
    /// enough, it learns that this was its last.
    fn deadline_while_serving(self, timestamps: &Timestamps) -> Option<Instant> {
        let Timestamps { since, serving, has_streams, .. } = timestamps;
        let own = match self {
            Idle | Delivering if timestamps.partial.is_some() => {
                timestamps.partial.and_then(|since| timestamps.header_deadline(since))
            }
            Idle | Delivering => serving.keep_alive.map(|limit| *since + limit),
            Http2 if !has_streams => serving.keep_alive.map(|limit| *since + limit),
            _ => None,
        };
        own.into_iter().chain(serving.retires).min()
    }

    /// What is to be done when that has passed.
    pub(crate) fn action(self, timestamps: &Timestamps) -> Action {
        let serving = timestamps.draining.is_none();
        let known = timestamps.view.as_ref().filter(|view| !view.is_to_come);
        match self {
            Fresh | Head if serving => Action::End,
            _ if serving && self.deadline(timestamps) == timestamps.serving.retires => {
                Action::Retire
            }
            _ if timestamps.half_a_head(self).is_some() => Action::End,
            Idle | Delivering if serving => Action::End,
            Http2 if serving => Action::Retire,
            Fresh | Idle | Http2 | Delivering if known.is_none() => Action::AskKernel,
            Delivering => Action::AskKernel,
            // Something may have been written since then, or read.
            Http2 if known.map(|view| view.at) < self.deadline(timestamps) => Action::AskKernel,
            Fresh | Head | Named | Queued | Idle | Http2 => Action::End,
            // They have no deadline of their own.
            Busy | Responding | Flushing | Answered | Upgraded | Closing | Closed => Action::End,
        }
    }
}

/// The deadlines of every state, each moment at a time of its own.
#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Each of them at a time of its own, so that none is taken for another.
    fn timestamps(start: Instant) -> Timestamps {
        Timestamps {
            accepted: start,
            since: start + ms(10_000),
            draining: None,
            header_timeout: Some(ms(30_000)),
            serving: ServingLimits::default(),
            linger: ms(250),
            view: None,
            has_streams: false,
            partial: None,
        }
    }

    fn view(start: Instant) -> KernelView {
        KernelView {
            at: start + ms(20_100),
            is_to_come: false,
            round_trip: ms(70),
            last_ack: Some(start + ms(10_500)),
            undelivered: false,
            unread: false,
            window: None,
            last_unread: None,
        }
    }

    /// The deadlines in milliseconds from the accept.
    fn deadlines(timestamps: &Timestamps) -> Vec<(ConnState, u128)> {
        let millis = |at: Instant| at.duration_since(timestamps.accepted).as_millis();
        let all = ConnState::ALL.iter();
        all.filter_map(|it| it.deadline(timestamps).map(|at| (*it, millis(at)))).collect()
    }

    #[test]
    fn serving() {
        let start = Instant::now();
        let timestamps = timestamps(start);
        let expected = [(Fresh, 30_000), (Head, 40_000)];
        assert_eq!(deadlines(&timestamps), expected);
        for (state, _) in expected {
            assert_eq!(state.action(&timestamps), Action::End, "{state:?}");
        }
        let without = Timestamps { header_timeout: None, ..timestamps };
        assert_eq!(deadlines(&without), []);
    }

    #[test]
    fn in_service_as_the_program_has_set() {
        let start = Instant::now();
        let at = |millis| Some(start + ms(millis));
        let limit = |serving| Timestamps { serving, ..timestamps(start) };
        let idle = limit(ServingLimits { keep_alive: Some(ms(5_000)), ..ServingLimits::default() });
        assert_eq!((Idle.deadline(&idle), Idle.action(&idle)), (at(15_000), Action::End));
        assert_eq!((Http2.deadline(&idle), Http2.action(&idle)), (at(15_000), Action::Retire));
        let busy = Timestamps { has_streams: true, ..idle };
        assert_eq!((Http2.deadline(&busy), Busy.deadline(&idle)), (None, None));
        let old = limit(ServingLimits { retires: at(12_000), ..idle.serving });
        for state in [Idle, Busy, Http2] {
            assert_eq!((state.deadline(&old), state.action(&old)), (at(12_000), Action::Retire));
        }
        // What has a bound of its own, or has left HTTP, does not care.
        assert_eq!((Head.action(&old), Upgraded.deadline(&old)), (Action::End, None));
    }

    #[test]
    fn in_the_drain_the_kernel_is_asked_first() {
        let start = Instant::now();
        let draining = Timestamps { draining: Some(start + ms(20_000)), ..timestamps(start) };
        let asked_first = [Fresh, Idle, Delivering, Http2];
        for state in asked_first {
            assert_eq!(state.deadline(&draining), draining.draining, "{state:?}");
            assert_eq!(state.action(&draining), Action::AskKernel, "{state:?}");
        }
        let others = deadlines(&draining).into_iter().filter(|(it, _)| !asked_first.contains(it));
        let expected = [(Head, 21_000), (Named, 21_000), (Queued, 21_000)];
        assert_eq!(others.collect::<Vec<_>>(), expected);
        // Entered after the drain; and a header timeout that is nearer than the second.
        let late =
            Timestamps { since: start + ms(20_400), header_timeout: Some(ms(300)), ..draining };
        assert_eq!(Named.deadline(&late), Some(start + ms(21_400)));
        assert_eq!(Head.deadline(&late), Some(start + ms(20_700)));
    }

    #[test]
    fn in_the_drain_as_the_client_sees_it() {
        let start = Instant::now();
        let at = |millis| Some(start + ms(millis));
        let known =
            Timestamps { draining: at(20_000), view: Some(view(start)), ..timestamps(start) };
        // From the accept, or the handshake, two round trips more; from the last acknowledgement the
        // linger.
        assert_eq!(
            (Fresh.deadline(&known), Fresh.action(&known)),
            (at(10_000 + 250 + 140), Action::End)
        );
        assert_eq!((Idle.deadline(&known), Idle.action(&known)), (at(10_750), Action::End));
        assert_eq!(
            (Delivering.deadline(&known), Delivering.action(&known)),
            (at(20_170), Action::AskKernel)
        );
        // A look that is older than the deadline is void by then; one that is younger is the last.
        assert_eq!((Http2.deadline(&known), Http2.action(&known)), (at(21_000), Action::AskKernel));
        let viewed = |change: &dyn Fn(&mut KernelView)| {
            let mut view = view(start);
            change(&mut view);
            Timestamps { view: Some(view), ..known }
        };
        let fresh_view = viewed(&|view| view.at = start + ms(21_000));
        assert_eq!(Http2.action(&fresh_view), Action::End);
        let no_ack = viewed(&|view| view.last_ack = None);
        assert_eq!(Idle.deadline(&no_ack), at(10_000 + 70 + 250));
        let unread = viewed(&|view| view.last_unread = at(20_050));
        assert_eq!(Idle.deadline(&unread), at(20_300));
        assert_eq!(Http2.deadline(&unread), at(21_050));
        let undelivered = viewed(&|view| view.undelivered = true);
        assert_eq!(Delivering.deadline(&undelivered), at(20_170));
        let near = viewed(&|view| (view.undelivered, view.round_trip) = (true, ms(1)));
        assert_eq!(Delivering.deadline(&near), at(20_110));
        let busy = Timestamps { has_streams: true, ..known };
        assert_eq!(Http2.deadline(&busy), None);
    }

    /// Half a record of TLS, or half a frame of HTTP/2, is half a head.
    #[test]
    fn half_a_record_has_the_time_of_half_a_head() {
        let start = Instant::now();
        let at = |millis| Some(start + ms(millis));
        let partial = Timestamps { partial: at(10_400), ..timestamps(start) };
        for state in [Idle, Delivering] {
            assert_eq!(
                (state.deadline(&partial), state.action(&partial)),
                (at(40_400), Action::End)
            );
        }
        // A new one has had its time since the accept; what is under way does not care.
        assert_eq!((Fresh.deadline(&partial), Busy.deadline(&partial)), (at(30_000), None));
        let idle = ServingLimits { keep_alive: Some(ms(5_000)), ..ServingLimits::default() };
        let timed = Timestamps { serving: idle, ..partial };
        assert_eq!((Idle.deadline(&timed), Idle.action(&timed)), (at(40_400), Action::End));
        let draining = Timestamps { draining: at(20_000), view: Some(view(start)), ..partial };
        for state in [Fresh, Idle, Delivering] {
            assert_eq!(
                (state.deadline(&draining), state.action(&draining)),
                (at(21_000), Action::End)
            );
        }
        let later = Timestamps { partial: at(20_700), ..draining };
        assert_eq!(Idle.deadline(&later), at(21_700));
        assert_eq!((Http2.deadline(&later), Http2.action(&later)), (at(21_700), Action::AskKernel));
        let short = Timestamps { header_timeout: Some(ms(300)), ..later };
        assert_eq!(Idle.deadline(&short), at(21_000));
    }

    /// Without netlink the kernel's answer may have yet to come.
    #[test]
    fn an_answer_that_is_to_come_is_asked_for_again() {
        let start = Instant::now();
        let mut view = view(start);
        view.is_to_come = true;
        let draining = Some(start + ms(20_000));
        let waits = Timestamps { draining, view: Some(view), ..timestamps(start) };
        for state in [Fresh, Idle, Delivering, Http2] {
            assert_eq!(state.deadline(&waits), Some(view.at + ms(20)), "{state:?}");
            assert_eq!(state.action(&waits), Action::AskKernel, "{state:?}");
        }
    }
}
