//! The service of the user, with what this crate does around each call: the request is named, the
//! response says when the connection closes, the readiness path is answered.

use std::{
    error::Error,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version, header::CONNECTION, response,
};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::service::TowerToHyperService;
use pin_project_lite::pin_project;

use super::{
    body::Protocol,
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

    #[inline]
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

/// The service of one connection.
pub(crate) struct ConnService<S, P> {
    pub(crate) service: S,
    pub(crate) conn: Arc<Conn>,
    pub(crate) readiness: Option<Arc<Readiness>>,
    pub(crate) protocol: PhantomData<P>,
}

impl<S: Service, P: Protocol> hyper::service::Service<Request<Incoming>> for ConnService<S, P> {
    type Response = Response<P::Body<S::Body>>;
    type Error = S::Error;
    type Future = Answer<S::Future, P>;

    #[inline]
    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let guard = RequestGuard::new(&self.conn, P::IS_HTTP2, &request);
        let old = request.version() < Version::HTTP_11;
        if let Some(readiness) = &self.readiness
            && readiness.is_asked(&request)
        {
            return Answer {
                future: None,
                status: readiness.status(self.conn.phase()),
                guard: Some(guard),
                old,
                protocol: PhantomData,
            };
        }
        Answer {
            status: StatusCode::OK,
            guard: Some(guard),
            old,
            protocol: PhantomData,
            future: Some(self.service.call(request)),
        }
    }
}

pin_project! {
    /// The response to come.
    pub(crate) struct Answer<F, P> {
        // `None`: `status` is all there is to say.
        #[pin]
        future: Option<F>,
        status: StatusCode,
        guard: Option<RequestGuard>,
        // HTTP/1.0 or older.
        old: bool,
        protocol: PhantomData<P>,
    }
}

impl<F, B, E, P> Future for Answer<F, P>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
    P: Protocol,
{
    type Output = Result<Response<P::Body<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut parts, body) = match this.future.as_pin_mut() {
            Some(future) => {
                let (parts, body) = ready!(future.poll(cx))?.into_parts();
                (parts, Some(body))
            }
            None => own_answer(*this.status),
        };
        // A future that is polled after it was ready has nothing to answer with.
        let Some(mut guard) = this.guard.take() else {
            return Poll::Pending;
        };
        guard.responds();
        let body = if guard.leaves_http(parts.status) {
            if P::IS_HTTP2 {
                exec::hand_over(guard);
                P::wrap(body, None)
            } else {
                P::wrap(body, Some(guard))
            }
        } else {
            if !P::IS_HTTP2 && guard.closes_connection() {
                announce_close(&mut parts, *this.old);
            }
            P::wrap(body, Some(guard))
        };
        Poll::Ready(Ok(Response::from_parts(parts, body)))
    }
}

#[cold]
fn own_answer<B>(status: StatusCode) -> (response::Parts, Option<B>) {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    (parts, None)
}

/// Says that this response is the last one on its connection (RFC 9112, section 9.6), which makes
/// hyper close it.
#[cold]
fn announce_close(parts: &mut response::Parts, old: bool) {
    if old {
        // To an HTTP/1.0 client hyper would add `keep-alive` to a response of a later version.
        parts.version = Version::HTTP_10;
    }
    parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
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
    #[inline]
    fn new(conn: &Arc<Conn>, http2: bool, request: &Request<Incoming>) -> Self {
        let stream = if http2 {
            Some(conn.stream_opened(request.method().clone(), request.uri().clone()))
        } else {
            conn.wire.head_complete(request.body().size_hint().exact());
            conn.label.write(request.method().as_str(), request.uri().path());
            conn.request_begins();
            None
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
        self.conn.phase() >= Phase::Stopping
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
