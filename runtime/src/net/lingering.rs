//! The end of a connection (RFC 9112, section 9.6): the write side is shut first, and what the client still sends
//! is read and dropped for a while. Bytes that are left unread would turn the close into a reset, which can
//! destroy a response that the client has not read yet.

use std::{
    mem::MaybeUninit,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;

/// How often one poll reads, before other connections get their turn.
const READS: usize = 16;

/// A stream that is being closed.
#[derive(Debug)]
pub(crate) struct LingeringClose {
    stream: Stream,
    shut: bool,
    /// Whether nothing more will come from the client.
    is_silent: bool,
}

impl LingeringClose {
    /// `is_silent`: the client has said all it has to say.
    pub(crate) fn new(stream: Stream, is_silent: bool) -> Self {
        Self { stream, shut: false, is_silent }
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.stream.local_addr()
    }

    /// Ready once the client has closed its side, or the connection is broken: nothing more will come. Until
    /// then the task is also woken when the client has acknowledged all there was.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.shut {
            // A connection that cannot be shut is broken, as the next read will tell.
            let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
            self.shut = true;
        }
        self.stream.register_acknowledged(cx);
        if self.is_silent {
            return Poll::Ready(());
        }
        let mut scratch = [MaybeUninit::uninit(); 4096];
        for _ in 0..READS {
            let mut buf = ReadBuf::uninit(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) | Err(_) => {
                    self.is_silent = true;
                    return Poll::Ready(());
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
