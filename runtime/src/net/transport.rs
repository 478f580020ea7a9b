//! An accepted socket, TCP or Unix: what a protocol such as TLS is spoken over.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use super::sockets::{UnixCredentials, UnixStream};

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
