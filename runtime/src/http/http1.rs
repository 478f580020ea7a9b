//! HTTP/1: what is done around each call of the service. This is the path of every request, so it
//! takes no lock, allocates nothing and moves requests and responses as seldom as it can.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header::CONNECTION};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;

use super::{
    body::{MaybeBody, without_body},
    conn::Conn,
    server::Readiness,
    service::Service,
    state::Event,
};
use crate::phase::Phase;

/// The service of one connection.
pub(crate) struct Http1<S> {
    pub(crate) service: S,
    pub(crate) conn: Arc<Conn>,
    pub(crate) readiness: Option<Arc<Readiness>>,
}

impl<S: Service> hyper::service::Service<Request<Incoming>> for Http1<S> {
    type Response = Response<Tracked<S::Body>>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    #[inline]
    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let named = self.conn.request_begins();
        let shape = Shape::of(&request, &self.conn);
        let phase = self.conn.phase();
        let probe = match &self.readiness {
            // What begins after the cut would be cut unnamed.
            _ if phase >= Phase::Sealed => Some(StatusCode::SERVICE_UNAVAILABLE),
            None => None,
            Some(readiness) => readiness.answer(&request, phase),
        };
        if !named || probe.is_some() {
            return self.call_unusual(request, named, shape, probe);
        }
        Answer {
            future: Some(self.service.call(request)),
            exchange: Exchange { conn: Some(self.conn.clone()), shape, probe },
        }
    }
}

impl<S: Service> Http1<S> {
    /// Apart from `call`, and by value: a reference to the request would keep the optimiser from building
    /// the future around it where it is to stay.
    #[cold]
    #[inline(never)]
    fn call_unusual(
        &self,
        request: Request<Incoming>,
        named: bool,
        shape: Shape,
        probe: Option<StatusCode>,
    ) -> Answer<S::Future> {
        if !named {
            self.conn.label.write(request.method().as_str(), request.uri().path());
        }
        Answer {
            future: probe.is_none().then(|| self.service.call(request)),
            exchange: Exchange { conn: Some(self.conn.clone()), shape, probe },
        }
    }
}

/// A request and its response.
struct Exchange {
    /// Until the response takes it.
    conn: Option<Arc<Conn>>,
    shape: Shape,
    /// The answer, where it is ours to give.
    probe: Option<StatusCode>,
}

impl Exchange {
    /// Whether nothing but its body is to be seen to.
    #[inline]
    fn is_plain<B>(&self, response: &Response<B>) -> bool {
        response.status() != StatusCode::SWITCHING_PROTOCOLS
            && matches!(self.shape, Shape::Usual | Shape::Old)
            && self.conn.as_ref().is_some_and(|conn| conn.phase() < Phase::Stopping)
    }

    #[inline]
    fn answer<B>(&mut self, body: MaybeBody<B>, upgraded: bool) -> Tracked<B> {
        let conn = self.conn.take();
        if let Some(conn) = &conn {
            conn.on(Event::Responds);
        }
        Tracked { body, conn, upgraded }
    }

    #[cold]
    #[inline(never)]
    fn answer_unusual<B>(&mut self, response: Response<MaybeBody<B>>) -> Response<Tracked<B>> {
        let stopping = self.conn.as_ref().is_some_and(|conn| conn.phase() >= Phase::Stopping);
        let status = response.status();
        let upgraded = status == StatusCode::SWITCHING_PROTOCOLS
            || (self.shape == Shape::Tunnel && status.is_success());
        let mut response = response.map(|body| self.answer(body, upgraded));
        if (stopping || self.shape == Shape::Lost) && !upgraded {
            announce_close(&mut response, self.shape);
        }
        response
    }
}

/// Says that this response is the last one on its connection (RFC 9112, section 9.6), which makes
/// hyper close it.
fn announce_close<B>(response: &mut Response<B>, shape: Shape) {
    if shape == Shape::Old {
        // To an HTTP/1.0 client hyper would add `keep-alive` to a response of a later version.
        *response.version_mut() = Version::HTTP_10;
    }
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// What the head of a request says about its response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Usual,
    /// HTTP/1.0 or older.
    Old,
    /// A body whose end is not known (see `framing`): the answer is the connection's last.
    Lost,
    /// CONNECT: success turns the connection into a tunnel (RFC 9110, section 9.3.6).
    Tunnel,
}

impl Shape {
    #[inline]
    fn of<B: Body>(request: &Request<B>, conn: &Conn) -> Self {
        match *request.method() {
            Method::CONNECT => Self::Tunnel,
            _ if !request.body().is_end_stream() && conn.has_body() => Self::Lost,
            _ if request.version() < Version::HTTP_11 => Self::Old,
            _ => Self::Usual,
        }
    }
}

pin_project! {
    /// The response to come. Dropped without one, it is dropped together with its connection: nothing is
    /// left to say then.
    pub(crate) struct Answer<F> {
        // `None`: `probe` is all there is to say.
        #[pin]
        future: Option<F>,
        exchange: Exchange,
    }
}

impl<F, B, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<Tracked<B>>, E>;

    // Not inlined, and no closures: either costs another copy of the response.
    #[inline(never)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let exchange = this.exchange;
        let Some(future) = this.future.as_pin_mut() else {
            let status = exchange.probe.unwrap_or_default();
            return Poll::Ready(Ok(exchange.answer_unusual(without_body(status))));
        };
        match future.poll(cx) {
            Poll::Ready(Ok(response)) => {
                if !exchange.is_plain(&response) {
                    let response = response.map(MaybeBody::new);
                    return Poll::Ready(Ok(exchange.answer_unusual(response)));
                }
                let (head, body) = response.into_parts();
                let body = exchange.answer(MaybeBody::new(body), false);
                Poll::Ready(Ok(Response::from_parts(head, body)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

pin_project! {
    /// A body that tells when its response is over: hyper drops it once it has taken all it wants to
    /// send, and the flush that follows is the one of its last byte.
    pub(crate) struct Tracked<B> {
        #[pin]
        body: MaybeBody<B>,
        conn: Option<Arc<Conn>>,
        upgraded: bool,
    }

    impl<B> PinnedDrop for Tracked<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            match this.conn {
                Some(conn) if *this.upgraded => conn.on(Event::Upgrades),
                Some(conn) => conn.on(Event::ResponseEnds),
                None => {}
            }
        }
    }
}

impl<B: Body> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
