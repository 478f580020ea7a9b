//! The service of the user, with what this crate does around each call: the request is named, the
//! response says when the connection closes, the readiness path is answered.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header::CONNECTION};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::service::TowerToHyperService;
use pin_project_lite::pin_project;

use super::{
    body::Tracked,
    conn::{Conn, State},
    exec,
    server::Readiness,
};
use crate::{main_fn::via, phase::Phase};

type BoxError = Box<dyn Error + Send + Sync>;

/// A service that [`serve`](crate::serve) takes: a tower service (an `axum::Router`, tonic's `Routes`)
/// or a hyper one (`hyper::service::service_fn(…)`), from `Request<Incoming>` to `Response<B>`.
///
/// `Via` says which of the two it is; the compiler finds it. It is cloned for each connection, and a
/// tower service for each request, as `axum::serve` does.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an HTTP service",
    label = "not a service from `http::Request<hyper::body::Incoming>` to `http::Response<_>`",
    note = "hand in an `axum::Router`, a tower service that is `Clone + Send + 'static`, or \
            `hyper::service::service_fn(handler)`"
)]
pub trait HttpService<Via>: Send + 'static {
    #[doc(hidden)]
    type Service: Service;
    #[doc(hidden)]
    fn into_service(self) -> Self::Service;
}

/// The one form that the rest of this module works on: its bounds, written once.
#[doc(hidden)]
pub trait Service: Clone + Send + Sync + 'static {
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
    type Error: Into<BoxError>;
    type Future: Future<Output = Result<Response<Self::Body>, Self::Error>> + Send + 'static;

    fn call(&self, request: Request<Incoming>) -> Self::Future;
}

/// A hyper service as it is.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Hyper<S>(S);

impl<S, B> Service for Hyper<S>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: Request<Incoming>) -> S::Future {
        self.0.call(request)
    }
}

impl<S> HttpService<via::Hyper> for S
where
    S: hyper::service::Service<Request<Incoming>> + Send + 'static,
    Hyper<S>: Service,
{
    type Service = Hyper<S>;

    fn into_service(self) -> Hyper<S> {
        Hyper(self)
    }
}

impl<S> HttpService<via::Tower> for S
where
    S: tower_service::Service<Request<Incoming>> + Send + 'static,
    Hyper<TowerToHyperService<S>>: Service,
{
    type Service = Hyper<TowerToHyperService<S>>;

    fn into_service(self) -> Self::Service {
        Hyper(TowerToHyperService::new(self))
    }
}

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// The service of one connection.
pub(crate) struct ConnService<S> {
    pub(crate) service: S,
    pub(crate) conn: Arc<Conn>,
    pub(crate) protocol: Protocol,
    pub(crate) readiness: Option<Arc<Readiness>>,
}

impl<S: Service> hyper::service::Service<Request<Incoming>> for ConnService<S> {
    type Response = Response<Tracked<S::Body>>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let guard = RequestGuard::new(&self.conn, self.protocol, &request);
        let old = request.version() < Version::HTTP_11;
        let probe = self.readiness.as_ref().filter(|it| it.is_asked(&request));
        match probe {
            Some(readiness) => Answer {
                future: None,
                status: readiness.status(self.conn.phase()),
                guard: Some(guard),
                old,
            },
            None => Answer {
                status: StatusCode::OK,
                guard: Some(guard),
                old,
                future: Some(self.service.call(request)),
            },
        }
    }
}

pin_project! {
    /// The response to come.
    pub(crate) struct Answer<F> {
        // `None`: `status` is all there is to say.
        #[pin]
        future: Option<F>,
        status: StatusCode,
        guard: Option<RequestGuard>,
        // HTTP/1.0 or older.
        old: bool,
    }
}

impl<F, B, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<Tracked<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match this.future.as_pin_mut() {
            Some(future) => Some(ready!(future.poll(cx))?),
            None => None,
        };
        // A future that is polled after it was ready has nothing to answer with.
        let Some(guard) = this.guard.take() else {
            return Poll::Pending;
        };
        guard.responds();
        let stopping = guard.closes_connection();
        let mut response = match response {
            None => {
                let mut response = Response::new(Tracked::empty(guard));
                *response.status_mut() = *this.status;
                response
            }
            Some(response) if guard.is_tunnel(response.status()) => {
                let response = response.map(|body| Tracked::with(body, None));
                exec::hand_over(guard);
                response
            }
            Some(response) => response.map(|body| Tracked::with(body, Some(guard))),
        };
        if stopping {
            announce_close(&mut response, *this.old);
        }
        Poll::Ready(Ok(response))
    }
}

/// Says that this response is the last one on its connection (RFC 9112, section 9.6), which makes
/// hyper close it. A response that leaves HTTP says so itself.
#[cold]
fn announce_close<B>(response: &mut Response<B>, old: bool) {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    if old {
        // To an HTTP/1.0 client hyper would add `keep-alive` to a response of a later version.
        *response.version_mut() = Version::HTTP_10;
    }
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Stands for a request from its head until the end of its response.
pub(crate) struct RequestGuard {
    conn: Arc<Conn>,
    kind: RequestKind,
    complete: bool,
}

#[derive(Clone, Copy)]
enum RequestKind {
    Http1,
    Http2 { stream: usize, tunnel: bool },
}

impl RequestGuard {
    fn new(conn: &Arc<Conn>, protocol: Protocol, request: &Request<Incoming>) -> Self {
        let kind = match protocol {
            Protocol::Http1 => {
                conn.wire.head_complete(request.body().size_hint().exact());
                conn.label.write(request.method().as_str(), request.uri().path());
                conn.enter(State::Busy);
                RequestKind::Http1
            }
            Protocol::Http2 => {
                let method = request.method().clone();
                let tunnel = method == Method::CONNECT;
                let stream = conn.stream_opened(method, request.uri().clone());
                RequestKind::Http2 { stream, tunnel }
            }
        };
        Self { conn: conn.clone(), kind, complete: false }
    }

    /// The head of the response is about to be written.
    fn responds(&self) {
        match self.kind {
            RequestKind::Http1 => self.conn.set_state(State::Responding),
            RequestKind::Http2 { stream, .. } => self.conn.stream_responds(stream),
        }
    }

    fn closes_connection(&self) -> bool {
        matches!(self.kind, RequestKind::Http1) && self.conn.phase() >= Phase::Stopping
    }

    /// Whether a response of this status turns the stream into a tunnel (RFC 8441).
    fn is_tunnel(&self, status: StatusCode) -> bool {
        match self.kind {
            RequestKind::Http2 { stream, tunnel: true } if status.is_success() => {
                self.conn.stream_upgraded(stream);
                true
            }
            _ => false,
        }
    }

    /// The response has come to its end.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        match self.kind {
            RequestKind::Http1 => self.conn.set_state(State::Flushing),
            RequestKind::Http2 { stream, .. } => self.conn.stream_closed(stream),
        }
        if self.complete && self.conn.phase() == Phase::Draining {
            let requests = &self.conn.handle.shared().drained.requests;
            requests.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for RequestGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestGuard").finish_non_exhaustive()
    }
}
