//! Connections of any protocol: addresses, listeners, the accept loop, and a connection that is
//! waited for, named, and closed without loss.
//!
//! May use: `util`, `log`, `work`, `stop`, `context`. Must not know: HTTP.

mod accept;
mod acceptor;
mod address;
mod backoff;
mod bind;
mod bind_error;
pub(crate) mod clock;
mod closing;
mod conn;
mod connect_info;
mod connection;
mod delivery;
mod endpoint;
mod guard;
mod guarded_io;
mod handshake;
mod holders;
mod idle_shutdown;
#[cfg_attr(not(feature = "systemd"), path = "not_inherited.rs")]
mod inherited;
mod kernel;
mod listener;
mod options;
#[cfg(feature = "proxy-protocol")]
mod proxy_header;
mod raw;
mod raw_conn;
mod server_options;
mod slots;
mod sockets;
mod stream;
mod target;
mod timer;
#[cfg(feature = "tls")]
pub(crate) mod tls;
mod transport;

pub(crate) use self::{
    accept::{AcceptLoop, Accepted, MakeConnection},
    acceptor::{Custom, PendingInput},
    closing::{Closing, Follow, TICK},
    conn::{ConnCore, GuardedConn},
    delivery::{ConnDrain, KernelView},
    endpoint::Endpoint,
    guard::ConnGuard,
    guarded_io::GuardedIo,
    handshake::{Preamble, before_protocol},
    holders::Holders,
    inherited::unclaimed,
    kernel::Kernel,
    raw::RawMaker,
    server_options::server_options,
    slots::Slot,
    stream::Stream,
    timer::Timer,
    transport::Received,
};

pub use {
    acceptor::Acceptor, connect_info::ConnectInfo, connection::Connection,
    idle_shutdown::IdleShutdown, target::Listen, transport::Transport,
};
