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

/// The deadlines of every state, each moment at a time of its own.
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
            in_service: InService::default(),
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
    fn deadlines(moments: &Moments) -> Vec<(State, u128)> {
        let millis = |at: Instant| at.duration_since(moments.accepted).as_millis();
        let all = State::ALL.iter();
        all.filter_map(|it| it.deadline(moments).map(|at| (*it, millis(at)))).collect()
    }

    #[test]
    fn in_service() {
        let start = Instant::now();
        let moments = moments(start);
        let expected = [(Fresh, 30_000), (Head, 40_000)];
        assert_eq!(deadlines(&moments), expected);
        for (state, _) in expected {
            assert_eq!(state.due(&moments), Due::End, "{state:?}");
        }
        let without = Moments { header_timeout: None, ..moments };
        assert_eq!(deadlines(&without), []);
    }

    #[test]
    fn in_service_as_the_program_has_set() {
        let start = Instant::now();
        let at = |millis| Some(start + ms(millis));
        let limit = |in_service| Moments { in_service, ..moments(start) };
        let idle = limit(InService { keep_alive: Some(ms(5_000)), ..InService::default() });
        assert_eq!((Idle.deadline(&idle), Idle.due(&idle)), (at(15_000), Due::End));
        assert_eq!((Http2.deadline(&idle), Http2.due(&idle)), (at(15_000), Due::Retire));
        let busy = Moments { has_streams: true, ..idle };
        assert_eq!((Http2.deadline(&busy), Busy.deadline(&idle)), (None, None));
        let old = limit(InService { retires: at(12_000), ..idle.in_service });
        for state in [Idle, Busy, Http2] {
            assert_eq!((state.deadline(&old), state.due(&old)), (at(12_000), Due::Retire));
        }
        // What has a bound of its own, or has left HTTP, does not care.
        assert_eq!((Head.due(&old), Upgraded.deadline(&old)), (Due::End, None));
    }

    #[test]
    fn in_the_drain_the_kernel_is_asked_first() {
        let start = Instant::now();
        let draining = Moments { draining: Some(start + ms(20_000)), ..moments(start) };
        let asked_first = [Fresh, Idle, Delivering, Http2];
        for state in asked_first {
            assert_eq!(state.deadline(&draining), draining.draining, "{state:?}");
            assert_eq!(state.due(&draining), Due::AskKernel, "{state:?}");
        }
        let others = deadlines(&draining).into_iter().filter(|(it, _)| !asked_first.contains(it));
        let expected = [(Head, 21_000), (Named, 21_000), (Queued, 21_000)];
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
        // From the accept, or the handshake, two round trips more; from the last acknowledgement the
        // linger.
        assert_eq!((Fresh.deadline(&known), Fresh.due(&known)), (at(10_000 + 250 + 140), Due::End));
        assert_eq!((Idle.deadline(&known), Idle.due(&known)), (at(10_750), Due::End));
        assert_eq!(
            (Delivering.deadline(&known), Delivering.due(&known)),
            (at(20_170), Due::AskKernel)
        );
        // A look that is older than the deadline is void by then; one that is younger is the last.
        assert_eq!((Http2.deadline(&known), Http2.due(&known)), (at(21_000), Due::AskKernel));
        let viewed = |change: &dyn Fn(&mut KernelView)| {
            let mut view = view(start);
            change(&mut view);
            Moments { view: Some(view), ..known }
        };
        let fresh_view = viewed(&|view| view.at = start + ms(21_000));
        assert_eq!(Http2.due(&fresh_view), Due::End);
        let no_ack = viewed(&|view| view.last_ack = None);
        assert_eq!(Idle.deadline(&no_ack), at(10_000 + 70 + 250));
        let unread = viewed(&|view| view.last_unread = at(20_050));
        assert_eq!(Idle.deadline(&unread), at(20_300));
        assert_eq!(Http2.deadline(&unread), at(21_050));
        let undelivered = viewed(&|view| view.undelivered = true);
        assert_eq!(Delivering.deadline(&undelivered), at(20_170));
        let near = viewed(&|view| (view.undelivered, view.round_trip) = (true, ms(1)));
        assert_eq!(Delivering.deadline(&near), at(20_110));
        let busy = Moments { has_streams: true, ..known };
        assert_eq!(Http2.deadline(&busy), None);
    }

    /// Half a record of TLS, or half a frame of HTTP/2, is half a head.
    #[test]
    fn half_a_record_has_the_time_of_half_a_head() {
        let start = Instant::now();
        let at = |millis| Some(start + ms(millis));
        let partial = Moments { partial: at(10_400), ..moments(start) };
        for state in [Idle, Delivering] {
            assert_eq!((state.deadline(&partial), state.due(&partial)), (at(40_400), Due::End));
        }
        // A new one has had its time since the accept; what is under way does not care.
        assert_eq!((Fresh.deadline(&partial), Busy.deadline(&partial)), (at(30_000), None));
        let idle = InService { keep_alive: Some(ms(5_000)), ..InService::default() };
        let timed = Moments { in_service: idle, ..partial };
        assert_eq!((Idle.deadline(&timed), Idle.due(&timed)), (at(40_400), Due::End));
        let draining = Moments { draining: at(20_000), view: Some(view(start)), ..partial };
        for state in [Fresh, Idle, Delivering] {
            assert_eq!((state.deadline(&draining), state.due(&draining)), (at(21_000), Due::End));
        }
        let later = Moments { partial: at(20_700), ..draining };
        assert_eq!(Idle.deadline(&later), at(21_700));
        assert_eq!((Http2.deadline(&later), Http2.due(&later)), (at(21_700), Due::AskKernel));
        let short = Moments { header_timeout: Some(ms(300)), ..later };
        assert_eq!(Idle.deadline(&short), at(21_000));
    }

    /// Without netlink the kernel's answer may have yet to come.
    #[test]
    fn an_answer_that_is_to_come_is_asked_for_again() {
        let start = Instant::now();
        let mut view = view(start);
        view.is_to_come = true;
        let draining = Some(start + ms(20_000));
        let waits = Moments { draining, view: Some(view), ..moments(start) };
        for state in [Fresh, Idle, Delivering, Http2] {
            assert_eq!(state.deadline(&waits), Some(view.at + ms(20)), "{state:?}");
            assert_eq!(state.due(&waits), Due::AskKernel, "{state:?}");
        }
    }
}
