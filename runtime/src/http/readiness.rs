//! The path that reports whether new requests should be sent here.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::conn::HttpConn;
use crate::{
    net::GuardedConn,
    stop::{Phase, Shared},
};

#[derive(Debug)]
pub(super) struct Readiness {
    path: String,
    /// Whether it keeps reporting "ready" until the drain starts.
    through_delay: bool,
}

impl Readiness {
    /// # Panics
    ///
    /// If `path` does not begin with `/`.
    #[track_caller]
    pub(super) fn new(path: String, through_delay: bool) -> Self {
        assert!(path.starts_with('/'), "a readiness path begins with `/`, such as \"/readyz\"");
        Self { path, through_delay }
    }

    /// Returns the answer, if `request` asks for this path.
    #[inline]
    pub(super) fn answer<B>(&self, request: &Request<B>, shared: &Shared) -> Option<StatusCode> {
        let asked = request.uri().path() == self.path
            && matches!(*request.method(), Method::GET | Method::HEAD);
        asked.then(|| self.status(shared))
    }

    fn status(&self, shared: &Shared) -> StatusCode {
        let last = if self.through_delay { Phase::Stopping } else { Phase::Serving };
        match shared.unready(last) {
            None => StatusCode::OK,
            Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Returns the status to answer with instead of calling the service, if any.
#[inline]
pub(super) fn answer_of_our_own<B>(
    readiness: Option<&Readiness>,
    request: &Request<B>,
    conn: &HttpConn,
) -> Option<StatusCode> {
    match readiness {
        // A request that begins after the cut would be cut without being named in the report.
        _ if conn.phase() >= Phase::Sealed => Some(StatusCode::SERVICE_UNAVAILABLE),
        None => None,
        // Also applies to a server that keeps running while the program stops.
        Some(readiness) => readiness.answer(request, conn.core().shared()),
    }
}

// The body of a response: the service's, or none if the answer is our own.

pin_project! {
    pub(crate) struct MaybeBody<B> {
        #[pin]
        body: Option<B>,
    }
}

impl<B> MaybeBody<B> {
    #[inline]
    pub(crate) fn new(body: B) -> Self {
        Self { body: Some(body) }
    }
}

/// An answer for which the service is not called.
#[cold]
pub(crate) fn without_body<B>(status: StatusCode) -> Response<MaybeBody<B>> {
    let mut response = Response::new(MaybeBody { body: None });
    *response.status_mut() = status;
    response
}

impl<B: Body> Body for MaybeBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().body.as_pin_mut() {
            Some(body) => body.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        let empty = || SizeHint::with_exact(0);
        self.body.as_ref().map_or_else(empty, Body::size_hint)
    }
}
