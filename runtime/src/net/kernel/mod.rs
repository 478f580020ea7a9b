//! The kernel's view of one listener's connections: who is on the way in, how far away
//! each client is, and what has not reached it yet. Asked when the drain starts, and while it
//! lasts; never before.
//!
//! By `sock_diag`, else from `/proc/net/tcp`, which is read as seldom as can be, by a thread of its
//! own; where neither is to be had, and on other systems than Linux, nothing is known.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod proc_net;
#[cfg(target_os = "linux")]
mod sock_diag;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

#[cfg(target_os = "linux")]
pub(crate) use linux::Kernel;
#[cfg(not(target_os = "linux"))]
pub(crate) use unknown::Kernel;

/// The answer to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Known(TcpInfo),
    /// Not known yet: ask again.
    Later,
    /// There is no such connection, or it cannot be found out.
    Unknown,
}

/// The kernel's facts about one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpInfo {
    /// A moment before it was asked: what a connection has done until then is in the answer.
    pub(crate) at: Instant,
    /// The local address of the connection: with the peer's, its name in the next question.
    pub(crate) local: SocketAddr,
    /// Whether bytes of the peer wait to be read.
    pub(crate) unread: bool,
    /// Bytes of responses that have not reached the peer's kernel, as far as this one can tell.
    pub(crate) undelivered: u32,
    /// How much the peer has room for, where that is known: it grows as the client reads.
    pub(crate) window: Option<u32>,
    pub(crate) round_trip: Duration,
    /// When the peer has last acknowledged something, where that is known.
    pub(crate) last_ack: Option<Instant>,
}

/// A kernel that cannot be asked.
#[cfg(not(target_os = "linux"))]
mod unknown {
    use std::{collections::HashSet, net::SocketAddr, time::Instant};

    use super::Answer;

    #[derive(Debug)]
    pub(crate) struct Kernel;

    impl Kernel {
        pub(crate) fn new(_: SocketAddr, _: Option<u64>) -> Self {
            Self
        }

        pub(crate) fn arriving(&self) -> Option<HashSet<SocketAddr>> {
            None
        }

        pub(crate) fn waiting(&self) -> usize {
            0
        }

        pub(crate) fn waiting_unix(_: u64) -> usize {
            0
        }

        pub(crate) fn at_the_drain(&self, _: SocketAddr, _: Instant) -> Answer {
            Answer::Unknown
        }

        pub(crate) fn ask(&self, _: SocketAddr, _: SocketAddr, _: Instant) -> Answer {
            Answer::Unknown
        }
    }
}
