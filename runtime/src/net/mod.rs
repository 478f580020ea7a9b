//! Connections of any protocol: addresses, listeners, the accept loop, and a connection that is
//! waited for, named, and closed without loss.
//!
//! May use: `util`, `log`, `work`, `stop`, `context`. Must not know: HTTP.

mod addr;

pub(crate) use addr::LocalAddr;

#[cfg(feature = "http")]
mod accept;
#[cfg(feature = "http")]
mod bind;
#[cfg(feature = "http")]
pub(crate) mod clock;
#[cfg(feature = "http")]
mod conn;
#[cfg(feature = "http")]
mod delivery;
#[cfg(feature = "http")]
mod guard;
#[cfg(feature = "http")]
mod guarded_io;
#[cfg(feature = "http")]
mod holders;
#[cfg(feature = "http")]
mod kernel;
#[cfg(feature = "http")]
mod lingering_close;
#[cfg(feature = "http")]
mod listener;
#[cfg(feature = "http")]
mod sockets;
#[cfg(feature = "http")]
mod stream;
#[cfg(feature = "http")]
mod target;
#[cfg(feature = "http")]
mod timer;

#[cfg(feature = "http")]
pub(crate) use self::{
    accept::{AcceptLoop, Accepted, MakeConnection},
    addr::Peer,
    conn::{ConnCore, GuardedConn},
    delivery::{ConnDrain, KernelView},
    guard::ConnGuard,
    guarded_io::GuardedIo,
    holders::Holders,
    kernel::Kernel,
    lingering_close::LingeringClose,
    listener::Listener,
    stream::{Received, Stream},
    target::Target,
    timer::Timer,
};

#[cfg(feature = "http")]
pub use target::Listen;
