//! The stream of a connection as one type, so that hyper's code exists once per service: the socket
//! itself, or what is spoken over it.

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

use super::{
    handshake::{Layered, PendingInput},
    sockets::{UnixCredentials, UnixStream},
};

#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Transport),
    /// TLS, or another protocol, over the socket.
    Layered(Box<dyn Layered>),
    /// It has been taken: an end of file, a broken pipe.
    Taken,
}

impl Stream {
    pub(super) fn tcp(tcp: TcpStream) -> Self {
        Self::Plain(Transport::new(Socket::Tcp(tcp)))
    }

    pub(crate) fn unix(unix: UnixStream) -> Self {
        Self::Plain(Transport::new(Socket::Unix(unix)))
    }

    /// Takes the stream out and leaves its end behind.
    pub(crate) fn take(&mut self) -> Self {
        mem::replace(self, Self::Taken)
    }

    /// The socket below everything.
    fn transport(&self) -> Option<&Transport> {
        match self {
            Self::Plain(transport) => Some(transport),
            Self::Layered(layered) => Some(layered.transport()),
            Self::Taken => None,
        }
    }

    /// Whether what is written may wait in here: it has to be flushed, and its end has to be said.
    #[inline]
    pub(crate) fn is_layered(&self) -> bool {
        matches!(self, Self::Layered(_))
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls_info(&self) -> Option<super::tls::TlsInfo> {
        match self {
            Self::Layered(layered) => layered.tls_info(),
            Self::Plain(_) | Self::Taken => None,
        }
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.transport()?.local_addr()
    }

    pub(super) fn peer_credentials(&self) -> Option<UnixCredentials> {
        self.transport()?.peer_credentials()
    }

    /// See `Transport::register_acknowledged`.
    pub(super) fn register_acknowledged(&self, cx: &mut Context<'_>) {
        if let Some(transport) = self.transport() {
            transport.register_acknowledged(cx);
        }
    }

    /// How many bytes the layer has written to the socket so far. Without one nothing is written but
    /// what its users write.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.transport().map_or(0, Transport::bytes_written)
    }

    /// What has been read from the socket and has not come out of the layer above it.
    pub(crate) fn pending_input(&self) -> PendingInput {
        match self {
            Self::Layered(layered) => layered.pending_input(),
            Self::Plain(_) | Self::Taken => PendingInput::Nothing,
        }
    }

    /// See `Transport::peek`. Of a layered stream it says nothing that the kernel does not know.
    pub(crate) fn peek(&self) -> Received {
        self.transport().map_or(Received::End, Transport::peek)
    }
}

/// Forwards to whichever it is.
macro_rules! each {
    ($self:expr, $stream:ident => $call:expr, taken => $taken:expr) => {
        match $self.get_mut() {
            Stream::Plain(transport) => {
                let $stream = transport.socket();
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
            Self::Plain(transport) => transport.is_write_vectored(),
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

// An accepted socket, TCP or Unix: what a protocol such as TLS is spoken over.

/// An accepted connection as the kernel has it, before any protocol: what an
/// [`Acceptor`](crate::Acceptor) is handed.
#[derive(Debug)]
pub struct Transport {
    socket: Socket,
    /// How many bytes a layer has read and written so far. What is spoken over the socket itself is not
    /// counted: `Stream` goes past this.
    read: u64,
    written: u64,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What the kernel has received for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Nothing,
    Something,
    /// The peer has closed its side, or the connection is broken.
    End,
}

impl Transport {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, read: 0, written: 0 }
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.read
    }

    pub(super) fn bytes_written(&self) -> u64 {
        self.written
    }

    /// The socket, for what is spoken over it without a layer.
    #[inline]
    pub(super) fn socket(&mut self) -> Pin<&mut Socket> {
        Pin::new(&mut self.socket)
    }

    fn note_written(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = written {
            self.written += count as u64;
        }
        written
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(tcp) => tcp.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    /// Of the client of a Unix socket.
    pub(crate) fn peer_credentials(&self) -> Option<UnixCredentials> {
        match &self.socket {
            Socket::Unix(unix) => unix.peer_cred().ok(),
            Socket::Tcp(_) => None,
        }
    }

    /// After the write side was shut: has the task woken when the client has acknowledged the FIN,
    /// and with it all that was sent. Linux reports the step from `FIN_WAIT1` to `FIN_WAIT2` as a
    /// change of the socket's state, which is an event of the edge-triggered kind that tokio waits
    /// for.
    pub(super) fn register_acknowledged(&self, cx: &mut Context<'_>) {
        if let Socket::Tcp(tcp) = &self.socket
            && let Poll::Ready(Ok(())) = tcp.poll_write_ready(cx)
        {
            // It is always writable, in order to report the error: that is what has to be forgotten
            // first.
            let forget = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = tcp.try_io(Interest::WRITABLE, forget);
            let _ = tcp.poll_write_ready(cx);
        }
    }

    /// Looks into the kernel's receive buffer, past the runtime: that it has not heard of any bytes
    /// yet does not say that there are none.
    pub(super) fn peek(&self) -> Received {
        let socket = match &self.socket {
            Socket::Tcp(tcp) => SockRef::from(tcp),
            Socket::Unix(unix) => SockRef::from(unix),
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

macro_rules! each {
    ($self:expr, $socket:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Tcp($socket) => $call,
            Socket::Unix($socket) => $call,
        }
    };
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, socket => Pin::new(socket).poll_write(cx, buf))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, socket => Pin::new(socket).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets of the kernel have nothing to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_shutdown(cx))
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = this.socket().poll_read(cx, buf);
        this.read += (buf.filled().len() - before) as u64;
        read
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.socket().poll_write(cx, buf);
        this.note_written(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.socket().poll_write_vectored(cx, bufs);
        this.note_written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket().poll_shutdown(cx)
    }
}
