//! HTTP/2: what is done around each call of the service. A response is handed to h2 long before its
//! bytes are written, so each piece of it holds on to its request.

use std::{
    fmt,
    future::Future,
    io::IoSlice,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;

use super::{
    body::{MaybeBody, without_body},
    conn::Conn,
    exec,
    server::Readiness,
    service::Service,
};
use crate::phase::Phase;

/// The service of one connection.
pub(crate) struct Http2<S> {
    pub(crate) service: S,
    pub(crate) conn: Arc<Conn>,
    pub(crate) readiness: Option<Arc<Readiness>>,
}

impl<S: Service> hyper::service::Service<Request<Incoming>> for Http2<S> {
    type Response = Response<Held<S::Body>>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let guard = RequestGuard::new(&self.conn, &request);
        let phase = self.conn.phase();
        let probe = match &self.readiness {
            _ if phase >= Phase::Sealed => Some(StatusCode::SERVICE_UNAVAILABLE),
            Some(readiness) => readiness.answer(&request, phase),
            None => None,
        };
        let future = if probe.is_none() { Some(self.service.call(request)) } else { None };
        Answer { future, probe, guard: Some(guard) }
    }
}

pin_project! {
    /// The response to come.
    pub(crate) struct Answer<F> {
        // `None`: `probe` is all there is to say.
        #[pin]
        future: Option<F>,
        probe: Option<StatusCode>,
        guard: Option<RequestGuard>,
    }
}

impl<F, B, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<Held<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match this.future.as_pin_mut() {
            Some(future) => ready!(future.poll(cx))?.map(MaybeBody::new),
            None => without_body(this.probe.unwrap_or_default()),
        };
        // A future that is polled after it was ready has nothing to answer with.
        let Some(mut guard) = this.guard.take() else {
            return Poll::Pending;
        };
        let guard = if guard.responds(response.status()) {
            exec::hand_over(guard);
            None
        } else {
            Some(guard)
        };
        Poll::Ready(Ok(response.map(|body| Held::new(body, guard))))
    }
}

/// Stands for a request from its head until the end of its response.
pub(crate) struct RequestGuard {
    conn: Arc<Conn>,
    /// The place of its stream.
    stream: usize,
    method: Shape,
    complete: bool,
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
    fn new<B>(conn: &Arc<Conn>, request: &Request<B>) -> Self {
        let stream = conn.streams().opened(request.method().clone(), request.uri().clone());
        let method = match *request.method() {
            Method::HEAD => Shape::WithoutBody,
            Method::CONNECT => Shape::Tunnel,
            _ => Shape::Usual,
        };
        Self { conn: conn.clone(), stream, method, complete: false }
    }

    /// The head of the response is about to be written. Returns whether it leaves HTTP.
    fn responds(&mut self, status: StatusCode) -> bool {
        let upgraded = self.method == Shape::Tunnel && status.is_success();
        self.complete = self.method == Shape::WithoutBody;
        self.conn.streams().responds(self.stream, upgraded);
        upgraded
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.conn.stream_closed(self.stream, self.complete);
    }
}

impl fmt::Debug for RequestGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestGuard").finish_non_exhaustive()
    }
}

pin_project! {
    /// A body of which each piece holds on to the request.
    pub(crate) struct Held<B> {
        #[pin]
        body: MaybeBody<B>,
        ended: bool,
        guard: Option<Arc<Mutex<RequestGuard>>>,
    }

    impl<B> PinnedDrop for Held<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let (true, Some(guard)) = (*this.ended, this.guard) {
                guard.lock().unwrap_or_else(PoisonError::into_inner).complete = true;
            }
        }
    }
}

impl<B: Body> Held<B> {
    fn new(body: MaybeBody<B>, guard: Option<RequestGuard>) -> Self {
        let guard = guard.map(|guard| Arc::new(Mutex::new(guard)));
        Self { ended: body.is_end_stream(), body, guard }
    }
}

impl<B: Body> Body for Held<B> {
    type Data = Piece<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        *this.ended = frame.is_none() || this.body.is_end_stream();
        let held = |data| Piece { data, _request: this.guard.clone() };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(held))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Data of a body, and the request that it answers.
pub(crate) struct Piece<D> {
    data: D,
    _request: Option<Arc<Mutex<RequestGuard>>>,
}

impl<D: Buf> Buf for Piece<D> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(to)
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        self.data.copy_to_bytes(len)
    }
}
