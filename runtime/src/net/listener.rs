//! Listening sockets: bound with as much backlog as the system allows, closed without loss.

use std::{
    io,
    path::Path,
    task::{Context, Poll, ready},
};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::{
    bind::{BoundSocket, ListenerSocket, bind, set_stream_options},
    moving::{self, Offer, Offers},
    sockets::{SocketOptions, SocketSharing},
    stream::Stream,
    system::{self, SocketPath},
    target::Target,
};
use crate::util::{Failure, LocalAddr, Peer};

/// A bound listener.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: ListenerSocket,
    sharing: SocketSharing,
    /// How the program has written its address; empty if it has not.
    written: String,
    /// Whether the process before had it.
    is_inherited: bool,
    path: Option<SocketPath>,
    /// Options to set on each accepted socket; `None` if it inherits them.
    stream_options: Option<SocketOptions>,
}

/// Makes the same call on either kind of socket.
macro_rules! each {
    ($self:expr, $socket:ident => $call:expr) => {
        match &$self {
            ListenerSocket::Tcp($socket) => $call,
            ListenerSocket::Unix($socket) => $call,
        }
    };
}

impl Listener {
    /// Binds every address of `target`, or adopts its listeners.
    ///
    /// # Errors
    ///
    /// The error names the address.
    pub(crate) async fn bind(
        target: Target,
        options: &SocketOptions,
    ) -> Result<Vec<Self>, Failure> {
        let mut bound = Vec::new();
        let result = bind(target, options, &mut bound).await;
        let own = |bound| Self::new(bound, options);
        // Even after a failure: dropping a `Listener` removes its file.
        let listeners = bound.into_iter().map(own).collect();
        result.map(|()| listeners)
    }

    fn new(bound: BoundSocket, options: &SocketOptions) -> Self {
        let BoundSocket { socket, sharing, written, is_inherited } = bound;
        let path = match &socket {
            ListenerSocket::Unix(unix) => SocketPath::of(unix),
            ListenerSocket::Tcp(_) => None,
        };
        let is_passed = || each!(socket, socket => system::is_passed_by_systemd(socket));
        let own = sharing == SocketSharing::Exclusive;
        let sharing = options.sharing.unwrap_or_else(|| match sharing {
            SocketSharing::Unknown if is_passed() => SocketSharing::Shared,
            known => known,
        });
        // Only a socket that we bound has these options, which accepted sockets then inherit.
        let inherited = own && cfg!(target_os = "linux");
        let stream_options = (!inherited).then(|| options.clone());
        Self { socket, sharing, written, is_inherited, path, stream_options }
    }

    /// Sets the options that accepted sockets do not inherit from the listener.
    fn tcp(&self, stream: TcpStream) -> Stream {
        if let Some(options) = &self.stream_options {
            // A connection that refuses an option is broken, which its first read will report.
            let _ = set_stream_options(&SockRef::from(&stream), options);
        }
        Stream::Tcp(stream)
    }

    pub(crate) fn local_addr(&self) -> io::Result<LocalAddr> {
        match &self.socket {
            ListenerSocket::Tcp(tcp) => tcp.local_addr().map(LocalAddr::Tcp),
            ListenerSocket::Unix(unix) => {
                let path = unix.local_addr()?.as_pathname().map(Path::to_owned);
                Ok(LocalAddr::Unix(path))
            }
        }
    }

    /// The inode of the socket, if `/proc` provides it.
    pub(crate) fn inode(&self) -> Option<u64> {
        each!(self.socket, socket => system::inode(socket))
    }

    /// Whether it still is the process's before, which has not let go of it.
    pub(crate) fn is_anothers(&self) -> bool {
        self.is_inherited && !moving::may_accept()
    }

    /// Whether another process keeps accepting, so that the socket is left as it is.
    pub(crate) fn is_shared(&self) -> bool {
        self.sharing == SocketSharing::Shared
    }

    /// Whether a client is in the queue, or may be.
    pub(crate) fn has_waiting(&self) -> bool {
        each!(self.socket, socket => system::has_waiting(socket))
    }

    /// The name by which the next process knows it.
    pub(super) fn key(&self) -> io::Result<String> {
        if let ListenerSocket::Unix(unix) = &self.socket
            && let Some(name) = system::abstract_name(unix)
        {
            return Ok(format!("unix:@{name}"));
        }
        self.local_addr().map(|addr| moving::key(&addr))
    }

    /// Polls for the next connection.
    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Peer)>> {
        match &self.socket {
            ListenerSocket::Tcp(tcp) => {
                let accepted = ready!(tcp.poll_accept(cx));
                Poll::Ready(accepted.map(|(stream, peer)| (self.tcp(stream), Peer::Tcp(peer))))
            }
            ListenerSocket::Unix(unix) => {
                let accepted = ready!(unix.poll_accept(cx));
                Poll::Ready(accepted.map(|(stream, _)| (Stream::Unix(stream), Peer::Unix)))
            }
        }
    }

    /// Accepts a connection that the kernel has ready, or returns `WouldBlock`. Asks the kernel
    /// directly, because the runtime may not have noticed a new connection yet.
    pub(crate) fn try_accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            ListenerSocket::Tcp(tcp) => {
                let (socket, peer) = SockRef::from(tcp).accept()?;
                socket.set_nonblocking(true)?;
                let peer = peer.as_socket().ok_or(io::ErrorKind::ConnectionAborted)?;
                let stream = TcpStream::from_std(socket.into())?;
                Ok((self.tcp(stream), Peer::Tcp(peer)))
            }
            ListenerSocket::Unix(unix) => {
                Ok((Stream::Unix(system::try_accept_unix(unix)?), Peer::Unix))
            }
        }
    }

    /// Turns new clients away, while those that the kernel has already let in can still be
    /// accepted, and handshakes in progress can complete. Returns whether that was possible. A
    /// socket that another process may hold is left alone, because the effect lasts as long as the
    /// socket.
    ///
    /// On Linux, a TCP socket is bound to a network device that does not exist. A SYN then finds no
    /// listener and is refused, or goes to another socket of the `SO_REUSEPORT` group. This needs
    /// no privilege, but fails before Linux 5.7 and if the socket is already bound to a device. A
    /// Unix socket is shut down for reading, which `connect` checks before it joins the queue
    /// (`unix_stream_connect()` in the kernel).
    pub(crate) fn refuse_new(&self) -> bool {
        if let ListenerSocket::Unix(_) = &self.socket {
            self.path.iter().for_each(SocketPath::unlink);
        }
        match &self.socket {
            _ if self.sharing != SocketSharing::Exclusive => false,
            ListenerSocket::Tcp(tcp) => system::refuse_syns(tcp),
            ListenerSocket::Unix(unix) => system::refuse_connects(unix),
        }
    }
}

impl Offers for Listener {
    fn offer(&self) -> io::Result<Offer> {
        let (listener, written) = (self.key()?, self.written.clone());
        let socket = each!(self.socket, socket => system::duplicate(socket))?;
        Ok(Offer { listener, written, sharing: self.sharing, socket })
    }
}

impl Drop for Listener {
    /// Removes the file of a socket that was bound here, whatever became of the server, unless the
    /// next process has taken it.
    fn drop(&mut self) {
        if self.path.is_none() {
            return;
        }
        let is_wanted = self.key().is_ok_and(|key| moving::is_wanted(&key));
        if self.sharing == SocketSharing::Exclusive && !is_wanted && !self.is_anothers() {
            self.path.iter().for_each(SocketPath::unlink);
        }
    }
}

#[cfg(all(test, not(graceful_loom), target_os = "linux"))]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A client that resolved the path before the unlink reaches the socket after it, as through a
    /// second link.
    #[tokio::test]
    async fn a_shut_unix_socket_keeps_its_queue_and_takes_nobody_in() {
        for sharing in [SocketSharing::Exclusive, SocketSharing::Unknown] {
            let path =
                std::env::temp_dir().join(format!("graceful-unit-{}.sock", std::process::id()));
            let link = path.with_extension("link");
            let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
            std::fs::hard_link(&path, &link).unwrap();
            let options = SocketOptions { sharing: Some(sharing), ..SocketOptions::default() };
            let listener = Listener::bind(Target::Unix(socket), &options).await.unwrap().remove(0);
            let _early = UnixStream::connect(&path).unwrap();
            assert_eq!(listener.refuse_new(), sharing == SocketSharing::Exclusive);
            assert!(!path.exists());
            let late = UnixStream::connect(&link).map_err(|error| error.kind());
            assert_eq!(late.is_err(), sharing == SocketSharing::Exclusive, "{late:?}");
            if let Err(kind) = late {
                assert_eq!(kind, io::ErrorKind::ConnectionRefused);
                assert!(listener.try_accept().is_ok());
                let empty = listener.try_accept().unwrap_err();
                assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
            }
            std::fs::remove_file(&link).unwrap();
        }
    }

    #[tokio::test]
    async fn knows_whether_somebody_waits() {
        let target = Target::Text("127.0.0.1:0".into());
        let listener = Listener::bind(target, &SocketOptions::default()).await.unwrap().remove(0);
        assert!(!listener.has_waiting());
        let Ok(LocalAddr::Tcp(addr)) = listener.local_addr() else { panic!("a TCP listener") };
        let _client = std::net::TcpStream::connect(addr).unwrap();
        assert!(listener.has_waiting());
    }
}
