//! Connections of any protocol: addresses, listeners, the accept loop, and a connection that is
//! waited for, named, and closed without loss.
//!
//! May use: `util`, `log`, `work`, `stop`, `context`. Must not know: HTTP.

mod accept;
mod bind;
pub(crate) mod clock;
mod closing;
mod conn;
mod connect_info;
mod connection;
mod delivery;
mod guarded_io;
mod handshake;
#[cfg_attr(not(feature = "systemd"), path = "not_inherited.rs")]
mod inherited;
mod kernel;
mod listener;
#[cfg(feature = "proxy-protocol")]
mod proxy_header;
mod server_options;
mod sockets;
mod stream;
mod target;
#[cfg(feature = "tls")]
pub(crate) mod tls;

pub(crate) use self::{
    accept::Slot,
    accept::{AcceptLoop, Accepted, MakeConnection},
    clock::Timer,
    closing::{Closing, Follow, TICK},
    conn::ConnGuard,
    conn::{ConnCore, GuardedConn},
    connection::RawMaker,
    delivery::{ConnDrain, KernelView},
    guarded_io::GuardedIo,
    handshake::{Custom, PendingInput},
    handshake::{Preamble, before_protocol},
    inherited::unclaimed,
    kernel::Kernel,
    server_options::server_options,
    sockets::Holders,
    stream::Received,
    stream::Stream,
    target::Endpoint,
};

pub use {
    connect_info::ConnectInfo, connection::Connection, connection::IdleShutdown,
    handshake::Acceptor, stream::Transport, target::Listen,
};
