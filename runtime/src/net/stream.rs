//! The stream of a connection as one type, so that hyper's code exists once per service: the socket
//! itself, or what is spoken over it.

use std::{
    io::{self, IoSlice},
    mem,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    acceptor::{Layered, PendingInput},
    sockets::{UnixCredentials, UnixStream},
    transport::{Received, Socket, Transport},
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
