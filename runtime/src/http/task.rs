//! The task of a connection: its stages, how it moves from one to the next, and when it ends.
//!
//! ```text
//!           the first byte of a message                  over
//! parked ───────────────────────────────▶ speaking ──────────────▶ closing
//!    ▲                                        │                       ▲
//!    └── idle for a while, or at a stop ──────┘                       │
//!    └─────────────────── its linger is over ─────────────────────────┘
//! ```
//!
//! Each of the three stages owns the stream, which moves by value.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    mem,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::server::conn::http1;
#[cfg(feature = "http2")]
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

#[cfg(feature = "http2")]
use super::h2::{ConnExecutor, Http2};
use super::{
    conn::HttpConn,
    framing::Framing,
    h1::{self, Http1},
    io::Io,
    options::Options,
    parked::{Parked, Version},
    service::Service,
    state::{Action, ConnEvent, ConnState, ServingLimits, Timestamps},
};
use crate::{
    net::{
        Closing, ConnDrain, ConnGuard, ConnectInfo, GuardedConn, OwnedSocket, Received, Timer,
        moving::{self, Details, Moved},
    },
    stop::{Phase, polling},
    util::sync::{Ordering, fence},
};

type Http1Conn<S> = http1::UpgradeableConnection<TokioIo<Io>, Http1<S>>;
#[cfg(feature = "http2")]
type Http2Conn<S> = http2::Connection<TokioIo<Io>, Http2<S>, ConnExecutor>;

/// The stage of a connection. hyper's futures are large, so they are boxed: most connections are
/// idle most of the time, and many never send a byte.
#[allow(
    clippy::large_enum_variant,
    reason = "an allocation less for each connection; the task is large enough anyway"
)]
enum Stage<S: Service> {
    Parked(Parked<S>),
    /// On its way to the next process; without its socket until that comes back, if it does.
    Moving(Box<Parked<S>>, oneshot::Receiver<Option<OwnedSocket>>),
    Http1(Box<Http1Conn<S>>),
    /// hyper cannot take this connection apart: the stream comes back through the channel when it
    /// is dropped.
    #[cfg(feature = "http2")]
    Http2(Pin<Box<Http2Conn<S>>>, oneshot::Receiver<Closing<Framing>>),
    Closing(Box<Closing<Framing>>),
    /// The stream is gone, or owned by the program.
    Done,
}

pub(super) struct ConnTask<S: Service> {
    stage: Stage<S>,
    timer: Timer,
    options: Arc<Options>,
    info: Option<ConnectInfo>,
    /// Limits to check on every poll, for the options that bound a connection while serving.
    timed: Option<Box<Timed>>,
    /// Set once this connection has learned about the drain.
    draining: Option<Box<ConnDrain>>,
    /// Whether the process is serving, and the waker is where the drain will find it.
    steady: bool,
    /// Whether the stream has a layer, which may hold half a record.
    is_layered: bool,
    /// Dropped last, so that everything the handlers hold is dropped before the drain stops waiting
    /// for them.
    guard: ConnGuard<HttpConn>,
}

/// The limits of a connection while serving, if the server has set any.
struct Timed {
    /// When the connection is old enough to be closed.
    retires: Option<Instant>,
    /// Its local address, used to look it up in the kernel.
    local: Option<SocketAddr>,
}

impl<S: Service> ConnTask<S> {
    pub(super) fn new(
        io: Io,
        service: S,
        options: &Arc<Options>,
        info: Option<ConnectInfo>,
        moved: Option<Box<Details>>,
    ) -> Self {
        let guard = io.guard().clone();
        let timed = options.is_timed().then(|| {
            let accepted = guard.conn().core().accepted_at();
            Box::new(Timed {
                retires: options.max_connection_age.map(|age| accepted + with_jitter(age)),
                local: io.stream().local_addr(),
            })
        });
        let is_layered = io.stream().is_layered();
        let mut parked = Parked::fresh(io, service);
        if let Some(details) = moved {
            let Details { read, idle, speaks_http1, .. } = *details;
            parked.continues(read, speaks_http1);
            guard.conn().continues(idle, speaks_http1);
        }
        if is_layered {
            guard.conn().keep();
        }
        Self {
            stage: Stage::Parked(parked),
            timer: Timer::default(),
            options: options.clone(),
            info,
            timed,
            draining: None,
            steady: false,
            is_layered,
            guard,
        }
    }

    #[inline]
    fn conn(&self) -> &HttpConn {
        self.guard.conn()
    }

    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // While serving, most polls are hyper's and nothing else.
        if self.steady && self.timed.is_none() && self.guard.conn().is_steady() {
            let polled = match &mut self.stage {
                Stage::Http1(http1) => Some(poll_http1(http1, self.guard.conn(), cx)),
                #[cfg(feature = "http2")]
                Stage::Http2(http2, _) => Some(poll_http2(http2, cx)),
                Stage::Parked(_) | Stage::Moving(..) | Stage::Closing(_) | Stage::Done => None,
            };
            match polled {
                Some(Poll::Pending) if !self.has_more_to_do() => return Poll::Pending,
                Some(Poll::Ready(())) if self.finish(false).is_ready() => return Poll::Ready(()),
                // hyper may be polled once more, which changes nothing.
                Some(_) | None => {}
            }
        }
        self.poll_all(cx)
    }

    /// Whether there is something beside the protocol: to be parked, or a deadline.
    #[inline]
    fn has_more_to_do(&self) -> bool {
        self.conn().is_to_park() || self.is_bounded()
    }

    #[inline]
    fn is_bounded(&self) -> bool {
        self.conn().is_bounded() || self.is_layered && self.conn().core().is_partial()
    }

    #[inline(never)]
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // A task keeps its waker for life, so in steady state it is registered once.
            if !self.steady || self.conn().phase() >= Phase::Draining {
                self.look_up(cx);
                if self.conn().phase() >= Phase::Cut {
                    self.stage = Stage::Done;
                    return Poll::Ready(());
                }
            } else if self.timed.is_some() {
                self.forget_what_is_void();
            }
            let polling = (!self.steady).then(|| polling(self.guard.fraction()));
            let polled = self.poll_stage(cx);
            drop(polling);
            if polled.is_ready() {
                if self.finish(false).is_ready() {
                    return Poll::Ready(());
                }
                continue;
            }
            if matches!(self.stage, Stage::Moving(..)) {
                // Whoever sends it has an end of its own.
                return Poll::Pending;
            }
            if self.draining.is_some() && self.conn().moves() && self.give() {
                continue;
            }
            if self.conn().phase() == Phase::LameDuck && self.turns_away() {
                continue;
            }
            if self.conn().is_to_park() {
                // It may have begun the next message in the meantime; then another sweep parks it.
                self.conn().speaks();
                self.park();
                continue;
            }
            if self.steady && self.timed.is_none() && !self.is_bounded() {
                return Poll::Pending;
            }
            let state = self.conn().state();
            let timestamps = self.timestamps();
            let Some(deadline) = state.deadline(&timestamps) else {
                return Poll::Pending;
            };
            if !self.timer.has_passed(deadline, cx) {
                return Poll::Pending;
            }
            match state.action(&timestamps) {
                Action::AskKernel => self.ask_kernel(),
                Action::Retire => self.retire(),
                Action::End => {
                    if self.end().is_ready() {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }

    /// Registers the waker and looks at the phase.
    #[cold]
    fn look_up(&mut self, cx: &mut Context<'_>) {
        // Register before looking, so that no change slips in between.
        self.conn().core().register(cx.waker());
        self.steady = self.conn().phase() < Phase::Draining;
        if self.steady {
            return;
        }
        // Pairs with the release in `PhaseCell::advance`: `moving` was set up before this phase.
        fence(Ordering::Acquire);
        if self.draining.is_some() {
            return self.forget_what_is_void();
        }
        if self.is_told_later(cx) {
            return;
        }
        self.draining = Some(Box::new(ConnDrain::new(Instant::now())));
        self.say_goaway();
        if self.conn().moves() {
            return;
        }
        self.park();
        if self.conn().is(ConnState::Idle) {
            // Long idle, like most connections: only the kernel's answer is still missing.
            self.ask_kernel();
        }
    }

    /// Whether this is an HTTP/2 client that is told of the drain at a later moment, and served as
    /// usual until then.
    #[cfg_attr(not(feature = "http2"), allow(clippy::unused_self, reason = "as with the feature"))]
    fn is_told_later(&mut self, cx: &mut Context<'_>) -> bool {
        #[cfg(feature = "http2")]
        if matches!(self.stage, Stage::Http2(..))
            && let Some(goodbye) = self.conn().core().shared().goodbye(self.guard.fraction())
        {
            return !self.timer.has_passed(goodbye, cx);
        }
        #[cfg(not(feature = "http2"))]
        let _ = cx;
        false
    }

    /// Discards the kernel's view if the connection has done something since.
    fn forget_what_is_void(&mut self) {
        let conn = self.guard.conn();
        if let Some(draining) = &mut self.draining
            && (!conn.state().is_between_messages() || conn.has_streams())
        {
            draining.view = None;
        }
    }

    fn ask_kernel(&mut self) {
        let Self { stage, draining: Some(draining), guard, .. } = self else {
            return;
        };
        let conn = guard.conn();
        let local = || match stage {
            Stage::Parked(parked) => parked.io.stream().local_addr(),
            _ => None,
        };
        // An HTTP/2 client that reads sends frames, which a close would answer with a reset. An
        // HTTP/1 client that keeps sending gets its second, and no more.
        let is_http2 = conn.streams_if_any().is_some();
        let view = draining.ask(conn.core(), conn.since(), is_http2, local);
        if view.is_to_come {
            return;
        }
        conn.on(if view.undelivered { ConnEvent::Unacknowledged } else { ConnEvent::Acknowledged });
    }

    fn timestamps(&self) -> Timestamps {
        let conn = self.conn();
        Timestamps {
            accepted: conn.core().accepted_at(),
            since: conn.since(),
            draining: self.draining.as_ref().map(|draining| draining.since),
            header_timeout: self.options.header_timeout,
            serving: self.timed.as_ref().map_or(ServingLimits::default(), |timed| ServingLimits {
                keep_alive: self.options.keep_alive_timeout,
                retires: timed.retires,
            }),
            linger: conn.core().shared().limits.linger,
            view: self.draining.as_ref().and_then(|draining| draining.view),
            has_streams: conn.has_streams(),
            partial: conn.core().partial_since(),
        }
    }

    // ----- from one stage to the next -----

    /// Ready when the current stage is over.
    fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.stage {
                Stage::Parked(parked) => match std::task::ready!(parked.poll(cx)) {
                    None => return Poll::Ready(()),
                    Some(version) => self.speak(version),
                },
                // Whether a connection ends well or badly is the client's problem.
                Stage::Http1(http1) => return poll_http1(http1, self.guard.conn(), cx),
                Stage::Moving(_, answer) => match std::task::ready!(Pin::new(answer).poll(cx)) {
                    Ok(Some(socket)) => self.put_back(socket),
                    Ok(None) => {
                        self.conn().has_moved();
                        self.stage = Stage::Done;
                    }
                    // The socket is gone with whoever had it.
                    Err(_) => self.stage = Stage::Done,
                },
                #[cfg(feature = "http2")]
                Stage::Http2(http2, _) => return poll_http2(http2, cx),
                Stage::Closing(closing) => return closing.poll(self.guard.conn().core(), cx),
                Stage::Done => return Poll::Ready(()),
            }
        }
    }

    /// Hands a parked connection over to hyper when a message arrives.
    fn speak(&mut self, version: Version) {
        let Stage::Parked(parked) = mem::replace(&mut self.stage, Stage::Done) else {
            return;
        };
        #[cfg_attr(not(feature = "http2"), allow(unused_mut))]
        let Parked { mut io, service, .. } = parked;
        let (conn, info) = (self.guard.conn().clone(), self.info.take());
        match version {
            Version::Http1 => {
                conn.speaks();
                let service = Http1::new(service, conn, &self.options, info);
                let http1 = self.options.http1.serve_connection(TokioIo::new(io), service);
                self.stage = Stage::Http1(Box::new(http1.with_upgrades()));
            }
            #[cfg(feature = "http2")]
            Version::Http2 => {
                conn.on(ConnEvent::SpeaksHttp2);
                let returned = io.speak_http2();
                let Options { readiness, retry_after, .. } = &*self.options;
                let (readiness, retry_after) = (readiness.clone(), *retry_after);
                let service = Http2 { service, conn, readiness, retry_after, info };
                let builder = self.options.http2_builder(ConnExecutor(self.guard.clone()));
                let http2 = builder.serve_connection(TokioIo::new(io), service);
                self.stage = Stage::Http2(Box::pin(http2), returned);
                if self.draining.is_some() {
                    self.say_goaway();
                }
            }
        }
    }

    /// Takes an idle connection back from hyper, unless hyper still has input in its buffer (it
    /// yields in the middle of a long pipeline) or is about to close.
    fn park(&mut self) {
        let is_between = match self.conn().state() {
            ConnState::Idle | ConnState::Delivering => true,
            // hyper has not begun with it, and returns what it has read.
            ConnState::Head => self.conn().moves(),
            _ => false,
        };
        if !is_between
            || !self.conn().awaits_input()
            || self.conn().shuts()
            || !matches!(self.stage, Stage::Http1(_))
        {
            return;
        }
        if let Stage::Http1(http1) = mem::replace(&mut self.stage, Stage::Done)
            && let Some(parts) = h1::without_notes(|| http1.into_parts())
        {
            self.conn().is_parked();
            let (service, info) = parts.service.into_parts();
            self.info = info;
            let (io, read) = (parts.io.into_inner(), parts.read_buf);
            self.stage = Stage::Parked(Parked::idle(io, service, &read));
        }
    }

    /// Sends the connection to the next process if it is between messages. Returns whether it is
    /// on its way.
    fn give(&mut self) -> bool {
        self.park();
        let Stage::Parked(parked) = &mut self.stage else { return false };
        let conn = self.guard.conn();
        let is_wanted = conn.core().listener().is_some_and(moving::is_wanted);
        let Some(socket) = is_wanted.then(|| parked.io.take_socket()).flatten() else {
            // It ends here, as in any drain.
            conn.keep();
            self.look_at_the_drain();
            return false;
        };
        let (read, speaks_http1) = parked.state();
        let details = Details { read, speaks_http1, ..conn.core().details(conn.since().elapsed()) };
        let answer = moving::give(Moved { socket, details });
        if let Stage::Parked(parked) = mem::replace(&mut self.stage, Stage::Done) {
            self.stage = Stage::Moving(Box::new(parked), answer);
        }
        true
    }

    /// The connection could not be sent: it ends here, as in any drain.
    fn put_back(&mut self, socket: OwnedSocket) {
        self.conn().keep();
        if let Stage::Moving(mut parked, _) = mem::replace(&mut self.stage, Stage::Done)
            && parked.io.put_back(socket).is_ok()
        {
            self.stage = Stage::Parked(*parked);
            self.look_at_the_drain();
        }
    }

    /// Long idle, as most are: what the kernel says is all that is still to be known.
    fn look_at_the_drain(&mut self) {
        if self.conn().is(ConnState::Idle) {
            self.ask_kernel();
        }
    }

    /// Ends the connection after its deadline. Pending if it cannot end yet.
    fn end(&mut self) -> Poll<()> {
        match self.conn().state() {
            ConnState::Fresh | ConnState::Idle | ConnState::Delivering => {
                self.park();
                match &self.stage {
                    // Look one last time at what the kernel has received.
                    Stage::Parked(parked) if parked.io.stream().peek() == Received::Something => {
                        // The runtime is about to notice it.
                        self.conn().on(ConnEvent::PartOfHead);
                        return Poll::Pending;
                    }
                    Stage::Parked(_) => return self.finish(true),
                    // hyper still has input in its buffer, and has woken this task.
                    Stage::Http1(_) if !self.conn().shuts() => return Poll::Pending,
                    _ => {}
                }
            }
            // An HTTP/2 client that has had its time to answer has also had its time to read.
            ConnState::Http2 => self.conn().on(ConnEvent::Gone),
            _ => {}
        }
        self.finish(false)
    }

    /// Ends the stage. Pending if the stream is still to be closed. `is_silent` means that nothing
    /// from the client is there to be read.
    fn finish(&mut self, is_silent: bool) -> Poll<()> {
        let closing = match mem::replace(&mut self.stage, Stage::Done) {
            Stage::Parked(Parked { mut io, .. }) => {
                let view = self.draining.as_ref().and_then(|draining| draining.view);
                io.take_closing(is_silent, view.is_some_and(|view| !view.is_open()))
            }
            Stage::Http1(http1) => {
                let parts = h1::without_notes(|| http1.into_parts());
                // hyper may have handed the stream to the code that asked for the upgrade.
                if parts.is_none() && !self.guard.is_last() && !self.conn().is(ConnState::Upgraded)
                {
                    self.conn().on(ConnEvent::Upgrades);
                }
                parts.and_then(|parts| parts.io.into_inner().take_closing(false, false))
            }
            #[cfg(feature = "http2")]
            Stage::Http2(http2, mut returned) => {
                drop(http2);
                returned.try_recv().ok()
            }
            Stage::Moving(..) | Stage::Closing(_) | Stage::Done => None,
        };
        match closing {
            Some(closing) => {
                self.conn().on(ConnEvent::Closes);
                self.stage = Stage::Closing(Box::new(closing));
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }

    /// Retires a connection that is old, or has been idle, for long enough: from here on, it ends
    /// as in the drain.
    fn retire(&mut self) {
        self.conn().retire();
        let mut drain = ConnDrain::new(Instant::now());
        // Ask about this connection alone: the table of all connections is built once, when the
        // process drains.
        drain.closes(self.timed.as_ref().and_then(|timed| timed.local));
        self.draining = Some(Box::new(drain));
        self.say_goaway();
    }

    /// The program is a lame duck: sends an HTTP/2 client away, if that has not been done. Returns
    /// whether there is something to write.
    #[cold]
    #[cfg_attr(not(feature = "http2"), allow(clippy::unused_self, reason = "as with the feature"))]
    fn turns_away(&mut self) -> bool {
        #[cfg(feature = "http2")]
        if matches!(self.stage, Stage::Http2(..)) && !self.conn().retires() {
            self.conn().retire();
            self.say_goaway();
            return true;
        }
        false
    }

    /// Sends GOAWAY to an HTTP/2 client.
    #[cfg_attr(not(feature = "http2"), allow(clippy::unused_self, reason = "as with the feature"))]
    fn say_goaway(&mut self) {
        #[cfg(feature = "http2")]
        if let Stage::Http2(http2, _) = &mut self.stage {
            http2.as_mut().graceful_shutdown();
        }
    }
}

impl<S: Service> Drop for ConnTask<S> {
    fn drop(&mut self) {
        h1::without_notes(|| self.stage = Stage::Done);
    }
}

#[cfg(feature = "http2")]
#[inline(never)]
fn poll_http2<S: Service>(http2: &mut Pin<Box<Http2Conn<S>>>, cx: &mut Context<'_>) -> Poll<()> {
    http2.as_mut().poll(cx).map(drop)
}

/// Polls hyper's connection. hyper's code is large: once for both callers.
#[inline(never)]
fn poll_http1<S: Service>(
    http1: &mut Http1Conn<S>,
    conn: &HttpConn,
    cx: &mut Context<'_>,
) -> Poll<()> {
    conn.exchange(|| Pin::new(http1).poll(cx).map(drop))
}

/// Adds or subtracts up to a tenth, so that connections that were opened together do not end
/// together.
fn with_jitter(age: Duration) -> Duration {
    // Random enough: each `RandomState` has its own key.
    let random = RandomState::new().build_hasher().finish();
    #[allow(clippy::cast_precision_loss, reason = "a fraction")]
    let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
    age.mul_f64(0.9 + 0.2 * fraction)
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use std::{convert::Infallible, future::poll_fn};

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::StreamBody;
    use hyper::{
        body::{Frame, Incoming},
        service::service_fn,
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
    };

    use super::*;
    use crate::{
        context::Handle,
        http::service::SingleService,
        net::Stream,
        stop::Limits,
        util::{Peer, Sealed},
    };

    /// A client, and the task of its connection.
    fn connected(handle: &Handle) -> (UnixStream, ConnTask<impl Service>) {
        connected_with(handle, Options::new())
    }

    fn connected_with(handle: &Handle, options: Options) -> (UnixStream, ConnTask<impl Service>) {
        let service = service_fn(async |request: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(request.uri().path().to_owned()))
        });
        connected_to(handle, options, service.into_service(Sealed))
    }

    fn connected_to<S: Service>(
        handle: &Handle,
        options: Options,
        service: S,
    ) -> (UnixStream, ConnTask<S>) {
        handle.shared().set_runtime(tokio::runtime::Handle::current());
        let (client, server) = UnixStream::pair().unwrap();
        let guard = HttpConn::accepted(handle.shared(), Peer::Unix, None, None, None);
        let io = Io::new(Stream::Unix(server), guard);
        (client, ConnTask::new(io, service, &Arc::new(options), None, None))
    }

    /// A tower service that is asked several times before it is ready, or fails.
    #[derive(Clone)]
    struct Reluctant {
        asked: usize,
        fails: bool,
    }

    impl tower_service::Service<Request<Incoming>> for Reluctant {
        type Response = Response<String>;
        type Error = &'static str;
        type Future = std::future::Ready<Result<Response<String>, &'static str>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            self.asked += 1;
            if self.asked < 4 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            assert_eq!(self.asked, 4, "asked again after it was ready, or had failed");
            Poll::Ready(if self.fails { Err("broken") } else { Ok(()) })
        }

        fn call(&mut self, request: Request<Incoming>) -> Self::Future {
            assert_eq!(self.asked, 4, "called before it was ready");
            std::future::ready(Ok(Response::new(request.uri().path().to_owned())))
        }
    }

    #[tokio::test]
    async fn a_service_is_called_when_it_is_ready() {
        // At once, and later.
        for asked in [3, 2, 0] {
            let handle = Handle::for_test(Limits::NONE);
            let service = Reluctant { asked, fails: false }.into_service(Sealed);
            let (mut client, mut task) = connected_to(&handle, Options::new(), service);
            for path in ["/a", "/b"] {
                let request = format!("GET {path} HTTP/1.1\r\n\r\n");
                client.write_all(request.as_bytes()).await.unwrap();
                answer(&mut task, &mut client, path).await;
            }
        }
    }

    #[tokio::test]
    async fn a_service_that_fails_to_get_ready_costs_its_connection() {
        for asked in [3, 0] {
            let handle = Handle::for_test(Limits::NONE);
            let service = Reluctant { asked, fails: true }.into_service(Sealed);
            let (mut client, mut task) = connected_to(&handle, Options::new(), service);
            client.write_all(b"GET /a HTTP/1.1\r\n\r\n").await.unwrap();
            poll_fn(|cx| task.poll(cx)).await;
            drop(task);
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
    }

    /// Runs the task until the client has read a response that ends with `end`.
    async fn answer<S: Service>(task: &mut ConnTask<S>, client: &mut UnixStream, end: &str) {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            tokio::select! {
                biased;
                () = poll_fn(|cx| task.poll(cx)) => panic!("closed: {read:?}"),
                byte = client.read_u8() => read.push(byte.unwrap()),
            }
        }
        assert!(poll_once(task).await.is_pending());
    }

    async fn poll_once<S: Service>(task: &mut ConnTask<S>) -> Poll<()> {
        // Lets the runtime notice what has been written.
        tokio::task::yield_now().await;
        poll_fn(|cx| Poll::Ready(task.poll(cx))).await
    }

    /// As with a handler that blocks on a runtime of its own, which has a server.
    #[tokio::test]
    async fn a_connection_that_is_polled_within_another_leaves_it_as_it_is() {
        let inner = Handle::for_test(Limits::NONE);
        let (mut inner_client, inner_task) = connected(&inner);
        inner_client.write_all(b"GET /inner HTTP/1.1\r\n\r\n").await.unwrap();
        let inner_task = std::sync::Arc::new(std::sync::Mutex::new(inner_task));
        let service = service_fn(move |request: Request<Incoming>| {
            let inner_task = inner_task.clone();
            poll_fn(move |cx| {
                assert!(inner_task.lock().unwrap().poll(cx).is_pending());
                let path = request.uri().path().to_owned();
                Poll::Ready(Ok::<_, Infallible>(Response::new(path)))
            })
        });
        let outer = Handle::for_test(Limits::NONE);
        let service = service.into_service(Sealed);
        let (mut client, mut task) = connected_to(&outer, Options::new(), service);
        client.write_all(b"GET /outer HTTP/1.1\r\n\r\n").await.unwrap();
        outer.shared().phase.advance(Phase::Stopping);
        let end = poll_fn(|cx| task.poll(cx));
        tokio::time::timeout(Duration::from_secs(20), end).await.expect("it closes");
        let mut answers = [const { String::new() }; 2];
        client.read_to_string(&mut answers[0]).await.unwrap();
        drop(task);
        inner_client.read_to_string(&mut answers[1]).await.unwrap();
        let closes = answers.each_ref().map(|answer| answer.contains("connection: close"));
        assert_eq!(closes, [true, false], "{answers:?}");
        assert!(answers[0].ends_with("/outer") && answers[1].ends_with("/inner"), "{answers:?}");
    }

    /// And neither does one that is dropped there, in the middle of a response.
    #[tokio::test]
    async fn a_connection_that_is_dropped_within_another_leaves_it_as_it_is() {
        let inner = Handle::for_test(Limits::NONE);
        let stalls = service_fn(async |_: Request<Incoming>| {
            let body = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
            Ok::<_, Infallible>(Response::new(StreamBody::new(body)))
        });
        let stalls = stalls.into_service(Sealed);
        let (mut inner_client, mut inner_task) = connected_to(&inner, Options::new(), stalls);
        inner_client.write_all(b"GET /inner HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(poll_once(&mut inner_task).await.is_pending());
        assert_eq!(inner_task.conn().state(), ConnState::Responding);
        let inner_task = std::sync::Mutex::new(Some(inner_task));
        let inner_task = std::sync::Arc::new(inner_task);
        let service = service_fn(move |_: Request<Incoming>| {
            drop(inner_task.lock().unwrap().take());
            std::future::pending::<Result<Response<String>, Infallible>>()
        });
        let outer = Handle::for_test(Limits::NONE);
        let service = service.into_service(Sealed);
        let (mut client, mut task) = connected_to(&outer, Options::new(), service);
        client.write_all(b"GET /outer HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(poll_once(&mut task).await.is_pending());
        assert_eq!(task.conn().state(), ConnState::Busy);
    }

    /// A handler may compute for long, without an await in between.
    #[tokio::test]
    async fn a_stop_that_begins_within_the_handler_ends_its_connection() {
        let handle = Handle::for_test(Limits::NONE);
        let stops = handle.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            stops.shared().phase.advance(Phase::Stopping);
            std::future::ready(Ok::<_, Infallible>(Response::new(request.uri().path().to_owned())))
        });
        let (mut client, mut task) =
            connected_to(&handle, Options::new(), service.into_service(Sealed));
        client.write_all(b"GET /a HTTP/1.1\r\n\r\n").await.unwrap();
        let end = poll_fn(|cx| task.poll(cx));
        tokio::time::timeout(Duration::from_secs(20), end).await.expect("it closes");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("connection: close") && answer.ends_with("/a"), "{answer}");
    }

    #[tokio::test]
    async fn a_connection_that_hyper_shuts_is_not_parked() {
        let handle = Handle::for_test(Limits::NONE);
        let (mut client, mut task) = connected(&handle);
        client.write_all(b"GET /last HTTP/1.1\r\n\r\n").await.unwrap();
        answer(&mut task, &mut client, "/last").await;
        task.conn().begins_to_shut();
        assert!(!handle.shared().work.sweep(Duration::ZERO));
        assert!(poll_once(&mut task).await.is_pending());
        assert!(matches!(task.stage, Stage::Http1(_)));
    }

    #[tokio::test]
    async fn servers_until_exit_are_swept_with_the_program() {
        let handle = Handle::for_test(Limits::NONE);
        handle.shared().set_runtime(tokio::runtime::Handle::current());
        let (mut client, mut task) = connected(&handle.out_of_band());
        client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
        answer(&mut task, &mut client, "/metrics").await;
        assert!(handle.shared().sweep_out_of_band(Duration::from_secs(60)));
        assert!(!handle.shared().sweep_out_of_band(Duration::ZERO));
        assert!(poll_once(&mut task).await.is_pending());
        assert!(matches!(task.stage, Stage::Parked(_)));
    }

    #[tokio::test]
    async fn an_idle_connection_is_parked_and_its_next_request_answered() {
        let handle = Handle::for_test(Limits::NONE);
        let (mut client, mut task) = connected(&handle);
        let work = &handle.shared().work;
        for round in 0..3 {
            // In pieces; the first one brings hyper in.
            client.write_all(b"G").await.unwrap();
            assert!(poll_once(&mut task).await.is_pending());
            client.write_all(format!("ET /{round} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
            answer(&mut task, &mut client, &format!("/{round}")).await;
            assert!(matches!(task.stage, Stage::Http1(_)));
            assert!(work.sweep(Duration::from_secs(60)), "not idle for long enough");
            assert!(poll_once(&mut task).await.is_pending());
            assert!(matches!(task.stage, Stage::Http1(_)));
            assert!(!work.sweep(Duration::ZERO), "nothing is left to park");
            assert!(poll_once(&mut task).await.is_pending());
            assert!(matches!(task.stage, Stage::Parked(_)));
        }
        drop(client);
        poll_fn(|cx| task.poll(cx)).await;
    }

    /// hyper yields after 16 requests of a pipeline, with the rest in its buffer. The connection is
    /// then between two messages, but is not parked.
    #[tokio::test]
    async fn a_long_pipeline_is_not_parked_in_its_middle() {
        for draining in [false, true] {
            let handle = Handle::for_test(Limits::NONE);
            let (mut client, mut task) = connected(&handle);
            client.write_all("GET /a HTTP/1.1\r\n\r\n".repeat(40).as_bytes()).await.unwrap();
            assert!(poll_once(&mut task).await.is_pending());
            assert_eq!(task.conn().state(), ConnState::Idle, "in its middle");
            if draining {
                handle.shared().phase.advance(Phase::Draining);
            } else {
                handle.shared().work.sweep(Duration::ZERO);
            }
            let mut answers = String::new();
            let read = async {
                let mut piece = [0; 4096];
                while answers.matches("/a").count() < if draining { 17 } else { 40 } {
                    let count = client.read(&mut piece).await.unwrap();
                    assert!(count > 0, "{answers}");
                    answers.push_str(std::str::from_utf8(&piece[..count]).unwrap());
                }
            };
            let late = tokio::time::sleep(Duration::from_secs(20));
            tokio::select! {
                biased;
                () = read => {}
                () = late => panic!("the rest of the pipeline is not answered"),
                () = async {
                    poll_fn(|cx| task.poll(cx)).await;
                    assert!(draining, "closed");
                    std::future::pending::<()>().await;
                } => {}
            }
            assert_eq!(answers.contains("connection: close"), draining);
        }
    }

    /// The program's own limits, which are checked on every poll, do not keep hyper in place, and a
    /// parked connection keeps its limits.
    #[tokio::test]
    async fn a_connection_with_limits_is_parked_as_well() {
        let handle = Handle::for_test(Limits::NONE);
        let mut options = Options::new();
        options.keep_alive_timeout = Some(Duration::from_millis(50));
        let (mut client, mut task) = connected_with(&handle, options);
        client.write_all(b"GET /a HTTP/1.1\r\n\r\n").await.unwrap();
        answer(&mut task, &mut client, "/a").await;
        handle.shared().work.sweep(Duration::ZERO);
        assert!(poll_once(&mut task).await.is_pending());
        assert!(matches!(task.stage, Stage::Parked(_)));
        poll_fn(|cx| task.poll(cx)).await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }

    /// A connection that begins to read the next message between the sweep and its next poll stays
    /// as it is.
    #[tokio::test]
    async fn a_request_that_comes_at_the_sweep_is_answered() {
        let handle = Handle::for_test(Limits::NONE);
        let (mut client, mut task) = connected(&handle);
        client.write_all(b"GET /a HTTP/1.1\r\n\r\n").await.unwrap();
        answer(&mut task, &mut client, "/a").await;
        assert!(!handle.shared().work.sweep(Duration::ZERO));
        client.write_all(b"GET /b HTTP/1.1\r\n").await.unwrap();
        assert!(poll_once(&mut task).await.is_pending());
        assert!(matches!(task.stage, Stage::Http1(_)));
        client.write_all(b"\r\n").await.unwrap();
        answer(&mut task, &mut client, "/b").await;
        assert!(!handle.shared().work.sweep(Duration::ZERO), "the next sweep parks it");
        assert!(poll_once(&mut task).await.is_pending());
        assert!(matches!(task.stage, Stage::Parked(_)));
    }

    /// Empty lines after a message (RFC 9112, section 2.2) are left for hyper to skip, when it
    /// takes over again.
    #[tokio::test]
    async fn line_breaks_between_messages_are_kept() {
        let handle = Handle::for_test(Limits::NONE);
        let (mut client, mut task) = connected(&handle);
        client.write_all(b"GET /a HTTP/1.1\r\n\r\n\r\n").await.unwrap();
        answer(&mut task, &mut client, "/a").await;
        handle.shared().work.sweep(Duration::ZERO);
        assert!(poll_once(&mut task).await.is_pending());
        assert!(matches!(task.stage, Stage::Parked(_)));
        client.write_all(b"\r\nGET /b HTTP/1.1\r\n\r\n").await.unwrap();
        answer(&mut task, &mut client, "/b").await;
    }

    /// An HTTP/2 preface does not change the protocol of a connection that has spoken HTTP/1.
    #[tokio::test]
    async fn a_parked_connection_speaks_what_it_has_spoken() {
        let handle = Handle::for_test(Limits::NONE);
        let (mut client, mut task) = connected(&handle);
        client.write_all(b"GET /a HTTP/1.1\r\n\r\n").await.unwrap();
        answer(&mut task, &mut client, "/a").await;
        handle.shared().work.sweep(Duration::ZERO);
        assert!(poll_once(&mut task).await.is_pending());
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tokio::join!(poll_fn(|cx| task.poll(cx)), async {
            client.shutdown().await.unwrap();
            client.read_to_string(&mut answer).await.unwrap();
        });
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }

    #[test]
    fn jitter_is_at_most_a_tenth() {
        let age = Duration::from_secs(100);
        let ages: Vec<_> = (0..1_000).map(|_| with_jitter(age).as_secs_f64()).collect();
        assert!(ages.iter().all(|age| (90.0..=110.0).contains(age)));
        assert!(ages.iter().any(|age| *age < 94.0) && ages.iter().any(|age| *age > 106.0));
    }
}
