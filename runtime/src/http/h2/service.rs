//! Wraps each call of the service.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    io::IoSlice,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, rt::Executor};
use pin_project_lite::pin_project;

use crate::{
    context::InContext,
    http::{
        conn::HttpConn,
        give_connect_info,
        readiness::{MaybeBody, OwnAnswer, Readiness, answer_of_our_own, own_response},
        service::Service,
    },
    net::{ConnGuard, ConnectInfo, GuardedConn},
    stop::{Phase, polling},
    util::sync::lock_std,
};

/// The service of one connection.
pub(crate) struct Http2<S> {
    pub(crate) service: S,
    pub(crate) conn: Arc<HttpConn>,
    pub(crate) readiness: Option<Arc<Readiness>>,
    /// As in `Options`.
    pub(crate) retry_after: u16,
    /// Inserted into each request's extensions, if enabled.
    pub(crate) info: Option<ConnectInfo>,
}

impl<S: Service> hyper::service::Service<Request<Incoming>> for Http2<S> {
    type Response = Response<Http2Body<S::Body>>;
    type Error = S::Error;
    type Future = Http2Future<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let guard = RequestGuard::new(&self.conn, &request);
        let readiness = self.readiness.as_deref();
        let answer = answer_of_our_own(readiness, self.retry_after, &request, &self.conn);
        if let Some(info) = &self.info {
            give_connect_info(&mut request, info);
        }
        let future = if answer.is_none() { Some(self.service.call(request)) } else { None };
        Http2Future { future, answer, guard: Some(guard) }
    }
}

pin_project! {
    /// The pending response.
    pub(crate) struct Http2Future<F> {
        // `None` if `answer` is all there is.
        #[pin]
        future: Option<F>,
        answer: Option<OwnAnswer>,
        guard: Option<RequestGuard>,
    }
}

impl<F, B, E> Future for Http2Future<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<Http2Body<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match this.future.as_pin_mut() {
            Some(future) => ready!(future.poll(cx))?.map(MaybeBody::new),
            None => own_response(*this.answer),
        };
        // A future polled after completion has nothing to answer with.
        let Some(mut guard) = this.guard.take() else {
            return Poll::Pending;
        };
        let guard = if guard.responds(response.status()) {
            hand_over(guard);
            None
        } else {
            Some(guard)
        };
        Poll::Ready(Ok(response.map(|body| Http2Body::new(body, guard))))
    }
}

// An HTTP/2 request, as long as any part of it exists.

/// Represents a request from its head until the end of its response.
pub(super) struct RequestGuard {
    conn: Arc<HttpConn>,
    /// The index of its stream in the table.
    stream: usize,
    rule: ResponseRule,
    /// Whether all of the body has been handed to h2.
    pub(super) body_ended: bool,
    /// Whether a piece of the body was dropped before it was written.
    pub(super) piece_lost: bool,
    is_upgrade_over: bool,
}

/// The effect of the method on the response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ResponseRule {
    /// HEAD: the body is described, but not sent.
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

    /// Called when the head of the response is about to be written. Returns whether the stream
    /// leaves HTTP.
    pub(super) fn responds(&mut self, status: StatusCode) -> bool {
        let upgraded = self.rule == ResponseRule::Tunnel && status.is_success();
        self.body_ended = self.rule == ResponseRule::WithoutBody;
        self.conn.streams().responds(self.stream, upgraded);
        upgraded
    }
}

impl RequestGuard {
    /// Called when the task of the upgraded stream has ended. From here on, the frames on the wire
    /// show when it is over.
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

// Runs the tasks that hyper spawns for an HTTP/2 connection: one for each stream, and one for each
// upgraded stream.

thread_local! {
    /// The guard of a request that is being upgraded on this thread. hyper spawns the task of the
    /// upgraded stream within the same poll in which the service's future became ready.
    static UPGRADING: Cell<Option<RequestGuard>> = const { Cell::new(None) };
}

/// Hands the guard over to the task of the upgraded stream.
pub(super) fn hand_over(guard: RequestGuard) {
    UPGRADING.set(Some(guard));
}

/// Spawns hyper's tasks so that the connection counts as held while they run, and the cut ends
/// them.
#[derive(Clone, Debug)]
pub struct ConnExecutor(pub(in crate::http) ConnGuard<HttpConn>);

impl<F> Executor<F> for ConnExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let held = HeldConn { place: None, conn: self.0.clone(), upgraded: UPGRADING.take() };
        let shared = self.0.conn().core().shared();
        shared.runtime().spawn(InContext::new(shared, StreamTask { future, held }));
    }
}

pin_project! {
    /// A task spawned by hyper. Not an async block, which would contain its future twice: once as
    /// captured, and once where it is polled.
    struct StreamTask<F> {
        #[pin]
        future: F,
        // Dropped last.
        held: HeldConn,
    }
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let conn = &this.held.conn;
        let phase = conn.conn().phase();
        if phase >= Phase::Cut {
            return Poll::Ready(());
        }
        let polling = (phase >= Phase::Draining).then(|| polling(conn.fraction()));
        let poll = this.future.poll(cx);
        drop(polling);
        // If the guard was not taken, hyper has rejected the upgrade.
        drop(UPGRADING.take());
        if poll.is_pending() && this.held.waits(cx) { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// Holds the connection for as long as the task exists.
struct HeldConn {
    /// Where the cut finds the task's waker, once it waits.
    place: Option<usize>,
    conn: ConnGuard<HttpConn>,
    upgraded: Option<RequestGuard>,
}

impl HeldConn {
    fn is_cut(&self) -> bool {
        self.conn.conn().phase() >= Phase::Cut
    }

    /// Returns whether there is something to wait for: the cut may have come.
    fn waits(&mut self, cx: &Context<'_>) -> bool {
        // A task keeps its waker for life. Under the lock that the cut's walk takes: either it
        // finds the waker, or the phase is visible here.
        self.place.get_or_insert_with(|| self.conn.conn().streams().task_waits(cx.waker()));
        !self.is_cut()
    }
}

impl Drop for HeldConn {
    fn drop(&mut self) {
        // In this order, so that the table is not empty until the upgraded stream's bytes are
        // written.
        if let Some(guard) = self.upgraded.take() {
            guard.upgrade_ended();
        }
        if let Some(place) = self.place {
            self.conn.conn().streams().task_ended(place);
        }
    }
}

// The body of an HTTP/2 response. h2 takes it long before its bytes are written, so each piece of
// its data keeps the request in the table. A response is complete when its body has ended and h2
// has written every piece of it: a piece dropped before that, at the limit or because the client
// resets the stream, was not delivered.

/// Keeps a request in the table.
enum Held {
    /// By the body, or by its last piece.
    One(RequestGuard),
    /// By the body, and by each of its pieces.
    Shared(Arc<Mutex<RequestGuard>>),
}

impl Held {
    fn change(&mut self, change: impl FnOnce(&mut RequestGuard)) {
        match self {
            Self::One(guard) => change(guard),
            Self::Shared(guard) => change(&mut lock_std(guard)),
        }
    }

    /// Marks the end of the body: the response is complete once nothing holds the request any more,
    /// unless a piece is lost.
    fn body_ended(&mut self) {
        self.change(|guard| guard.body_ended = true);
    }
}

pin_project! {
    /// A body whose pieces each hold on to the request.
    pub(crate) struct Http2Body<B> {
        #[pin]
        body: MaybeBody<B>,
        ended: bool,
        // `None` if the stream was upgraded, or the last piece of the body holds on to the request.
        held: Option<Held>,
    }

    impl<B> PinnedDrop for Http2Body<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let (true, Some(held)) = (*this.ended, this.held) {
                held.body_ended();
            }
        }
    }
}

impl<B: Body> Http2Body<B> {
    pub(super) fn new(body: MaybeBody<B>, guard: Option<RequestGuard>) -> Self {
        Self { ended: body.is_end_stream(), body, held: guard.map(Held::One) }
    }
}

impl<B: Body> Body for Http2Body<B> {
    type Data = GuardedData<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        // Trailers are the last frame that hyper asks for.
        let is_last =
            |frame: &Result<Frame<B::Data>, _>| frame.as_ref().is_ok_and(Frame::is_trailers);
        *this.ended = frame.as_ref().is_none_or(is_last) || this.body.is_end_stream();
        let ended = *this.ended;
        let guarded = |data| GuardedData { data, held: hold(this.held, ended) };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(guarded))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Returns the hold for one piece of the body. Most bodies have a single piece, which can take the
/// guard itself: sharing it needs an allocation.
fn hold(held: &mut Option<Held>, is_last: bool) -> Option<Held> {
    match held.take()? {
        mut last if is_last => {
            last.body_ended();
            Some(last)
        }
        Held::Shared(guard) => {
            *held = Some(Held::Shared(guard.clone()));
            Some(Held::Shared(guard))
        }
        Held::One(guard) => {
            let guard = Arc::new(Mutex::new(guard));
            *held = Some(Held::Shared(guard.clone()));
            Some(Held::Shared(guard))
        }
    }
}

/// A piece of a body, and the request that it answers.
pub(crate) struct GuardedData<D: Buf> {
    data: D,
    held: Option<Held>,
}

impl<D: Buf> Drop for GuardedData<D> {
    fn drop(&mut self) {
        if self.data.has_remaining()
            && let Some(held) = &mut self.held
        {
            held.change(|guard| guard.piece_lost = true);
        }
    }
}

impl<D: Buf> Buf for GuardedData<D> {
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
