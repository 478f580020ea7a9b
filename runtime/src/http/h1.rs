//! Wraps each call of the service. This is the path of every request, so it takes no lock,
//! allocates nothing and moves requests and responses as rarely as possible.

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

#[cfg(feature = "handover")]
use crate::net::GuardedConn as _;
use crate::{
    http::{
        conn::HttpConn,
        framing::{Framing, Position, ReadSummary},
        give_connect_info,
        readiness::{MaybeBody, without_body},
        readiness::{Readiness, answer_of_our_own},
        service::Service,
        state::{
            Behind, ConnEvent,
            ConnState::{Answered, Flushing, Named},
        },
    },
    net::ConnectInfo,
    util::sync::Ordering,
};

/// The service of one connection.
pub(crate) struct Http1<S> {
    pub(crate) service: S,
    pub(crate) conn: Arc<HttpConn>,
    pub(crate) readiness: Option<Arc<Readiness>>,
    /// Inserted into each request's extensions, if enabled.
    pub(crate) info: Option<ConnectInfo>,
    /// Whether requests that ask for an upgrade get a `HandOver`.
    pub(crate) hands_over: bool,
}

impl<S: Service> hyper::service::Service<Request<Incoming>> for Http1<S> {
    type Response = Response<Http1Body<S::Body>>;
    type Error = S::Error;
    type Future = Http1Future<S::Future>;

    #[inline]
    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let named = self.conn.request_begins();
        let kind = RequestKind::of(&request, &self.conn);
        let probe = answer_of_our_own(self.readiness.as_deref(), &request, &self.conn);
        if !named || probe.is_some() || self.info.is_some() || self.hands_over {
            return self.call_unusual(request, named, kind, probe);
        }
        Http1Future {
            future: Some(self.service.call(request)),
            exchange: Exchange { conn: Some(self.conn.clone()), kind, probe },
        }
    }
}

impl<S: Service> Http1<S> {
    /// Separate from `call`, and takes the request by value: a reference to it would keep the
    /// optimiser from building the future in place.
    #[cold]
    #[inline(never)]
    fn call_unusual(
        &self,
        mut request: Request<Incoming>,
        named: bool,
        kind: RequestKind,
        probe: Option<StatusCode>,
    ) -> Http1Future<S::Future> {
        if !named {
            self.conn.request_line.write(request.method().as_str(), request.uri().path());
        }
        if let Some(info) = &self.info {
            give_connect_info(&mut request, info);
        }
        #[cfg(feature = "handover")]
        if self.hands_over && request.headers().contains_key(http::header::UPGRADE) {
            // From here on it has to be known where the head ends: what is behind it is the first
            // of the other protocol, and read by nobody here.
            let is_lost = self.conn.has_body();
            let hand_over = self.conn.core().hand_over();
            if is_lost || self.conn.is_kept() {
                hand_over.keep();
            }
            request.extensions_mut().insert(hand_over.clone());
        }
        Http1Future {
            future: probe.is_none().then(|| self.service.call(request)),
            exchange: Exchange { conn: Some(self.conn.clone()), kind, probe },
        }
    }
}

/// A request and its response.
struct Exchange {
    /// Until the response takes it.
    conn: Option<Arc<HttpConn>>,
    kind: RequestKind,
    /// Our own answer, if the service is not called.
    probe: Option<StatusCode>,
}

impl Exchange {
    /// Whether nothing but the body of the response needs handling.
    #[inline]
    fn is_plain<B>(&self, response: &Response<B>) -> bool {
        response.status() != StatusCode::SWITCHING_PROTOCOLS
            && matches!(self.kind, RequestKind::Usual | RequestKind::Old)
            && self.conn.as_ref().is_some_and(|conn| !conn.closes_after_response())
    }

    #[inline]
    fn answer<B>(&mut self, body: MaybeBody<B>, upgraded: bool) -> Http1Body<B> {
        let conn = self.conn.take();
        if let Some(conn) = &conn {
            conn.on(ConnEvent::Responds);
        }
        Http1Body { body, conn, upgraded }
    }

    #[cold]
    #[inline(never)]
    fn answer_unusual<B>(&mut self, response: Response<MaybeBody<B>>) -> Response<Http1Body<B>> {
        let closes = self.conn.as_ref().is_some_and(|conn| conn.closes_after_response());
        let status = response.status();
        let upgraded = status == StatusCode::SWITCHING_PROTOCOLS
            || (self.kind == RequestKind::Tunnel && status.is_success());
        #[cfg(feature = "handover")]
        if upgraded
            && response.headers().contains_key(http::header::SEC_WEBSOCKET_EXTENSIONS)
            && let Some(conn) = &self.conn
        {
            // Compression, say, which may have a context.
            conn.core().hand_over().keep();
        }
        let mut response = response.map(|body| self.answer(body, upgraded));
        if (closes || self.kind == RequestKind::Lost) && !upgraded {
            announce_close(&mut response, self.kind);
        }
        response
    }
}

/// Announces that this response is the last one on its connection (RFC 9112, section 9.6), which
/// makes hyper close it.
fn announce_close<B>(response: &mut Response<B>, kind: RequestKind) {
    if kind == RequestKind::Old {
        // For an HTTP/1.0 client, hyper would add `keep-alive` to a response of a later version.
        *response.version_mut() = Version::HTTP_10;
    }
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// The effect of the request's head on its response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RequestKind {
    Usual,
    /// HTTP/1.0 or older.
    Old,
    /// A body whose end is unknown (see `framing`): the response is the connection's last.
    Lost,
    /// CONNECT: success turns the connection into a tunnel (RFC 9110, section 9.3.6).
    Tunnel,
}

impl RequestKind {
    #[inline]
    fn of<B: Body>(request: &Request<B>, conn: &HttpConn) -> Self {
        match *request.method() {
            Method::CONNECT => Self::Tunnel,
            _ if !request.body().is_end_stream() && conn.has_body() => Self::Lost,
            _ if request.version() < Version::HTTP_11 => Self::Old,
            _ => Self::Usual,
        }
    }
}

pin_project! {
    /// The pending response. If it is dropped before it is ready, so is its connection, and there
    /// is nothing left to record.
    pub(crate) struct Http1Future<F> {
        // `None` if `probe` is the answer.
        #[pin]
        future: Option<F>,
        exchange: Exchange,
    }
}

impl<F, B, E> Future for Http1Future<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<Http1Body<B>>, E>;

    // Not inlined and without closures: either costs another copy of the response.
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

// Tracks the requests of an HTTP/1 connection, on the path of every one of them.

impl HttpConn {
    /// Called when `bytes` have been read while this is HTTP/1, or not yet known to be.
    #[inline]
    pub(crate) fn bytes_read(&self, summary: ReadSummary, bytes: &[u8]) {
        match summary {
            ReadSummary::WholeHead(begin) => self.head_read(&bytes[begin..]),
            ReadSummary::Plain => {
                self.head_read(bytes);
                return self.plain.is(bytes);
            }
            ReadSummary::NoHead => {}
            ReadSummary::PartOfHead => self.on(ConnEvent::PartOfHead),
            ReadSummary::OtherHeads => self.on(ConnEvent::OtherHead),
        }
        self.plain.is_not();
    }

    /// Called when `head` has been read in one piece: its beginning becomes the name of the
    /// request, unless another request is in progress.
    #[inline]
    fn head_read(&self, head: &[u8]) {
        let state = self.own_state();
        if state.after(ConnEvent::WholeHead) == Named {
            self.request_line.write_head(head);
        }
        self.step(state, ConnEvent::WholeHead);
    }

    /// Called when everything written is with the kernel.
    #[inline]
    pub(crate) fn flushed(&self, framing: &mut Framing) {
        let state = self.own_state();
        if state == Flushing {
            self.request_finished();
        } else if state != Answered {
            return;
        }
        self.look_through(framing);
        let behind = match framing.position() {
            Position::Plain if self.is_lost() => Behind::RestOfBody,
            Position::Plain => Behind::Nothing,
            _ if framing.heads() != self.calls() => Behind::Head,
            Position::Between => Behind::Nothing,
            Position::InHead => Behind::PartOfHead,
            // hyper closes the connection on invalid input, and flushes again when it has read the
            // whole body.
            Position::InBody | Position::Invalid => Behind::RestOfBody,
        };
        self.step(state, ConnEvent::Flushed(behind));
    }

    /// Looks through the latest read after all, if that has become necessary.
    #[inline]
    pub(crate) fn look_through(&self, framing: &mut Framing) {
        if self.plain.has_to_be_looked_through() {
            self.look_through_now(framing);
        }
    }

    #[cold]
    #[inline(never)]
    fn look_through_now(&self, framing: &mut Framing) {
        framing.look_through(&self.plain.take());
    }

    /// Whether the end of the latest message is unknown.
    #[inline]
    pub(crate) fn is_lost(&self) -> bool {
        self.plain.is_lost()
    }

    /// How many requests hyper has handed to the service; wraps.
    #[inline]
    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Called when the head of an HTTP/1 request is complete and the service is called. Returns
    /// whether the name of the request is known.
    #[inline(never)]
    pub(crate) fn request_begins(&self) -> bool {
        let state = self.own_state();
        self.calls.store(self.calls().wrapping_add(1), Ordering::Relaxed);
        self.step(state, ConnEvent::Called);
        state == Named
    }

    /// Called when the request that has just begun has a body. Returns whether the end of the body
    /// is unknown.
    #[cold]
    pub(crate) fn has_body(&self) -> bool {
        self.plain.has_body();
        self.is_lost()
    }
}

// The body of an HTTP/1 response.

pin_project! {
    /// A body that records when its response is over: hyper drops it once it has taken everything
    /// it wants to send, and the following flush is that of its last byte.
    pub(crate) struct Http1Body<B> {
        #[pin]
        pub(super) body: MaybeBody<B>,
        // `None` only if hyper polls a future that has already answered.
        pub(super) conn: Option<Arc<HttpConn>>,
        pub(super) upgraded: bool,
    }

    impl<B> PinnedDrop for Http1Body<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            match this.conn {
                Some(conn) if *this.upgraded => conn.on(ConnEvent::Upgrades),
                Some(conn) => conn.on(ConnEvent::ResponseEnds),
                None => {}
            }
        }
    }
}

impl<B: Body> Body for Http1Body<B> {
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
