//! Connections of any protocol: addresses, listeners, the accept loop, and connections that are
//! waited for, named in reports and closed without loss.
//!
//! May use: `util`, `log`, `work`, `stop`, `context`. Must not know: HTTP.

mod accept;
mod acceptor;
mod bind;
pub(crate) mod clock;
mod closing;
mod conn;
mod connect_info;
mod connection;
mod delivery;
mod endpoint;
mod guarded_io;
#[cfg(feature = "handover")]
mod hand_over;
mod handshake;
#[cfg(feature = "systemd")]
mod inherited;
mod kernel;
mod listener;
#[cfg_attr(not(feature = "handover"), allow(dead_code, reason = "nothing moves without it"))]
pub(crate) mod moving;
#[cfg(feature = "proxy-protocol")]
mod proxy_header;
mod server_options;
mod sockets;
mod stream;
mod target;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(feature = "tls")]
pub(crate) mod tls_info;
#[cfg(unix)]
mod unix;
#[cfg(feature = "handover")]
mod websocket;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub(crate) use accept::{AcceptLoop, Accepted, MakeConnection};
pub(crate) use acceptor::Custom;
pub(crate) use clock::Timer;
pub(crate) use closing::{Closing, Follow, TICK};
pub(crate) use conn::{ConnCore, ConnGuard, GuardedConn, Origin};
pub(crate) use connection::RawMaker;
#[cfg(feature = "handover")]
pub(crate) use connection::continued;
pub(crate) use delivery::{ConnDrain, KernelView};
pub(crate) use endpoint::Endpoint;
pub(crate) use guarded_io::GuardedIo;
pub(crate) use handshake::{Preamble, before_protocol};
#[cfg(all(feature = "handover", feature = "systemd", target_os = "linux"))]
pub(crate) use inherited::stored;
pub(crate) use inherited::unclaimed;
pub(crate) use server_options::server_options;
pub(crate) use sockets::Slot;
pub(crate) use stream::{PendingInput, Received, Stream};
pub(crate) use system::OwnedSocket;
#[cfg(feature = "handover")]
pub(crate) use system::{FileId, file_id};

pub use acceptor::Acceptor;
pub use connect_info::ConnectInfo;
pub use connection::{Connection, IdleShutdown};
#[cfg(feature = "handover")]
pub use hand_over::HandOver;
pub use sockets::SocketSharing;
pub use stream::Transport;
pub use target::Listen;

/// Without the feature `systemd`, inherited sockets are not looked up.
#[cfg(not(feature = "systemd"))]
mod inherited {
    use std::{io, net::SocketAddr, path::Path};

    use socket2::Socket;

    pub(crate) fn unclaimed() -> Vec<String> {
        Vec::new()
    }

    pub(super) fn by_number(_: i32) -> io::Result<Socket> {
        Err(needs_the_feature())
    }

    pub(super) fn by_name(_: &str) -> io::Result<Vec<Socket>> {
        Err(needs_the_feature())
    }

    pub(super) fn by_address(_: SocketAddr) -> Option<Socket> {
        None
    }

    pub(super) fn by_path(_: &Path) -> Option<Socket> {
        None
    }

    pub(super) fn by_abstract(_: &str) -> Option<Socket> {
        None
    }

    fn needs_the_feature() -> io::Error {
        let what = "this program takes no sockets that it was started with: enable the feature \
                    `systemd` of graceful-main";
        io::Error::new(io::ErrorKind::Unsupported, what)
    }
}

/// For the fuzz targets.
#[cfg(fuzzing)]
#[allow(unreachable_pub, reason = "for the fuzz targets")]
pub(crate) mod fuzzing {
    pub use super::{
        proxy_header::read_proxy_header, target::read_address, websocket::follow_websocket,
    };
}
