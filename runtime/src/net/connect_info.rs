//! Facts about a connection, for the program.

use std::{fmt, net::SocketAddr, sync::Arc};

use super::{conn::ConnCore, stream::Stream, system::UnixCredentials};
use crate::util::Peer;

/// The two ends of a connection, and what is known about the client.
///
/// [`Server::connect_info`](crate::Server::connect_info) puts it into the extensions of each
/// request. A service that is made for each connection, and the handler of
/// [`listen`](crate::listen), get it without that option. Cheap to clone: all requests of a
/// connection share it.
///
/// # Examples
///
/// ```no_run
/// # use axum::{Extension, Router, routing::get};
/// async fn who(Extension(info): Extension<graceful::ConnectInfo>) -> String {
///     format!("{:?} on {:?}", info.peer_addr(), info.local_addr())
/// }
///
/// #[graceful::main]
/// async fn main() -> impl graceful::Serve {
///     graceful::serve("127.0.0.1:8080", Router::new().route("/", get(who))).connect_info()
/// }
/// ```
#[derive(Clone)]
pub struct ConnectInfo(Arc<Inner>);

struct Inner {
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
    credentials: Option<UnixCredentials>,
    #[cfg(feature = "tls")]
    tls: Option<super::tls_info::TlsInfo>,
}

impl ConnectInfo {
    pub(crate) fn of(stream: &Stream, core: &ConnCore) -> Self {
        Self(Arc::new(Inner {
            peer: core.peer().tcp(),
            local: core.proxied().map(|ends| ends.local).or_else(|| stream.local_addr()),
            credentials: stream.peer_credentials(),
            #[cfg(feature = "tls")]
            tls: stream.tls_info(),
        }))
    }

    /// The client, for messages.
    pub(crate) fn peer(&self) -> Peer {
        self.0.peer.map_or(Peer::Unix, Peer::Tcp)
    }

    /// Returns the client's address, or `None` for a Unix socket. With the PROXY protocol, this is
    /// the address reported by the load balancer.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    /// Returns the address of this server that the client connected to, or `None` for a Unix
    /// socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.local
    }

    /// Returns the process, user and group of a Unix socket client, as the kernel saw them when it
    /// connected (`SO_PEERCRED`, unix(7)).
    #[cfg(unix)]
    #[must_use]
    pub fn peer_credentials(&self) -> Option<UnixCredentials> {
        self.0.credentials
    }

    /// Returns the result of the TLS handshake, or `None` if this server does not encrypt the
    /// connection.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(&self) -> Option<&super::tls_info::TlsInfo> {
        self.0.tls.as_ref()
    }
}

impl fmt::Debug for ConnectInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectInfo")
            .field("peer_addr", &self.peer_addr())
            .field("local_addr", &self.local_addr())
            .field("peer_credentials", &self.0.credentials)
            .finish_non_exhaustive()
    }
}
