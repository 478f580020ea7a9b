//! What differs between systems, on Windows: there are no Unix sockets here, the kernel is not
//! asked, and the queue of a listener is emptied once.

#![allow(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "the signatures are those of the other systems"
)]

use std::{
    io,
    os::windows::io::AsSocket,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use socket2::Socket;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
};

use super::sockets::SocketOptions;

pub(crate) use std::os::windows::io::OwnedSocket;

/// A Unix socket: std and tokio have none on this system.
#[derive(Debug)]
pub enum UnixListener {}
/// The same, as std would have it.
#[derive(Debug)]
pub enum StdUnixListener {}
#[derive(Debug)]
pub(crate) enum UnixStream {}
#[derive(Clone, Copy, Debug)]
pub(super) enum UnixCredentials {}

/// The address of a socket that cannot be.
pub(super) enum Nowhere {}

impl Nowhere {
    pub(super) fn as_pathname(&self) -> Option<&Path> {
        match *self {}
    }
}

impl UnixListener {
    pub(super) fn local_addr(&self) -> io::Result<Nowhere> {
        match *self {}
    }

    pub(super) fn poll_accept(
        &self,
        _: &mut Context<'_>,
    ) -> Poll<io::Result<(UnixStream, Nowhere)>> {
        match *self {}
    }
}

impl AsSocket for UnixListener {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        match *self {}
    }
}

impl UnixStream {
    pub(super) fn peer_cred(&self) -> io::Result<UnixCredentials> {
        match *self {}
    }
}

impl AsSocket for UnixStream {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        match *self {}
    }
}

impl AsyncRead for UnixStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for UnixStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

fn no_unix_sockets<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "there are no Unix sockets on Windows"))
}

/// Makes a listener of a socket that is none of TCP.
pub(super) fn adopt_unix(_: Socket) -> io::Result<UnixListener> {
    no_unix_sockets()
}

/// Makes a stream of a socket that is none of TCP.
pub(super) fn unix_stream(_: Socket) -> io::Result<UnixStream> {
    no_unix_sockets()
}

pub(super) fn listen(socket: StdUnixListener) -> io::Result<UnixListener> {
    match socket {}
}

pub(super) fn take_socket(stream: UnixStream) -> io::Result<OwnedSocket> {
    match stream {}
}

pub(super) fn inode(_: &impl AsSocket) -> Option<u64> {
    None
}

/// Whether a client may be in the queue of a listener.
pub(super) fn has_waiting(_: &impl AsSocket) -> bool {
    true
}

/// The path of a Unix socket.
#[derive(Debug)]
pub(super) enum SocketPath {}

impl SocketPath {
    pub(super) fn of(listener: &UnixListener) -> Option<Self> {
        match *listener {}
    }

    pub(super) fn unlink(&self) {
        match *self {}
    }
}

pub(super) fn bind_path(_: &Path, _: &SocketOptions) -> io::Result<StdUnixListener> {
    no_unix_sockets()
}

pub(super) fn bind_abstract(_: &str, _: &SocketOptions) -> io::Result<StdUnixListener> {
    no_unix_sockets()
}

pub(super) fn abstract_name(listener: &UnixListener) -> Option<String> {
    match *listener {}
}

/// Here this option would let another process take the port
/// (`SO_EXCLUSIVEADDRUSE` in the documentation of Winsock), and connections in `TIME_WAIT` do not
/// hold it.
pub(super) fn set_reuse_address(_: &Socket) -> io::Result<()> {
    Ok(())
}

pub(super) fn set_reuse_port(_: &Socket) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "there is no `SO_REUSEPORT` on Windows"))
}

/// Whether this machine lacks the address, or its whole family.
pub(super) fn is_unavailable(error: &io::Error) -> bool {
    /// `WSAEAFNOSUPPORT`
    const NO_FAMILY: i32 = 10_047;
    error.raw_os_error() == Some(NO_FAMILY) || error.kind() == io::ErrorKind::AddrNotAvailable
}

pub(super) fn refuse_syns(_: &TcpListener) -> bool {
    false
}

pub(super) fn refuse_connects(listener: &UnixListener) -> bool {
    match *listener {}
}

pub(super) fn try_accept_unix(listener: &UnixListener) -> io::Result<UnixStream> {
    match *listener {}
}

pub(super) fn is_passed_by_systemd(_: &impl AsSocket) -> bool {
    false
}

/// Finds the process that listens on `port`.
pub(super) fn listens_at(_: u16) -> Option<String> {
    None
}

/// Returns a second handle of the socket.
pub(super) fn duplicate(socket: &impl AsSocket) -> io::Result<OwnedSocket> {
    socket.as_socket().try_clone_to_owned()
}

/// What changes with the contents of a file.
#[cfg(feature = "tls")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStamp {
    size: u64,
    modified: Option<std::time::SystemTime>,
    created: Option<std::time::SystemTime>,
}

#[cfg(feature = "tls")]
impl FileStamp {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        let (modified, created) = (metadata.modified().ok(), metadata.created().ok());
        Self { size: metadata.len(), modified, created }
    }
}
