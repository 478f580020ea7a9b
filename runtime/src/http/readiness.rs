//! Answers for which the service is not called: the path that reports whether new requests should
//! be sent here, and the refusal of those that come too late.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, Request, Response, StatusCode, header};
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

/// An answer for which the service is not called.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnAnswer {
    status: StatusCode,
    /// In seconds; 0 if nothing is said about it.
    retry_after: u16,
}

/// Returns the answer to give instead of calling the service, if any.
#[inline]
pub(super) fn answer_of_our_own<B>(
    readiness: Option<&Readiness>,
    retry_after: u16,
    request: &Request<B>,
    conn: &HttpConn,
) -> Option<OwnAnswer> {
    let phase = conn.phase();
    // A request that begins after the cut would be cut without being named in the report.
    if phase >= Phase::Sealed {
        return Some(OwnAnswer { status: StatusCode::SERVICE_UNAVAILABLE, retry_after });
    }
    // Also applies to a server that keeps running while the program stops.
    let asked = readiness.and_then(|it| it.answer(request, conn.core().shared()));
    if let Some(status) = asked {
        return Some(OwnAnswer { status, retry_after: 0 });
    }
    let refuses = phase >= Phase::Draining && retry_after > 0 && !conn.moves();
    refuses.then_some(OwnAnswer { status: StatusCode::SERVICE_UNAVAILABLE, retry_after })
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

/// The response for which the service is not called.
#[cold]
pub(super) fn own_response<B>(answer: Option<OwnAnswer>) -> Response<MaybeBody<B>> {
    let OwnAnswer { status, retry_after } = answer.unwrap_or_default();
    let mut response = Response::new(MaybeBody { body: None });
    *response.status_mut() = status;
    if retry_after > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, retry_after.into());
    }
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
