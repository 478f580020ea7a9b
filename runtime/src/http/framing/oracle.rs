//! Runs hyper on the same bytes, for the tests and for the fuzz target in `fuzz/`.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use super::{Framing, Position};
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How hyper treats a connection on which these bytes are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How many requests the service was called with.
    pub(crate) calls: u32,
    /// Method and path of each.
    pub(crate) names: Vec<(String, String)>,
    /// How many of these had a body that came to its end.
    pub(crate) complete: u32,
    /// Whether hyper has closed the connection by itself, rejecting what it read.
    pub(crate) rejects: bool,
    /// Whether hyper considers the end of the stream clean, between two messages.
    pub(crate) ends_well: bool,
}

/// Yields bytes in pieces, then pends, then ends; accepts whatever is written.
struct Script<'a> {
    pieces: &'a [&'a [u8]],
    piece: &'a [u8],
    at_end: &'a Cell<bool>,
    /// Updated like that of our own stream.
    framing: &'a RefCell<Framing>,
    calls: &'a Cell<u32>,
    latest: &'a RefCell<&'a [u8]>,
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
        let (read, rest) = this.piece.split_at(taken);
        if taken > 0 {
            this.framing.borrow_mut().read(read, this.calls.get());
            *this.latest.borrow_mut() = read;
        }
        buf.put_slice(read);
        this.piece = rest;
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

/// Lets hyper read `pieces`, with a service that reads every body to its end, and follows them as
/// our own stream does.
pub(crate) fn ask(pieces: &[&[u8]]) -> (Verdict, Framing) {
    let (calls, complete, at_end) = (Cell::new(0), Cell::new(0), Cell::new(false));
    let (names, latest) = (RefCell::new(Vec::new()), RefCell::new(&[][..]));
    let framing = RefCell::new(Framing::new());
    let service = service_fn(|request: Request<Incoming>| {
        calls.set(calls.get() + 1);
        let name = (request.method().to_string(), request.uri().path().to_owned());
        names.borrow_mut().push(name);
        let is_plain = framing.borrow().position() == Position::Plain;
        if is_plain && !request.body().is_end_stream() {
            framing.borrow_mut().look_through(&latest.borrow());
        }
        let (mut body, complete) = (request.into_body(), &complete);
        async move {
            let whole = poll_fn(|cx| {
                loop {
                    match ready!(Pin::new(&mut body).poll_frame(cx)) {
                        Some(Ok(_)) => {}
                        Some(Err(_)) => return Poll::Ready(false),
                        None => return Poll::Ready(true),
                    }
                }
            });
            if whole.await {
                complete.set(complete.get() + 1);
            }
            Ok::<_, Infallible>(Response::new(String::new()))
        }
    });
    let (framing, calls, latest) = (&framing, &calls, &latest);
    let script = Script { pieces, piece: &[], at_end: &at_end, framing, calls, latest };
    let io = TokioIo::new(script);
    let mut connection = pin!(http1::Builder::new().serve_connection(io, service));
    let mut cx = Context::from_waker(Waker::noop());
    // Each poll goes on as long as it can; what it wakes itself for comes with the next.
    let mut poll = || {
        (0..4 + pieces.len()).find_map(|_| match connection.as_mut().poll(&mut cx) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        })
    };
    let rejects = poll().is_some();
    let before = (calls.get(), complete.get(), names.take());
    at_end.set(true);
    let ends_well = !rejects && poll().is_some_and(|result| result.is_ok());
    let (calls, complete, names) = before;
    (Verdict { calls, names, complete, rejects, ends_well }, framing.take())
}

/// Compares the two after all of `pieces`. Returns whether there was anything to compare, which is
/// not the case if hyper rejects them and closes the connection.
///
/// # Errors
///
/// The error says how the two differ.
#[allow(unreachable_pub, reason = "for the fuzz target")]
pub fn compare(pieces: &[&[u8]]) -> Result<bool, String> {
    let (verdict, framing) = ask(pieces);
    if verdict.rejects {
        return Ok(false);
    }
    let heads = framing.heads();
    let Verdict { calls, complete, ends_well, .. } = verdict;
    let agrees = match framing.position() {
        Position::Between => (calls, complete, ends_well) == (heads, heads, true),
        Position::Plain => (complete, ends_well) == (calls, true),
        Position::InHead => (calls, complete, ends_well) == (heads, heads, false),
        // How the connection ends is up to the service, which learns about half a body.
        Position::InBody => (calls, complete + 1) == (heads, heads),
        Position::Invalid => false,
    };
    if agrees {
        return Ok(true);
    }
    let text: Vec<_> = pieces.iter().map(|piece| String::from_utf8_lossy(piece)).collect();
    Err(format!("{text:?}: {framing:?}, hyper: {verdict:?}"))
}
