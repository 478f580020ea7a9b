//! Random walks through the states, to check what the table in `mod.rs` promises about each of
//! them.

use std::time::{Duration, Instant};

use super::{
    Action, Behind, ConnEvent,
    ConnState::{
        self, Answered, Busy, Closed, Closing, Delivering, Flushing, Fresh, Head, Http2, Idle,
        Named, Queued, Responding, Upgraded,
    },
    ServingLimits, Timestamps,
};
use crate::net::KernelView;
#[cfg(test)]
use crate::util::Random;

const LINGER: Duration = Duration::from_millis(250);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const ROUND_TRIP: Duration = Duration::from_millis(100);

/// The longest that a silent client may hold the drain with anything but work: a head's second,
/// then the lingering close's, each at most one kernel query late.
const SILENCE: Duration = Duration::from_millis(2_500);

const EVENTS: [ConnEvent; 18] = [
    ConnEvent::HandshakeDone,
    ConnEvent::PartOfHead,
    ConnEvent::WholeHead,
    ConnEvent::OtherHead,
    ConnEvent::Called,
    ConnEvent::Responds,
    ConnEvent::ResponseEnds,
    ConnEvent::Upgrades,
    ConnEvent::Flushed(Behind::Nothing),
    ConnEvent::Flushed(Behind::RestOfBody),
    ConnEvent::Flushed(Behind::PartOfHead),
    ConnEvent::Flushed(Behind::Head),
    ConnEvent::Unacknowledged,
    ConnEvent::Acknowledged,
    ConnEvent::SpeaksHttp2,
    ConnEvent::Closes,
    ConnEvent::Gone,
    // Listed twice, because most clients do this.
    ConnEvent::WholeHead,
];

#[cfg(test)]
fn all() -> impl Iterator<Item = ConnState> {
    (0..=Closed as u8).map(ConnState::from_byte)
}

/// A connection without its stream: does what `task.rs` does about states and deadlines.
#[derive(Debug)]
struct Walk {
    state: ConnState,
    now: Instant,
    timestamps: Timestamps,
    /// Whether the client has acknowledged everything.
    delivered: bool,
    ended: bool,
}

impl Walk {
    fn new(state: ConnState, draining: bool) -> Self {
        let now = Instant::now();
        let timestamps = Timestamps {
            accepted: now,
            since: now,
            draining: draining.then_some(now),
            header_timeout: Some(HEADER_TIMEOUT),
            serving: ServingLimits::default(),
            linger: LINGER,
            view: None,
            has_streams: false,
            partial: None,
        };
        Self { state, now, timestamps, delivered: true, ended: false }
    }

    /// Whether ending it would lose work.
    fn is_work(&self) -> bool {
        match self.state {
            Busy | Responding | Flushing | Answered | Upgraded => true,
            Idle | Delivering => !self.delivered,
            Http2 => !self.delivered || self.timestamps.has_streams,
            Fresh | Head | Named | Queued | Closing | Closed => false,
        }
    }

    fn on(&mut self, event: ConnEvent) {
        if self.state.notes_time(event) {
            self.timestamps.since = self.now;
        }
        self.state = self.state.after(event);
        if !self.state.is_between_messages() || event == ConnEvent::Closes {
            self.timestamps.view = None;
        }
    }

    /// Lets time pass until the next deadline and does what is due. Returns whether there was one.
    fn wait(&mut self) -> bool {
        let Some(deadline) = self.state.deadline(&self.timestamps) else {
            return false;
        };
        self.now = self.now.max(deadline);
        self.see_to_it();
        // As in a poll: what a query has found is acted on immediately.
        while self.state.deadline(&self.timestamps).is_some_and(|at| at <= self.now) && !self.ended
        {
            self.see_to_it();
        }
        true
    }

    fn see_to_it(&mut self) {
        match self.state.action(&self.timestamps) {
            Action::AskKernel => {
                let before = self.timestamps.view.and_then(|look| look.last_unread);
                self.timestamps.view = Some(KernelView {
                    at: self.now,
                    is_to_come: false,
                    round_trip: ROUND_TRIP,
                    last_ack: Some(self.timestamps.since + ROUND_TRIP),
                    undelivered: !self.delivered,
                    unread: false,
                    window: None,
                    last_unread: if self.delivered { before } else { Some(self.now) },
                });
                self.on(if self.delivered {
                    ConnEvent::Acknowledged
                } else {
                    ConnEvent::Unacknowledged
                });
            }
            Action::Retire => panic!("only where the program has set a bound"),
            Action::End => {
                self.ended = true;
                self.state = Closed;
            }
        }
    }
}

#[test]
fn bytes_make_the_round() {
    assert_eq!(all().count(), 14);
    for (byte, state) in all().enumerate() {
        assert_eq!(state as usize, byte);
    }
}

#[test]
fn a_silent_client_holds_the_drain_with_nothing_but_work() {
    for state in all().filter(|state| !matches!(state, Closing | Closed)) {
        let mut walk = Walk::new(state, true);
        if walk.is_work() {
            assert!(!walk.wait(), "{state:?} is work and has a deadline");
            continue;
        }
        let start = walk.now;
        for _ in 0..10 {
            let _ = walk.ended || walk.wait();
        }
        assert!(walk.ended, "{state:?} lasts: {walk:?}");
        assert!(walk.now - start <= SILENCE, "{state:?} lasts {:?}", walk.now - start);
    }
}

#[test]
fn in_service_only_heads_and_ends_are_bounded() {
    for state in all() {
        let mut walk = Walk::new(state, false);
        assert_eq!(walk.wait(), state.is_bounded_while_serving(), "{state:?}");
        assert!(walk.now - walk.timestamps.accepted <= HEADER_TIMEOUT);
    }
}

#[test]
fn an_idle_connection_is_kept_for_its_linger_as_the_client_sees_it() {
    let mut walk = Walk::new(Idle, true);
    while !walk.ended {
        assert!(walk.wait());
    }
    assert_eq!(walk.now - walk.timestamps.accepted, ROUND_TRIP + LINGER);
    let mut walk = Walk::new(Fresh, true);
    while !walk.ended {
        assert!(walk.wait());
    }
    assert_eq!(walk.now - walk.timestamps.accepted, 2 * ROUND_TRIP + LINGER);
}

#[test]
fn what_is_not_delivered_is_waited_for_and_then_lingers() {
    for state in [Idle, Http2] {
        let mut walk = Walk::new(state, true);
        walk.delivered = false;
        for _ in 0..1_000 {
            assert!(walk.wait() && !walk.ended, "{state:?}: {walk:?}");
        }
        walk.delivered = true;
        let delivered = walk.now;
        for _ in 0..10 {
            let _ = walk.ended || walk.wait();
        }
        assert!(walk.ended && walk.now - delivered >= LINGER, "{state:?}: {walk:?}");
        assert!(walk.now - delivered <= SILENCE, "{state:?}: {walk:?}");
    }
}

#[test]
fn random_walks_end_in_time_and_never_in_the_middle_of_work() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..Random::times(20_000) {
        let mut steps = random.below(60);
        walk(|limit| {
            steps = steps.checked_sub(1)?;
            Some(random.below(limit))
        });
    }
}

/// Walks as `choose` says, which is given how many choices there are, until it says nothing. The
/// walk has to end in time, and never in the middle of work.
fn walk(mut choose: impl FnMut(usize) -> Option<usize>) {
    let mut walk = Walk::new(Fresh, false);
    while let Some(step) = choose(8) {
        match step {
            0 if walk.timestamps.draining.is_none() => {
                walk.timestamps.draining = Some(walk.now);
                walk.timestamps.view = None;
            }
            0 => {}
            // Something is written, or has been delivered.
            1 => {
                walk.delivered = !matches!(walk.state, Responding | Flushing | Answered | Http2);
            }
            2 => {
                walk.timestamps.has_streams = walk.state == Http2 && !walk.timestamps.has_streams;
            }
            3 => walk.now += Duration::from_millis(choose(400).unwrap_or(0) as u64),
            4 => {
                let (state, work) = (walk.state, walk.is_work());
                // While serving, the kernel delivers the rest.
                let draining = walk.timestamps.draining.is_some();
                walk.wait();
                let over = walk.ended;
                assert!(!(draining && work && over), "{state:?} was work: {walk:?}");
            }
            _ => match choose(EVENTS.len()).map(|event| EVENTS[event]) {
                // The kernel says what is true.
                Some(ConnEvent::Acknowledged) if !walk.delivered => {}
                Some(ConnEvent::Unacknowledged) if walk.delivered => {}
                Some(event) => walk.on(event),
                None => break,
            },
        }
        if walk.ended || walk.state == Closed {
            break;
        }
    }
    // From here on, the client is silent and the service is done.
    walk.timestamps.draining.get_or_insert(walk.now);
    let start = walk.now;
    walk.delivered = true;
    walk.timestamps.has_streams = false;
    for _ in 0..12 {
        let _ = walk.ended || walk.wait();
    }
    let over = walk.ended || walk.is_work() || matches!(walk.state, Closing | Closed);
    assert!(over && walk.now - start <= SILENCE, "{:?}: {walk:?}", walk.now - start);
}

/// Walks as the fuzzer says, a step for each byte.
#[cfg(fuzzing)]
#[allow(unreachable_pub, reason = "for the fuzz target")]
pub fn walk_states(bytes: &[u8]) {
    let mut bytes = bytes.iter();
    walk(|limit| bytes.next().map(|byte| usize::from(*byte) % limit));
}
