//! The kernel's view of one listener's connections: who is on the way in, how far away each client
//! is, and what has not reached it yet. Queried when the drain starts and while it lasts, or when a
//! single connection is retired.
//!
//! Uses `sock_diag`, or else `/proc/net/tcp`, which a separate thread reads as seldom as possible.
//! If neither is available, and on systems other than Linux, nothing is known.

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
    /// There is no such connection, or the kernel cannot be asked.
    Unknown,
}

/// The kernel's facts about one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpInfo {
    /// A moment before the query: everything that a connection did until then is in the answer.
    pub(crate) at: Instant,
    /// The local address of the connection; together with the peer's, it identifies the connection
    /// in the next query.
    pub(crate) local: SocketAddr,
    /// Whether bytes from the peer are waiting to be read.
    pub(crate) unread: bool,
    /// Bytes of responses that have not reached the peer's kernel, as far as this one can tell.
    pub(crate) undelivered: u32,
    /// The peer's receive window, if known; it grows as the client reads.
    pub(crate) window: Option<u32>,
    pub(crate) round_trip: Duration,
    /// When the peer last acknowledged something, if known.
    pub(crate) last_ack: Option<Instant>,
}

/// A kernel that cannot be asked.
#[cfg(not(target_os = "linux"))]
mod unknown {
    use std::{collections::HashSet, net::SocketAddr, time::Instant};

    use super::Answer;

    #[derive(Debug)]
    pub(crate) struct Kernel;

    #[allow(clippy::unused_self, reason = "as where it can be asked")]
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

        pub(crate) fn is_unread(&self, _: SocketAddr, _: Instant) -> Option<bool> {
            None
        }
    }
}
