//! What hyper makes of the same bytes.

use std::{
    cell::Cell,
    convert::Infallible,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How hyper takes a connection on which these bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How many requests the service was called with.
    pub(super) calls: u32,
    /// Of these, how many had a body that came to its end.
    pub(super) complete: u32,
    /// Whether it has closed the connection by itself: it rejects what it has read.
    pub(super) rejects: bool,
    /// Whether it takes an end of the stream for a clean one: between two messages.
    pub(super) ends_well: bool,
}

/// Bytes in pieces, then nothing, then an end; takes whatever is written.
struct Script<'a> {
    pieces: &'a [&'a [u8]],
    piece: &'a [u8],
    at_end: &'a Cell<bool>,
}

impl AsyncRead for Script<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        while let ([], [next, rest @ ..]) = (this.piece, this.pieces) {
            (this.piece, this.pieces) = (next, rest);
        }
        if this.piece.is_empty() && !this.at_end.get() {
            return Poll::Pending;
        }
        let taken = this.piece.len().min(buf.remaining());
        buf.put_slice(&this.piece[..taken]);
        this.piece = &this.piece[taken..];
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Lets hyper read `pieces`, with a service that reads every body to its end.
pub(super) fn ask(pieces: &[&[u8]]) -> Verdict {
    let (calls, complete, at_end) = (Cell::new(0), Cell::new(0), Cell::new(false));
    let service = service_fn(async |request: Request<Incoming>| {
        calls.set(calls.get() + 1);
        if request.into_body().collect().await.is_ok() {
            complete.set(complete.get() + 1);
        }
        Ok::<_, Infallible>(Response::new(String::new()))
    });
    let io = TokioIo::new(Script { pieces, piece: &[], at_end: &at_end });
    let mut connection = pin!(http1::Builder::new().serve_connection(io, service));
    let mut cx = Context::from_waker(Waker::noop());
    // Each poll goes on for as long as it can; what it wakes itself for comes with the next.
    let mut poll = || {
        (0..4 + pieces.len()).find_map(|_| match connection.as_mut().poll(&mut cx) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        })
    };
    let rejects = poll().is_some();
    let (calls_before, complete_before) = (calls.get(), complete.get());
    at_end.set(true);
    let ends_well = !rejects && poll().is_some_and(|result| result.is_ok());
    Verdict { calls: calls_before, complete: complete_before, rejects, ends_well }
}
