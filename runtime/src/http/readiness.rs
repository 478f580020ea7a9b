//! The path that says whether new requests should be sent here.

use http::{Method, Request, StatusCode};

use super::conn::HttpConn;
use crate::{
    net::GuardedConn,
    stop::{Phase, Shared},
};

#[derive(Debug)]
pub(super) struct Readiness {
    path: String,
    /// Whether it goes on saying "ready" until the drain starts.
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

    /// The answer, if `request` asks for this.
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

/// The status that is answered without asking the service, if any.
#[inline]
pub(super) fn answer_of_our_own<B>(
    readiness: Option<&Readiness>,
    request: &Request<B>,
    conn: &HttpConn,
) -> Option<StatusCode> {
    match readiness {
        // What begins after the cut would be cut unnamed.
        _ if conn.phase() >= Phase::Sealed => Some(StatusCode::SERVICE_UNAVAILABLE),
        None => None,
        // Also of a server that goes on while the program stops.
        Some(readiness) => readiness.answer(request, conn.core().shared()),
    }
}
