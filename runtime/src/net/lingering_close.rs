//! The end of a connection (RFC 9112, section 9.6): the write side is shut first, and what the
//! client still sends is read and dropped for a while. Bytes that are left unread would turn the
//! close into a reset, which can destroy a response that the client has not read yet.

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
    ended: bool,
}

impl LingeringClose {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, shut: false, ended: false }
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.stream.local_addr()
    }

    /// Ready once the client has closed its side, or the connection is broken: nothing more will
    /// come. Until then `dropped` is called with what is read, and the task is also woken when the
    /// client has acknowledged all there was.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut dropped: impl FnMut(&[u8]),
    ) -> Poll<()> {
        if !self.shut {
            // A connection that cannot be shut is broken, as the next read will tell.
            let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
            self.shut = true;
        }
        self.stream.register_acknowledged(cx);
        let mut scratch = [MaybeUninit::uninit(); 4096];
        for _ in 0..READS {
            if self.ended {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::uninit(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => dropped(buf.filled()),
                Ok(()) | Err(_) => self.ended = true,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
