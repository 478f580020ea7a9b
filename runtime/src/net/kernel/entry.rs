//! A line of the kernel's table of TCP sockets, however it was read.

use std::{net::SocketAddr, time::Instant};

use crate::net::clock;

/// One socket. Addresses are canonical: an IPv4 client of a dual-stack listener has its IPv4
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) state: State,
    /// The socket's inode; 0: it is not known.
    pub(super) inode: u64,
    /// Bytes that were received and not read; of a listener, the connections in its queue.
    pub(super) received: u32,
    /// Bytes that were written and that the peer's kernel has not acknowledged (`SIOCOUTQ`,
    /// tcp(7)). A FIN counts as one.
    pub(super) unacknowledged: u32,
    pub(super) timing: Option<Timing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    /// The smoothed round-trip time, in microseconds.
    pub(super) round_trip_us: u32,
    /// How long ago the peer has acknowledged something, in milliseconds.
    pub(super) since_last_ack_ms: Option<u32>,
    /// How many of the unacknowledged bytes were never sent.
    pub(super) unsent: Option<u32>,
    /// How much the peer has room for.
    pub(super) window: Option<u32>,
}

/// The states that matter here, of those in `include/net/tcp_states.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A handshake under way: the SYN has been answered, the final ACK has not come.
    SynRecv,
    Listen,
    /// Our side is shut and the FIN not yet acknowledged (`FIN_WAIT1`, `LAST_ACK`, `CLOSING`).
    FinSent,
    Other,
}

impl State {
    pub(super) fn from_number(number: u8) -> Self {
        match number {
            3 => Self::SynRecv,
            10 => Self::Listen,
            4 | 9 | 11 => Self::FinSent,
            _ => Self::Other,
        }
    }
}

/// A set of states, as the kernel takes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct States(u32);

impl States {
    pub(super) const ALL: Self = Self(u32::MAX);
    pub(super) const SYN_RECV: Self = Self(1 << 3);
    pub(super) const LISTEN: Self = Self(1 << 10);
    /// Whoever may still receive something: not the listener, and not `TIME_WAIT`, of which a busy
    /// machine has many.
    pub(super) const CONNECTED: Self = Self(!(1 << 10) & !(1 << 6) & !(1 << 7));

    pub(super) fn bits(self) -> u32 {
        self.0
    }
}

impl Entry {
    /// Unacknowledged bytes of data.
    pub(super) fn undelivered(&self) -> u32 {
        let fin = u32::from(self.state == State::FinSent);
        self.unacknowledged.saturating_sub(fin)
    }
}

/// The moment before a question: what a connection does later is not in the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) exact: Instant,
    /// By the clock that connections note their times by: what is before this was before the
    /// question.
    pub(super) at: Instant,
}

impl Asked {
    pub(super) fn now() -> Self {
        Self { exact: Instant::now(), at: clock::instant(clock::now()) }
    }
}
