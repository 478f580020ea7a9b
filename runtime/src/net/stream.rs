//! The stream of a connection as one type (TCP, Unix, or a layer over either), so that hyper's code
//! exists once per service.

use std::{
    io::{self, IoSlice},
    mem::{self, MaybeUninit},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use super::system::{self, OwnedSocket, UnixCredentials, UnixStream};
use crate::util::Peer;

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// TLS, or another protocol, over the socket.
    Layered(Box<dyn Layered>),
    /// Taken out: reads return end of file, writes fail with a broken pipe.
    Taken,
}

/// The state of the kernel's receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Nothing,
    Something,
    /// The peer has closed its side, or the connection is broken.
    End,
}

/// Input that a layer has read but not yet returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PendingInput {
    /// Nothing, or only what the layer has consumed itself.
    Nothing,
    /// Part of a record: the rest has yet to arrive.
    PartOfRecord,
    /// Bytes whose meaning only the layer knows.
    Unknown,
}

/// A type-erased stream over a socket.
pub(crate) trait Layered: AsyncRead + AsyncWrite + Unpin + Send + Sync {
    fn transport(&self) -> &Transport;

    fn pending_input(&self) -> PendingInput;

    #[cfg(feature = "tls")]
    fn tls_info(&self) -> Option<super::tls_info::TlsInfo> {
        None
    }
}

impl std::fmt::Debug for dyn Layered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layered").field("transport", self.transport()).finish()
    }
}

impl Stream {
    /// Takes the socket out, away from the runtime, and leaves the stream's end behind. `None`: it
    /// cannot be had; a layer, or a socket that the runtime does not let go of, stays as it is.
    pub(crate) fn take_socket(&mut self) -> Option<OwnedSocket> {
        match self {
            Self::Layered(_) | Self::Taken => return None,
            Self::Tcp(_) | Self::Unix(_) => {}
        }
        match self.take() {
            Self::Tcp(tcp) => tcp.into_std().ok().map(Into::into),
            Self::Unix(unix) => system::take_socket(unix).ok(),
            Self::Layered(_) | Self::Taken => None,
        }
    }

    /// Makes a stream of a connected socket. Needs the context of the runtime.
    ///
    /// # Errors
    ///
    /// If the socket is not connected, or the runtime cannot watch it.
    pub(crate) fn of_socket(socket: OwnedSocket) -> io::Result<(Self, Peer)> {
        let socket = socket2::Socket::from(socket);
        socket.set_nonblocking(true)?;
        match socket.peer_addr()?.as_socket() {
            Some(peer) => Ok((Self::Tcp(TcpStream::from_std(socket.into())?), Peer::Tcp(peer))),
            None => Ok((Self::Unix(system::unix_stream(socket)?), Peer::Unix)),
        }
    }

    /// Takes the stream out, leaving `Taken` behind.
    pub(crate) fn take(&mut self) -> Self {
        mem::replace(self, Self::Taken)
    }

    /// The socket beneath all layers.
    fn socket(&self) -> &Self {
        match self {
            Self::Layered(layered) => &layered.transport().socket,
            Self::Tcp(_) | Self::Unix(_) | Self::Taken => self,
        }
    }

    /// Whether written data may be buffered in a layer, so that it has to be flushed and its end
    /// announced.
    #[inline]
    pub(crate) fn is_layered(&self) -> bool {
        matches!(self, Self::Layered(_))
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls_info(&self) -> Option<super::tls_info::TlsInfo> {
        match self {
            Self::Layered(layered) => layered.tls_info(),
            Self::Tcp(_) | Self::Unix(_) | Self::Taken => None,
        }
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self.socket() {
            Self::Tcp(tcp) => tcp.local_addr().ok(),
            _ => None,
        }
    }

    /// The credentials of the client of a Unix socket.
    pub(super) fn peer_credentials(&self) -> Option<UnixCredentials> {
        match self.socket() {
            Self::Unix(unix) => unix.peer_cred().ok(),
            _ => None,
        }
    }

    /// How many bytes the layer has written to the socket so far; 0 without a layer, where only the
    /// stream's users write.
    pub(crate) fn bytes_written(&self) -> u64 {
        match self {
            Self::Layered(layered) => layered.transport().written,
            Self::Tcp(_) | Self::Unix(_) | Self::Taken => 0,
        }
    }

    /// Input that was read from the socket and not yet returned by the layer above it.
    pub(crate) fn pending_input(&self) -> PendingInput {
        match self {
            Self::Layered(layered) => layered.pending_input(),
            Self::Tcp(_) | Self::Unix(_) | Self::Taken => PendingInput::Nothing,
        }
    }

    /// Called after the write side was shut: wakes the task when the client has acknowledged the
    /// FIN, and with it everything sent. Linux reports the step from `FIN_WAIT1` to `FIN_WAIT2` as
    /// a change of the socket's state, which is an edge-triggered event of the kind that tokio
    /// waits for.
    pub(super) fn register_acknowledged(&self, cx: &mut Context<'_>) {
        if let Self::Tcp(tcp) = self.socket()
            && let Poll::Ready(Ok(())) = tcp.poll_write_ready(cx)
        {
            // A shut socket is always writable, in order to report the error; clear that readiness
            // first.
            let forget = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = tcp.try_io(Interest::WRITABLE, forget);
            let _ = tcp.poll_write_ready(cx);
        }
    }

    /// Looks into the kernel's receive buffer directly, because the runtime may not have noticed
    /// new bytes yet. For a layered stream, input that the layer has buffered is not included.
    pub(crate) fn peek(&self) -> Received {
        let socket = match self.socket() {
            Self::Tcp(tcp) => SockRef::from(tcp),
            Self::Unix(unix) => SockRef::from(unix),
            Self::Layered(_) | Self::Taken => return Received::End,
        };
        match socket.peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => Received::End,
            Ok(_) => Received::Something,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Received::Something,
            Err(_) => Received::End,
        }
    }
}

/// Forwards the call to the stream of the variant.
macro_rules! each {
    ($self:expr, $stream:ident => $call:expr, taken => $taken:expr) => {
        match $self.get_mut() {
            Stream::Tcp(tcp) => {
                let $stream = Pin::new(tcp);
                $call
            }
            Stream::Unix(unix) => {
                let $stream = Pin::new(unix);
                $call
            }
            Stream::Layered(layered) => {
                let $stream = Pin::new(layered);
                $call
            }
            Stream::Taken => Poll::Ready($taken),
        }
    };
}

fn taken<T>() -> io::Result<T> {
    Err(io::ErrorKind::BrokenPipe.into())
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read(cx, buf), taken => Ok(()))
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(cx, buf), taken => taken())
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write_vectored(cx, bufs), taken => taken())
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => true,
            Self::Layered(layered) => layered.is_write_vectored(),
            Self::Taken => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx), taken => Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(cx), taken => Ok(()))
    }
}

/// Implements the methods of `AsyncWrite` that only forward to a field: all of them, or those about
/// the end.
macro_rules! forward_write {
    (all => $field:ident) => {
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            buf: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            std::pin::Pin::new(&mut self.get_mut().$field).poll_write(cx, buf)
        }

        fn poll_write_vectored(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            bufs: &[std::io::IoSlice<'_>],
        ) -> std::task::Poll<std::io::Result<usize>> {
            std::pin::Pin::new(&mut self.get_mut().$field).poll_write_vectored(cx, bufs)
        }

        forward_write!(end => $field);
    };
    (end => $field:ident) => {
        fn is_write_vectored(&self) -> bool {
            self.$field.is_write_vectored()
        }

        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::pin::Pin::new(&mut self.get_mut().$field).poll_flush(cx)
        }

        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::pin::Pin::new(&mut self.get_mut().$field).poll_shutdown(cx)
        }
    };
}

pub(super) use forward_write;

/// An accepted connection before any protocol. An [`Acceptor`](crate::Acceptor) receives it.
#[derive(Debug)]
pub struct Transport {
    /// Never layered.
    socket: Stream,
    /// How many bytes a layer has read and written so far.
    read: u64,
    written: u64,
}

impl Transport {
    pub(super) fn new(socket: Stream) -> Self {
        Self { socket, read: 0, written: 0 }
    }

    /// Returns the socket, for a protocol without a layer.
    pub(super) fn into_socket(self) -> Stream {
        self.socket
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.read
    }

    fn count_written(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(count)) = written {
            self.written += *count as u64;
        }
    }
}

impl AsyncRead for Transport {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, buf);
        this.read += (buf.filled().len() - before) as u64;
        read
    }
}

impl AsyncWrite for Transport {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.count_written(&written);
        written
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        this.count_written(&written);
        written
    }

    forward_write!(end => socket);
}
