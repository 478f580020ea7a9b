//! What a connection may be, what each state becomes on which event, and what bounds it. The
//! transitions are `ConnState::after`, the bounds `ConnState::deadline` in `bounds.rs`; neither does
//! anything but say so.
//!
//! | state | it is | becomes | bound in service | bound in the drain |
//! |---|---|---|---|---|
//! | `Fresh` | idle: accepted (and the TLS handshake over), nothing read | `Head`, `Named`, `Queued` by what is read; `Http2` | `header_timeout` from the accept | `linger` and two round trips from then |
//! | `Head` | half a head | `Queued` by the rest of it; `Http2` | `header_timeout` from the accept, or from the head's first byte | a second more, or that |
//! | `Named`, `Queued` | a whole head, which hyper is about to take | `Busy` when the service is called; `Http2` | none: hyper takes it in the same poll, or rejects it | a second |
//! | `Busy` | work: with the service | `Responding` | none | the limit |
//! | `Responding` | work: the head of the response is out | `Flushing`, `Upgraded` when the body has ended | none | the limit |
//! | `Flushing` | work: the response's last bytes are not yet with the kernel | `Idle`, `Answered`, `Head`, `Queued` by what has been read behind it | none | the limit |
//! | `Answered` | work: answered, and its body still being read | the same, when the body ends | none | the limit |
//! | `Idle` | idle | `Head`, `Named`, `Queued` by what is read; `Delivering` by what the kernel says | none | `linger` from the last activity that either side has seen |
//! | `Delivering` | work: answered, and not all has reached the client's kernel | `Idle` when it has; else as `Idle` | not in service | the limit; asked about each round trip |
//! | `Http2` | work while there are streams, or something is not delivered | `Closing` | none | the limit; a second after the last of either |
//! | `Upgraded` | work, in the hands of the program | - | none | the limit |
//! | `Closing` | our side is shut: what the client still sends is dropped. Work while something is not delivered | - | by its own clock | by its own clock: `net::Closing` |
//! | `Closed` | nothing | - | none | none |
//!
//! Every state but `Upgraded` becomes `Closing` when the protocol is over and `Closed` when the
//! stream is gone; an event that a state is not listed with leaves it as it is.

#![allow(
    clippy::inline_always,
    reason = "the event is known at each call: what is left is a small table"
)]
#![allow(clippy::match_same_arms, reason = "a table: a line for each group of states")]

use ConnState::{
    Answered, Busy, Closed, Closing, Delivering, Flushing, Fresh, Head, Http2, Idle, Named, Queued,
    Responding, Upgraded,
};

/// What a connection is at. See the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ConnState {
    Fresh,
    Head,
    /// The head was read alone, in one piece: the beginning of it is kept as the name of the
    /// request.
    Named,
    /// The head came in pieces, or behind another.
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

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnEvent {
    /// What comes before HTTP is over: the TLS handshake.
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
    /// The response was the last of HTTP/1: the stream has a new owner.
    Upgrades,
    /// All that was written is with the kernel, and the bytes read so far end as said.
    Flushed(Behind),
    /// The kernel says that the client has not acknowledged all of the response, or that it has.
    Unacknowledged,
    Acknowledged,
    /// The preface of HTTP/2 has been read.
    SpeaksHttp2,
    /// The protocol is over, and the stream has to be closed with care.
    Closes,
    /// The stream is gone.
    Gone,
}

/// What is there behind an answered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    Nothing,
    /// Its own body is not complete.
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
            // Bytes are made from states alone.
            _ => Closed,
        }
    }

    /// What `event` makes of it.
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

    /// A head, or a part of one, where nothing was: `next`.
    #[inline(always)]
    const fn reads(self, next: Self) -> Self {
        match self {
            Fresh | Idle | Delivering => next,
            Head | Named | Queued | Busy | Responding | Flushing | Answered => self,
            Http2 | Upgraded | Closing | Closed => self,
        }
    }

    /// The next step of an HTTP/1 exchange: which one it is, hyper says, and takes one after the
    /// other.
    #[inline(always)]
    const fn within_http1(self, next: Self) -> Self {
        match self {
            Fresh | Head | Named | Queued | Idle | Delivering => next,
            Busy | Responding | Flushing | Answered => next,
            Http2 | Upgraded | Closing | Closed => self,
        }
    }

    /// What the kernel and the clock say matters where nothing has come since the last response.
    #[inline(always)]
    const fn if_answered(self, next: Self) -> Self {
        match self {
            Idle | Delivering => next,
            Fresh | Head | Named | Queued | Busy | Responding | Flushing | Answered => self,
            Http2 | Upgraded | Closing | Closed => self,
        }
    }

    /// Whether the time is noted when `event` comes: where a bound begins, or an age.
    #[inline(always)]
    pub(crate) const fn notes_time(self, event: ConnEvent) -> bool {
        match event {
            ConnEvent::PartOfHead => match self {
                Idle | Delivering => true,
                // The first head has had its time since the accept.
                Fresh => false,
                Head | Named | Queued | Busy | Responding | Flushing | Answered => false,
                Http2 | Upgraded | Closing | Closed => false,
            },
            ConnEvent::Flushed(behind) => match behind {
                Behind::Nothing | Behind::PartOfHead => true,
                // What is answered and still read is as old as its request.
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

    /// Whether it may not last, even while nothing drains.
    #[inline]
    pub(crate) const fn is_bounded_while_serving(self) -> bool {
        match self {
            Fresh | Head => true,
            Named | Queued | Busy | Responding | Flushing | Answered | Idle | Delivering => false,
            Http2 | Upgraded | Closing | Closed => false,
        }
    }

    /// Whether what is read is HTTP/1, or may become it, and nothing else is to be seen to.
    #[inline]
    pub(crate) const fn reads_http1(self) -> bool {
        match self {
            Fresh | Head | Named | Queued | Busy | Responding | Flushing | Answered => true,
            Idle | Delivering => true,
            Http2 | Upgraded | Closing | Closed => false,
        }
    }

    /// Whether it says nothing of a message: neither one that is under way nor one that may be
    /// missing at the client. What was found out about a connection before it did something else is
    /// void.
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
    /// All of them, by their bytes.
    pub(super) const ALL: [Self; 14] = [
        Fresh, Head, Named, Queued, Busy, Responding, Flushing, Answered, Idle, Delivering, Http2,
        Upgraded, Closing, Closed,
    ];
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
