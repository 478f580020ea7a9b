//! An HTTP/2 request, for as long as anything of it exists.

use std::{fmt, sync::Arc};

use http::{Method, Request, StatusCode};

use crate::http::conn::HttpConn;

/// Stands for a request from its head until the end of its response.
pub(super) struct RequestGuard {
    conn: Arc<HttpConn>,
    /// The place of its stream.
    stream: usize,
    rule: ResponseRule,
    /// Whether all of the body has been handed to h2.
    pub(super) body_ended: bool,
    /// Whether a piece of it was dropped before it was written.
    pub(super) piece_lost: bool,
    is_upgrade_over: bool,
}

/// What the method says about the response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ResponseRule {
    /// HEAD: the body is described, and not sent.
    WithoutBody,
    /// CONNECT: success turns the stream into a tunnel (RFC 9110, section 9.3.6; RFC 8441).
    Tunnel,
    Usual,
}

impl RequestGuard {
    pub(super) fn new<B>(conn: &Arc<HttpConn>, request: &Request<B>) -> Self {
        let (method, path) = (request.method().clone(), request.uri().path_and_query().cloned());
        let stream = conn.streams().opened(method, path);
        let rule = match *request.method() {
            Method::HEAD => ResponseRule::WithoutBody,
            Method::CONNECT => ResponseRule::Tunnel,
            _ => ResponseRule::Usual,
        };
        Self {
            conn: conn.clone(),
            stream,
            rule,
            body_ended: false,
            piece_lost: false,
            is_upgrade_over: false,
        }
    }

    /// The head of the response is about to be written. Returns whether it leaves HTTP.
    pub(super) fn responds(&mut self, status: StatusCode) -> bool {
        let upgraded = self.rule == ResponseRule::Tunnel && status.is_success();
        self.body_ended = self.rule == ResponseRule::WithoutBody;
        self.conn.streams().responds(self.stream, upgraded);
        upgraded
    }
}

impl RequestGuard {
    /// The task of the upgraded stream has ended. From here on what is on the wire says when it is over.
    pub(super) fn upgrade_ended(mut self) {
        self.is_upgrade_over = true;
        self.conn.upgrade_ended(self.stream);
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.is_upgrade_over {
            return;
        }
        let complete = self.body_ended && !self.piece_lost;
        self.conn.stream_closed(self.stream, complete);
    }
}

impl fmt::Debug for RequestGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestGuard").finish_non_exhaustive()
    }
}
