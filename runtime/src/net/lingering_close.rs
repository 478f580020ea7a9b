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
    progress: Progress,
    ended: bool,
    /// How many of the bytes that were written last are no answer, so far.
    goodbye: u64,
    /// How many had been written then.
    written: u64,
}

/// What has been done of the close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing: a layer may still hold what was written.
    Open,
    /// All of it is with the kernel.
    Flushed,
    /// The write side is shut, and the end has been said.
    Shut,
}

impl LingeringClose {
    /// `goodbye`: how many of the bytes that were written last are no answer.
    pub(crate) fn new(stream: Stream, goodbye: u64) -> Self {
        let written = stream.bytes_written();
        Self { stream, progress: Progress::Open, ended: false, goodbye, written }
    }

    /// How many of the bytes that were written last are no answer.
    pub(crate) fn goodbye(&self) -> u64 {
        match self.progress {
            Progress::Open => self.goodbye,
            Progress::Flushed | Progress::Shut => {
                self.goodbye + (self.stream.bytes_written() - self.written)
            }
        }
    }

    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.progress == Progress::Open {
            // What is broken cannot be flushed or shut, as the next read will tell.
            let _ = ready!(Pin::new(&mut self.stream).poll_flush(cx));
            let written = self.stream.bytes_written();
            if written != self.written {
                // There was more to come of what had been written before.
                (self.goodbye, self.written) = (0, written);
            }
            self.progress = Progress::Flushed;
        }
        if self.progress == Progress::Flushed {
            let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
            self.progress = Progress::Shut;
        }
        Poll::Ready(())
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
        ready!(self.poll_shut(cx));
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
