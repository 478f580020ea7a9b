//! An accepted stream, TCP or Unix, as one type: so that hyper's code exists once per service.

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

use super::sockets::UnixStream;

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// It has been taken: an end of file, a broken pipe.
    Taken,
}

/// What the kernel has received for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Nothing,
    Something,
    /// The peer has closed its side, or the connection is broken.
    End,
}

impl Stream {
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        // A connection that refuses the option is broken, which its first read will tell.
        let _ = stream.set_nodelay(true);
        Self::Tcp(stream)
    }

    /// Takes the stream out and leaves its end behind.
    pub(crate) fn take(&mut self) -> Self {
        mem::replace(self, Self::Taken)
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(tcp) => tcp.local_addr().ok(),
            Self::Unix(_) | Self::Taken => None,
        }
    }

    /// After the write side was shut: has the task woken when the client has acknowledged the FIN,
    /// and with it all that was sent. Linux reports the step from `FIN_WAIT1` to `FIN_WAIT2` as a
    /// change of the socket's state, which is an event of the edge-triggered kind that tokio waits
    /// for.
    pub(crate) fn register_acknowledged(&self, cx: &mut Context<'_>) {
        if let Self::Tcp(tcp) = self
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
    pub(crate) fn peek(&self) -> Received {
        let socket = match self {
            Self::Tcp(tcp) => SockRef::from(tcp),
            Self::Unix(unix) => SockRef::from(unix),
            Self::Taken => return Received::End,
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

/// Forwards to whichever it is.
macro_rules! each {
    ($self:expr, $stream:ident => $call:expr, taken => $taken:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
            Stream::Taken => Poll::Ready($taken),
        }
    };
}

fn taken<T>() -> io::Result<T> {
    Err(io::ErrorKind::BrokenPipe.into())
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf), taken => Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf), taken => taken())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs), taken => taken())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx), taken => Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx), taken => Ok(()))
    }
}
