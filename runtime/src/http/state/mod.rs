//! The states of a connection, their transitions and their deadlines. The transitions are in
//! `ConnState::after`, the bounds in `ConnState::deadline`; both are pure functions.
//!
//! | state | meaning | becomes | bound while serving | bound in the drain |
//! |---|---|---|---|---|
//! | `Fresh` | idle: accepted (TLS handshake done), nothing read | `Head`, `Named`, `Queued` depending on what is read; `Http2` | `header_timeout` from the accept | `linger` and two round trips from then |
//! | `Head` | half a head | `Queued` with the rest of it; `Http2` | `header_timeout` from the accept, or from the head's first byte | one more second, or `header_timeout` if that ends first |
//! | `Named`, `Queued` | a whole head, which hyper is about to take | `Busy` when the service is called; `Http2` | none: hyper takes it in the same poll, or rejects it | a second |
//! | `Busy` | work: with the service | `Responding` | none | the limit |
//! | `Responding` | work: the head of the response is out | `Flushing`, `Upgraded` when the body has ended | none | the limit |
//! | `Flushing` | work: the response's last bytes are not yet with the kernel | `Idle`, `Answered`, `Head`, `Queued` depending on what has been read after it | none | the limit |
//! | `Answered` | work: answered, but its body is still being read | the same, when the body ends | none | the limit |
//! | `Idle` | idle | `Head`, `Named`, `Queued` depending on what is read; `Delivering` if the kernel says so | none | `linger` from the last activity that either side has seen |
//! | `Delivering` | work: answered, but not all has reached the client's kernel | `Idle` when it has; otherwise like `Idle` | not while serving | the limit; asked about each round trip |
//! | `Http2` | work while there are streams or undelivered data | `Closing` | none | the limit; a second after the last of either |
//! | `Upgraded` | work, owned by the program | - | none | the limit |
//! | `Closing` | our side is shut, and what the client still sends is discarded; work while data is undelivered | - | its own deadline | its own deadline: `net::Closing` |
//! | `Closed` | nothing | - | none | none |
//!
//! Every state but `Upgraded` becomes `Closing` when the protocol is over, and every state becomes
//! `Closed` when the stream is gone; an event that is not listed for a state leaves it as it is.

#![allow(
    clippy::inline_always,
    reason = "the event is known at each call: what is left is a small table"
)]
#![allow(clippy::match_same_arms, reason = "a table: a line for each group of states")]

#[cfg(any(fuzzing, all(test, not(graceful_loom))))]
pub(crate) mod walk;

use std::time::{Duration, Instant};

use ConnState::{
    Answered, Busy, Closed, Closing, Delivering, Flushing, Fresh, Head, Http2, Idle, Named, Queued,
    Responding, Upgraded,
};

use crate::net::{KernelView, TICK};

/// The state of a connection. See the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ConnState {
    Fresh,
    Head,
    /// The head was read alone, in one piece: its beginning is kept as the name of the request.
    Named,
    /// The head came in pieces, or after another.
    Queued,
    Busy,
    Responding,
    Flushing,
    Answered,
    Idle,
    Delivering,
    Http2,
    Upgraded,
    Closing,
    Closed,
}

/// An event on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnEvent {
    /// The steps before HTTP are done: the TLS handshake.
    HandshakeDone,
    /// A part of a head has been read.
    PartOfHead,
    /// One head has been read, alone and in one piece.
    WholeHead,
    /// A head has been read in another way.
    OtherHead,
    /// The service is called.
    Called,
    /// The head of the response is handed to hyper.
    Responds,
    /// The body of the response has ended.
    ResponseEnds,
    /// The response was the last one of HTTP/1: the stream has a new owner.
    Upgrades,
    /// Everything written is with the kernel, and the bytes read so far end as given.
    Flushed(Behind),
    /// The kernel says that the client has not acknowledged all of the response, or that it has.
    Unacknowledged,
    Acknowledged,
    /// The preface of HTTP/2 has been read.
    SpeaksHttp2,
    /// The protocol is over, and the stream has to be closed carefully.
    Closes,
    /// The stream is gone.
    Gone,
}

/// The input after an answered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    Nothing,
    /// The request's own body is not complete.
    RestOfBody,
    PartOfHead,
    /// A whole head, or more than one.
    Head,
}

impl ConnState {
    #[inline]
    pub(crate) const fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Fresh,
            1 => Head,
            2 => Named,
            3 => Queued,
            4 => Busy,
            5 => Responding,
            6 => Flushing,
            7 => Answered,
            8 => Idle,
            9 => Delivering,
            10 => Http2,
            11 => Upgraded,
            12 => Closing,
            // Bytes only come from states.
            _ => Closed,
        }
    }

    /// Returns the state after `event`.
    #[inline(always)]
    pub(crate) const fn after(self, event: ConnEvent) -> Self {
        match event {
            ConnEvent::HandshakeDone => self,
            ConnEvent::PartOfHead => self.reads(Head),
            ConnEvent::WholeHead => self.reads(Named),
            ConnEvent::OtherHead => match self {
                Fresh | Head | Idle | Delivering => Queued,
                Named | Queued | Busy | Responding | Flushing | Answered => self,
                Http2 | Upgraded | Closing | Closed => self,
            },
            ConnEvent::Called => self.within_http1(Busy),
            ConnEvent::Responds => self.within_http1(Responding),
            ConnEvent::ResponseEnds => self.within_http1(Flushing),
            ConnEvent::Upgrades => self.within_http1(Upgraded),
            ConnEvent::Flushed(behind) => match self {
                Flushing | Answered => match behind {
                    Behind::Nothing => Idle,
                    Behind::RestOfBody => Answered,
                    Behind::PartOfHead => Head,
                    Behind::Head => Queued,
                },
                Fresh | Head | Named | Queued | Busy | Responding | Idle | Delivering => self,
                Http2 | Upgraded | Closing | Closed => self,
            },
            ConnEvent::Unacknowledged => self.if_answered(Delivering),
            ConnEvent::Acknowledged => self.if_answered(Idle),
            ConnEvent::SpeaksHttp2 => match self {
                Fresh | Head | Named | Queued => Http2,
                Busy | Responding | Flushing | Answered | Idle | Delivering => self,
                Http2 | Upgraded | Closing | Closed => self,
            },
            ConnEvent::Closes => match self {
                Fresh | Head | Named | Queued | Busy | Responding | Flushing | Answered => Closing,
                Idle | Delivering | Http2 | Closing => Closing,
                Upgraded | Closed => self,
            },
            ConnEvent::Gone => Closed,
        }
    }

    /// Moves to `next` if a head, or part of one, begins between messages.
    #[inline(always)]
    const fn reads(self, next: Self) -> Self {
        match self {
            Fresh | Idle | Delivering => next,
            Head | Named | Queued | Busy | Responding | Flushing | Answered => self,
            Http2 | Upgraded | Closing | Closed => self,
        }
    }

    /// Moves to the next step of an HTTP/1 exchange. hyper takes one after the other.
    #[inline(always)]
    const fn within_http1(self, next: Self) -> Self {
        match self {
            Fresh | Head | Named | Queued | Idle | Delivering => next,
            Busy | Responding | Flushing | Answered => next,
            Http2 | Upgraded | Closing | Closed => self,
        }
    }

    /// Moves to `next` if nothing has come since the last response.
    #[inline(always)]
    const fn if_answered(self, next: Self) -> Self {
        match self {
            Idle | Delivering => next,
            Fresh | Head | Named | Queued | Busy | Responding | Flushing | Answered => self,
            Http2 | Upgraded | Closing | Closed => self,
        }
    }

    /// Whether the time is noted on `event`, because a bound or an age begins.
    #[inline(always)]
    pub(crate) const fn notes_time(self, event: ConnEvent) -> bool {
        match event {
            ConnEvent::PartOfHead => match self {
                Idle | Delivering => true,
                // The time of the first head runs from the accept.
                Fresh => false,
                Head | Named | Queued | Busy | Responding | Flushing | Answered => false,
                Http2 | Upgraded | Closing | Closed => false,
            },
            ConnEvent::Flushed(behind) => match behind {
                Behind::Nothing | Behind::PartOfHead => true,
                // A request that is answered but still being read is as old as its head.
                Behind::RestOfBody | Behind::Head => false,
            },
            ConnEvent::HandshakeDone
            | ConnEvent::Called
            | ConnEvent::Upgrades
            | ConnEvent::SpeaksHttp2 => true,
            ConnEvent::Closes => true,
            ConnEvent::WholeHead
            | ConnEvent::OtherHead
            | ConnEvent::Responds
            | ConnEvent::ResponseEnds => false,
            ConnEvent::Unacknowledged | ConnEvent::Acknowledged | ConnEvent::Gone => false,
        }
    }

    /// Whether the state has a deadline even while serving.
    #[inline]
    pub(crate) const fn is_bounded_while_serving(self) -> bool {
        match self {
            Fresh | Head => true,
            Named | Queued | Busy | Responding | Flushing | Answered | Idle | Delivering => false,
            Http2 | Upgraded | Closing | Closed => false,
        }
    }

    /// Whether a request is being answered, or read.
    #[inline]
    pub(crate) const fn is_exchange(self) -> bool {
        match self {
            Busy | Responding | Flushing | Answered => true,
            Fresh | Head | Named | Queued | Idle | Delivering => false,
            Http2 | Upgraded | Closing | Closed => false,
        }
    }

    /// Whether no message is in progress, and none may be missing at the client. In the other
    /// states, what was found out about the connection before is void.
    pub(crate) const fn is_between_messages(self) -> bool {
        match self {
            Fresh | Idle | Delivering | Closing | Http2 => true,
            Head | Named | Queued | Busy | Responding | Flushing | Answered => false,
            Upgraded | Closed => false,
        }
    }
}

#[cfg(test)]
impl ConnState {
    /// All states, in the order of their bytes.
    pub(super) const ALL: [Self; 14] = [
        Fresh, Head, Named, Queued, Busy, Responding, Flushing, Answered, Idle, Delivering, Http2,
        Upgraded, Closing, Closed,
    ];
}

// The deadline of each state: the last two columns of the table above.

/// How long a head may take to become complete once the drain has started.
const HEAD_GRACE: Duration = Duration::from_secs(1);

/// How long an HTTP/2 client may take to answer the PING that comes with GOAWAY, once it has
/// received everything.
const PONG_GRACE: Duration = Duration::from_secs(1);

/// How often to ask the kernel again for a pending answer.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Everything that a deadline may depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamps {
    pub(crate) accepted: Instant,
    /// When the state was entered, or when the activity that it continues began: see
    /// `ConnState::notes_time`.
    pub(crate) since: Instant,
    /// When this connection learned about the drain.
    pub(crate) draining: Option<Instant>,
    pub(crate) header_timeout: Option<Duration>,
    pub(crate) serving: ServingLimits,
    pub(crate) linger: Duration,
    /// The kernel's last view, if it is still valid.
    pub(crate) view: Option<KernelView>,
    /// Whether an HTTP/2 stream is still being worked on, or its response is not completely
    /// written.
    pub(crate) has_streams: bool,
    /// Since when half a TLS record, or half an HTTP/2 frame, has been there.
    pub(crate) partial: Option<Instant>,
}

/// Limits while serving, if the program has set them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServingLimits {
    /// How long the connection may be idle.
    pub(crate) keep_alive: Option<Duration>,
    /// When the connection is old enough to be closed.
    pub(crate) retires: Option<Instant>,
}

/// The action when a deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    AskKernel,
    /// End the connection as in the drain, although the process keeps serving.
    Retire,
    /// End the connection, whatever it is doing.
    End,
}

impl Timestamps {
    /// When a grace period begins: with the state or with the drain, whichever is later, but not
    /// before the client has read everything.
    fn after_reading(&self, draining: Instant, view: &KernelView) -> Instant {
        let entered = self.since.max(draining);
        view.last_unread.map_or(entered, |seen| seen.max(entered))
    }

    /// Half a record between messages is half a head.
    fn half_a_head(&self, state: ConnState) -> Option<Instant> {
        self.partial.filter(|_| matches!(state, Fresh | Idle | Delivering))
    }

    /// The deadline for half a head that began at `since`, once the drain has started.
    fn head_grace(&self, since: Instant, draining: Instant) -> Instant {
        let grace = since.max(draining) + HEAD_GRACE;
        self.header_deadline(since).map_or(grace, |limit| limit.min(grace))
    }

    fn header_deadline(&self, since: Instant) -> Option<Instant> {
        self.header_timeout.map(|limit| since + limit)
    }
}

impl ConnState {
    /// When something has to happen even if nothing comes from the client; `None` if not before the
    /// limit.
    pub(crate) fn deadline(self, timestamps: &Timestamps) -> Option<Instant> {
        let Timestamps { accepted, since, linger, .. } = *timestamps;
        let Some(draining) = timestamps.draining else {
            return match self {
                Fresh => timestamps.header_deadline(accepted),
                Head => timestamps.header_deadline(since),
                Named | Queued | Busy | Responding | Flushing | Answered | Idle | Delivering
                | Http2 => self.deadline_while_serving(timestamps),
                // `Closing` keeps its own deadline.
                Upgraded | Closing | Closed => None,
            };
        };
        if let Some(since) = timestamps.half_a_head(self) {
            return Some(timestamps.head_grace(since, draining));
        }
        let entered = since.max(draining);
        // If the kernel has not been asked yet, do that first.
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
                // From the client's point of view: its next request takes as long to get here as
                // the response took to get there.
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

    /// The deadline from the program's own limits. Work in progress is left alone; on a connection
    /// that is old enough, it becomes the last.
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

    /// Returns the action to take when the deadline has passed.
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
            // Something may have been written or read since then.
            Http2 if known.map(|view| view.at) < self.deadline(timestamps) => Action::AskKernel,
            Fresh | Head | Named | Queued | Idle | Http2 => Action::End,
            // These have no deadline of their own.
            Busy | Responding | Flushing | Answered | Upgraded | Closing | Closed => Action::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ConnState;

    #[test]
    fn states_go_round_through_their_bytes() {
        for (byte, state) in (0..).zip(ConnState::ALL) {
            assert_eq!((state as u8, ConnState::from_byte(byte)), (byte, state));
        }
        assert_eq!(ConnState::Closed as usize + 1, ConnState::ALL.len());
    }
}

/// The deadlines of every state, with all times distinct.
#[cfg(test)]
mod bounds_tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// All times are distinct, so that none is taken for another.
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
        // States with a bound of their own, or outside HTTP, are not affected.
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
        // Entered after the drain began, and a header timeout that ends before the second does.
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
        // From the accept, or the handshake, the linger and two round trips; from the last
        // acknowledgement, the linger.
        assert_eq!(
            (Fresh.deadline(&known), Fresh.action(&known)),
            (at(10_000 + 250 + 140), Action::End)
        );
        assert_eq!((Idle.deadline(&known), Idle.action(&known)), (at(10_750), Action::End));
        assert_eq!(
            (Delivering.deadline(&known), Delivering.action(&known)),
            (at(20_170), Action::AskKernel)
        );
        // A view that is older than the deadline is void by then; a younger one is the last.
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

    /// Half a TLS record, or half an HTTP/2 frame, is half a head.
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
        // A new connection's time runs from the accept; work in progress is not affected.
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

    /// Without netlink, the kernel's answer may be pending.
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
