//! The two ends of a connection.

use std::{fmt, net::SocketAddr, path::PathBuf};

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) enum LocalAddr {
    Tcp(SocketAddr),
    /// A Unix socket, with its path if it has one.
    Unix(Option<PathBuf>),
}

impl LocalAddr {
    pub(crate) fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }

    /// Returns the address as messages show it, with the scheme of its protocol.
    pub(crate) fn named(&self, scheme: &str) -> String {
        match self {
            Self::Tcp(addr) => format!("{scheme}://{addr}"),
            Self::Unix(Some(path)) => format!("unix:{}", path.display()),
            Self::Unix(None) => "unix socket without a name".to_owned(),
        }
    }
}

/// The two ends of a connection, as reported by a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProxiedAddrs {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// The client's end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    Unix,
}

impl Peer {
    pub(crate) fn tcp(self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(addr),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix => f.write_str("a Unix socket"),
        }
    }
}
