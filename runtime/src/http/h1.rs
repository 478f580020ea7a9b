//! Wraps each call of the service. This is the path of every request, so it takes no lock,
//! allocates nothing and moves requests and responses as rarely as possible.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
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
        options::Options,
        readiness::{MaybeBody, OwnAnswer, Readiness, answer_of_our_own, own_response},
        service::Service,
        state::{
            Behind, ConnEvent,
            ConnState::{self, Answered, Flushing, Named},
        },
    },
    net::ConnectInfo,
    util::sync::Ordering,
};

/// The service of one connection.
pub(crate) struct Http1<S> {
    service: S,
    conn: Arc<HttpConn>,
    readiness: Option<Arc<Readiness>>,
    /// As in `Options`.
    retry_after: u16,
    /// Inserted into each request's extensions, if enabled.
    info: Option<ConnectInfo>,
    /// Whether requests that ask for an upgrade get a `HandOver`.
    #[cfg(feature = "handover")]
    hands_over: bool,
    /// Whether there is nothing of the above to do.
    is_plain: bool,
}

impl<S> Http1<S> {
    pub(super) fn new(
        service: S,
        conn: Arc<HttpConn>,
        options: &Options,
        info: Option<ConnectInfo>,
    ) -> Self {
        let (readiness, hands_over) = (options.readiness.clone(), options.hands_over());
        let is_plain = readiness.is_none() && info.is_none() && !hands_over;
        Self {
            service,
            conn,
            readiness,
            retry_after: options.retry_after,
            info,
            #[cfg(feature = "handover")]
            hands_over,
            is_plain,
        }
    }

    /// Takes back what the connection needs again.
    pub(super) fn into_parts(self) -> (S, Option<ConnectInfo>) {
        (self.service, self.info)
    }
}

impl<S: Service> hyper::service::Service<Request<Incoming>> for Http1<S> {
    type Response = Response<Http1Body<S::Body>>;
    type Error = S::Error;
    type Future = Http1Future<S::Future>;

    // The optimiser builds the future in place, where hyper keeps it, as long as nothing here takes
    // a reference to the request or to the future, or may unwind.
    #[inline]
    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let named = self.conn.request_begins();
        let has_body = request.body().size_hint().exact() != Some(0);
        let is_usual = named
            && self.is_plain
            && notes::is_steady()
            && !(has_body && self.conn.plain.is_plain())
            && *request.method() != Method::CONNECT;
        if is_usual {
            let is_old = request.version() < Version::HTTP_11;
            let kind = if is_old { RequestKind::Old } else { RequestKind::Usual };
            let (future, conn) = (Some(self.service.call(request)), self.conn.clone());
            return Http1Future { future, conn, kind, answer: None };
        }
        let (request, kind, answer) = self.begins_unusually(request, named, has_body);
        let future = if answer.is_none() { Some(self.service.call(request)) } else { None };
        Http1Future { future, conn: self.conn.clone(), kind, answer }
    }
}

impl<S: Service> Http1<S> {
    /// Also returns our own answer, if the service is not to be called.
    #[cold]
    #[inline(never)]
    fn begins_unusually(
        &self,
        mut request: Request<Incoming>,
        named: bool,
        has_body: bool,
    ) -> (Request<Incoming>, RequestKind, Option<OwnAnswer>) {
        if !named {
            self.conn.request_line.write(request.method().as_str(), request.uri().path());
        }
        let kind = match *request.method() {
            Method::CONNECT => RequestKind::Tunnel,
            _ if has_body && self.conn.has_body() => RequestKind::Lost,
            _ if request.version() < Version::HTTP_11 => RequestKind::Old,
            _ => RequestKind::Usual,
        };
        let readiness = self.readiness.as_deref();
        let answer = answer_of_our_own(readiness, self.retry_after, &request, &self.conn);
        if let Some(info) = &self.info {
            give_connect_info(&mut request, info);
        }
        #[cfg(feature = "handover")]
        if self.hands_over && request.headers().contains_key(header::UPGRADE) {
            // From here on it has to be known where the head ends: what is behind it is the first
            // of the other protocol, and read by nobody here.
            let is_lost = self.conn.has_body();
            let hand_over = self.conn.core().hand_over();
            if is_lost || self.conn.is_kept() {
                hand_over.keep();
            }
            request.extensions_mut().insert(hand_over.clone());
        }
        (request, kind, answer)
    }
}

#[cold]
#[inline(never)]
fn answer_unusual<B>(
    response: Response<MaybeBody<B>>,
    kind: RequestKind,
) -> Response<Http1Body<B>> {
    let status = response.status();
    let upgraded = status == StatusCode::SWITCHING_PROTOCOLS
        || (kind == RequestKind::Tunnel && status.is_success());
    if upgraded && response.headers().contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        // Compression, say, which may have a context.
        notes::add(notes::KEEPS);
    }
    notes::add(notes::RESPONDS);
    let end = if upgraded { notes::UPGRADES } else { notes::ENDS };
    let mut response = response.map(|body| Http1Body { body, end: End(end) });
    if (notes::has(notes::CLOSES) || kind == RequestKind::Lost) && !upgraded {
        announce_close(&mut response, kind);
    }
    response
}

/// Announces that this response is the last one on its connection (RFC 9112, section 9.6), which
/// makes hyper close it.
fn announce_close<B>(response: &mut Response<B>, kind: RequestKind) {
    if kind == RequestKind::Old {
        // For an HTTP/1.0 client, hyper would add `keep-alive` to a response of a later version.
        *response.version_mut() = Version::HTTP_10;
    }
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
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

pin_project! {
    /// The pending response. If it is dropped before it is ready, so is its connection, and there
    /// is nothing left to record.
    pub(crate) struct Http1Future<F> {
        // `None` if `answer` is all there is.
        #[pin]
        future: Option<F>,
        // A stop may begin while the service computes.
        conn: Arc<HttpConn>,
        kind: RequestKind,
        // Our own answer, if the service is not called.
        answer: Option<OwnAnswer>,
    }
}

impl<F, B, E> Future for Http1Future<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<Http1Body<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let kind = *this.kind;
        let Some(future) = this.future.as_pin_mut() else {
            return Poll::Ready(Ok(answer_unusual(own_response(*this.answer), kind)));
        };
        match future.poll(cx) {
            Poll::Ready(Ok(response)) => {
                if !this.conn.is_steady() {
                    this.conn.note_unsteady();
                }
                let is_usual = notes::is_steady()
                    && matches!(kind, RequestKind::Usual | RequestKind::Old)
                    && response.status() != StatusCode::SWITCHING_PROTOCOLS;
                if !is_usual {
                    return Poll::Ready(Ok(answer_unusual(response.map(MaybeBody::new), kind)));
                }
                notes::add(notes::RESPONDS);
                let body = |body| Http1Body { body: MaybeBody::new(body), end: End(notes::ENDS) };
                Poll::Ready(Ok(response.map(body)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// What the task of a connection and the response that hyper has of it tell each other. hyper polls
/// the response, and drops its body, within a poll of the task. So a byte on that thread is enough,
/// and neither has to hold on to the connection.
mod notes {
    use std::cell::Cell;

    thread_local! {
        static NOTES: Cell<u8> = const { Cell::new(0) };
    }

    /// The process is stopping, or the connection is to be closed: look more closely.
    pub(super) const UNSTEADY: u8 = 1;
    /// The response is the connection's last.
    pub(super) const CLOSES: u8 = 2;
    /// The head of the response is with hyper.
    pub(super) const RESPONDS: u8 = 4;
    /// Its body is over.
    pub(super) const ENDS: u8 = 8;
    /// Its body is over, and was the last of HTTP/1.
    pub(super) const UPGRADES: u8 = 16;
    /// The connection is not to move to another process any more.
    pub(super) const KEEPS: u8 = 32;

    /// What the response tells.
    const TOLD: u8 = RESPONDS | ENDS | UPGRADES | KEEPS;

    /// Begins a poll. Returns the notes of the one around it: a handler may block on a runtime of
    /// its own, with servers on it.
    #[inline]
    pub(super) fn begin(notes: u8) -> u8 {
        NOTES.replace(notes)
    }

    /// Ends a poll that has begun within another. Returns what has been told and not been taken.
    #[inline]
    pub(super) fn end(outer: u8) -> u8 {
        NOTES.replace(outer) & TOLD
    }

    #[inline]
    pub(super) fn is_steady() -> bool {
        NOTES.get() & UNSTEADY == 0
    }

    pub(super) fn has(note: u8) -> bool {
        NOTES.get() & note != 0
    }

    #[inline]
    pub(super) fn add(note: u8) {
        // Not there on a thread that ends, where nothing is answered.
        let _ = NOTES.try_with(|notes| notes.set(notes.get() | note));
    }

    /// Takes what has been told.
    #[inline]
    pub(super) fn take() -> u8 {
        let notes = NOTES.get();
        NOTES.set(notes & !TOLD);
        notes & TOLD
    }
}

/// Runs `f`, which drops hyper's part of a connection outside of a poll of it, and discards its
/// notes: they are not those of a connection that is being polled around this.
pub(super) fn without_notes<T>(f: impl FnOnce() -> T) -> T {
    let outer = notes::begin(0);
    let rest = f();
    notes::end(outer);
    rest
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

    /// Polls hyper's connection.
    #[inline]
    pub(crate) fn exchange<T>(&self, poll: impl FnOnce() -> T) -> T {
        let outer = notes::begin(if self.is_steady() { 0 } else { self.unsteady() });
        let polled = poll();
        let told = notes::end(outer);
        if told != 0 {
            self.told(self.own_state(), told);
        }
        polled
    }

    /// Notes what has changed since the poll began.
    #[cold]
    fn note_unsteady(&self) {
        notes::add(self.unsteady());
    }

    #[cold]
    fn unsteady(&self) -> u8 {
        notes::UNSTEADY | if self.closes_after_response() { notes::CLOSES } else { 0 }
    }

    /// Brings what the response has told into `state`, which is the current one. Returns the new
    /// state.
    #[cold]
    fn told(&self, state: ConnState, told: u8) -> ConnState {
        #[cfg(feature = "handover")]
        if told & notes::KEEPS != 0 {
            self.core().hand_over().keep();
        }
        let event = match told {
            _ if told & notes::UPGRADES != 0 => ConnEvent::Upgrades,
            _ if told & notes::ENDS != 0 => ConnEvent::ResponseEnds,
            _ => ConnEvent::Responds,
        };
        self.step(state, event);
        state.after(event)
    }

    /// Called when everything written is with the kernel.
    #[inline]
    pub(crate) fn flushed(&self, framing: &mut Framing) {
        let mut state = self.own_state();
        if !state.is_exchange() {
            // Whoever owns the stream now may flush it in a poll of another connection.
            return;
        }
        match notes::take() {
            0 => {}
            // Answered at once, as most requests are.
            told if told == notes::RESPONDS | notes::ENDS => state = Flushing,
            told => state = self.told(state, told),
        }
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
    #[inline]
    pub(crate) fn request_begins(&self) -> bool {
        let state = self.own_state();
        self.calls.store(self.calls().wrapping_add(1), Ordering::Relaxed);
        // hyper goes on to the next request of a pipeline while the last response is not flushed.
        notes::take();
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
    /// A body that tells when its response is over: hyper drops it once it has taken everything it
    /// wants to send, and the following flush is that of its last byte.
    pub(crate) struct Http1Body<B> {
        #[pin]
        body: MaybeBody<B>,
        end: End,
    }
}

/// What the end of a body means.
struct End(u8);

impl Drop for End {
    #[inline]
    fn drop(&mut self) {
        notes::add(self.0);
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
