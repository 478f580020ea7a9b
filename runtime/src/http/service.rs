//! The service of the user, with what this crate does around each call: the request is named, the
//! response says when the connection closes, the readiness path is answered.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
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
            `hyper::service::service_fn(handler)`",
    note = "an `axum::Router<S>` is one once its state is there: `.with_state(state)`"
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
        let Some(mut guard) = this.guard.take() else {
            return Poll::Pending;
        };
        guard.responds();
        let status = response.as_ref().map_or(*this.status, Response::status);
        let leaves = guard.leaves_http(status);
        let stopping = !leaves && guard.closes_connection();
        let mut response = match response {
            None => {
                let mut response = Response::new(Tracked::empty(guard));
                *response.status_mut() = *this.status;
                response
            }
            Some(response) if leaves && guard.is_http2() => {
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
/// hyper close it.
#[cold]
fn announce_close<B>(response: &mut Response<B>, old: bool) {
    if old {
        // To an HTTP/1.0 client hyper would add `keep-alive` to a response of a later version.
        *response.version_mut() = Version::HTTP_10;
    }
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Stands for a request from its head until the end of its response.
pub(crate) struct RequestGuard {
    conn: Arc<Conn>,
    /// The place of its stream, for HTTP/2.
    stream: Option<usize>,
    method: Shape,
    complete: bool,
    upgraded: bool,
}

/// What the method says about the response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// HEAD: the body is described, and not sent.
    WithoutBody,
    /// CONNECT: success turns the stream into a tunnel (RFC 9110, section 9.3.6; RFC 8441).
    Tunnel,
    Usual,
}

impl RequestGuard {
    fn new(conn: &Arc<Conn>, protocol: Protocol, request: &Request<Incoming>) -> Self {
        let stream = match protocol {
            Protocol::Http1 => {
                conn.wire.head_complete(request.body().size_hint().exact());
                conn.label.write(request.method().as_str(), request.uri().path());
                conn.enter(State::Busy);
                None
            }
            Protocol::Http2 => {
                Some(conn.stream_opened(request.method().clone(), request.uri().clone()))
            }
        };
        let method = match *request.method() {
            Method::HEAD => Shape::WithoutBody,
            Method::CONNECT => Shape::Tunnel,
            _ => Shape::Usual,
        };
        Self { conn: conn.clone(), stream, method, complete: false, upgraded: false }
    }

    /// The head of the response is about to be written.
    fn responds(&mut self) {
        self.complete = self.method == Shape::WithoutBody;
        match self.stream {
            None => self.conn.set_state(State::Responding),
            Some(stream) => self.conn.stream_responds(stream),
        }
    }

    fn closes_connection(&self) -> bool {
        self.stream.is_none() && self.conn.phase() >= Phase::Stopping
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether a response of this status leaves HTTP.
    fn leaves_http(&mut self, status: StatusCode) -> bool {
        let switches = status == StatusCode::SWITCHING_PROTOCOLS && self.stream.is_none();
        self.upgraded = switches || (self.method == Shape::Tunnel && status.is_success());
        if let (true, Some(stream)) = (self.upgraded, self.stream) {
            self.conn.stream_upgraded(stream);
        }
        self.upgraded
    }

    /// The response has come to its end.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        match self.stream {
            None if self.upgraded => self.conn.upgraded(),
            // Counted once it is flushed.
            None => self.conn.response_ended(self.complete),
            Some(stream) => {
                self.conn.stream_closed(stream);
                if self.complete && !self.upgraded {
                    self.conn.handle.shared().request_drained();
                }
            }
        }
    }
}

impl fmt::Debug for RequestGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestGuard").finish_non_exhaustive()
    }
}
