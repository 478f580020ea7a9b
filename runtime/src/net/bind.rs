//! From an address to a listening socket.

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::{
    sockets::{StdUnixListener, UnixListener},
    target::Target,
};

/// The kernel cuts this down to `net.core.somaxconn` (listen(2)). With the 128 that std and tokio
/// ask for, a burst of clients waits for a second until their SYN is sent again.
const BACKLOG: i32 = i32::MAX;

#[derive(Debug)]
pub(super) enum ListenerSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Binds `target`, or takes over the listener that it is.
pub(super) async fn bind(target: Target) -> io::Result<ListenerSocket> {
    match target {
        Target::Name(name) => bind_resolved(name).await,
        Target::Host(host, port) => bind_resolved((host, port)).await,
        Target::Addrs(addrs) => bind_first(addrs.into_iter()),
        Target::Tcp(std) => adopt_tcp(std),
        Target::TokioTcp(tokio) => Ok(ListenerSocket::Tcp(tokio)),
        Target::Unix(std) => adopt_unix(std),
        Target::TokioUnix(tokio) => Ok(ListenerSocket::Unix(tokio)),
    }
}

async fn bind_resolved(name: impl tokio::net::ToSocketAddrs) -> io::Result<ListenerSocket> {
    bind_first(tokio::net::lookup_host(name).await?)
}

/// As `TcpListener::bind`: the first address that works, or the last error.
fn bind_first(addrs: impl Iterator<Item = SocketAddr>) -> io::Result<ListenerSocket> {
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
    let mut last = None;
    for addr in addrs {
        match bind_tcp(addr) {
            Ok(listener) => return Ok(ListenerSocket::Tcp(listener)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(none))
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // As std and tokio: a restart need not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn adopt_tcp(listener: std::net::TcpListener) -> io::Result<ListenerSocket> {
    // An inherited socket is often a blocking one.
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener).map(ListenerSocket::Tcp)
}

fn adopt_unix(listener: StdUnixListener) -> io::Result<ListenerSocket> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener).map(ListenerSocket::Unix)
}
