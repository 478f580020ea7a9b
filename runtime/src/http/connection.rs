//! A connection, from the first byte to the last: finds out the protocol, lets hyper speak it, and
//! ends it at the right moment.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;

use super::{
    conn::Conn,
    detect::{Detect, Version},
    exec::Exec,
    held::Held,
    http1::Http1,
    http2::Http2,
    io::Io,
    server::{Options, http2_builder},
    service::Service,
    state::State,
    stream::Received,
    timer::Timer,
};
use crate::phase::Phase;

/// How long a head may take to become complete once the drain has started.
const HEAD_GRACE: Duration = Duration::from_secs(1);

/// How long an HTTP/2 client without open streams may take to answer the PING that comes with GOAWAY.
const PONG_GRACE: Duration = Duration::from_secs(1);

/// How long a client that is still sending after the last response is read from: long enough for it
/// to see the response; short where a process wants to exit.
const LAST_WORDS: Duration = Duration::from_secs(5);
const LAST_WORDS_DRAINING: Duration = Duration::from_secs(1);

type Http1Conn<S> = http1::UpgradeableConnection<TokioIo<Io>, Http1<S>>;
type Http2Conn<S> = http2::Connection<TokioIo<Io>, Http2<S>, Exec>;

/// The task of a connection.
pub(crate) struct Connection<S: Service> {
    stage: Stage<S>,
    timer: Timer,
    header_timeout: Option<Duration>,
    /// When this connection has learned of the drain.
    draining: Option<Instant>,
    /// Whether nothing drains, and the waker is where the drain will find it.
    steady: bool,
    /// Dropped last: what the handlers hold is dropped before the drain stops waiting for them.
    held: Held,
}

/// How far a connection is. hyper's futures are large and boxed: most connections are quiet most of
/// the time, and many never send a byte.
#[allow(
    clippy::large_enum_variant,
    reason = "an allocation less for each connection; the task is large enough anyway"
)]
enum Stage<S: Service> {
    Detect(Detect<S>),
    Http1(Pin<Box<Http1Conn<S>>>),
    Http2(Pin<Box<Http2Conn<S>>>),
    Done,
}

impl<S: Service> Connection<S> {
    pub(crate) fn new(io: Io, service: S, http1: http1::Builder, options: &Options) -> Self {
        let held = io.held().clone();
        let readiness = options.readiness.clone();
        let detect = Detect { io, matched: 0, service, http1, readiness };
        Self {
            stage: Stage::Detect(detect),
            timer: Timer::default(),
            header_timeout: options.header_timeout,
            draining: None,
            steady: false,
            held,
        }
    }

    #[inline]
    fn conn(&self) -> &Conn {
        self.held.conn()
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A task keeps its waker for life, so in steady state it is registered once.
        if !self.steady || self.conn().phase() >= Phase::Draining {
            self.look_up(cx);
            if self.conn().phase() >= Phase::Cut {
                self.stage = Stage::Done;
                return Poll::Ready(());
            }
        }
        loop {
            if self.poll_stage(cx).is_ready() {
                self.finish();
                return Poll::Ready(());
            }
            // Nothing to wait for: the way of every poll in steady state.
            if self.steady && !self.conn().is_limited() {
                return Poll::Pending;
            }
            let Some(deadline) = self.deadline() else {
                return Poll::Pending;
            };
            if !self.timer.has_passed(deadline, cx) {
                return Poll::Pending;
            }
            if self.expire().is_ready() {
                self.finish();
                return Poll::Ready(());
            }
        }
    }

    /// Looks at the phase.
    #[cold]
    fn look_up(&mut self, cx: &mut Context<'_>) {
        // Before the look. What is woken has to register again, for the next time.
        self.conn().register(cx.waker());
        self.steady = self.conn().phase() < Phase::Draining;
        if !self.steady && self.draining.is_none() {
            let now = Instant::now();
            self.draining = Some(now);
            if let Stage::Http2(http2) = &mut self.stage {
                http2.as_mut().graceful_shutdown();
            } else if self.conn().is(State::Idle) && self.deadline().is_some_and(|at| at <= now) {
                // Long quiet, as most are: hyper need not be asked before it is told.
                self.conn().enter(State::Closable);
            }
        }
    }

    fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.stage {
                Stage::Detect(detect) => match std::task::ready!(detect.poll(cx)) {
                    None => return Poll::Ready(()),
                    Some(version) => self.speak(version),
                },
                // How a connection ends, well or badly, is its client's affair.
                Stage::Http1(http1) => return http1.as_mut().poll(cx).map(drop),
                Stage::Http2(http2) => return http2.as_mut().poll(cx).map(drop),
                Stage::Done => return Poll::Ready(()),
            }
        }
    }

    fn speak(&mut self, version: Version) {
        let Stage::Detect(detect) = mem::replace(&mut self.stage, Stage::Done) else {
            return;
        };
        let Detect { io, service, http1, readiness, .. } = detect;
        let conn = self.held.conn().clone();
        self.stage = match version {
            Version::Http1 => {
                let service = Http1 { service, conn, readiness };
                let http1 = http1.serve_connection(TokioIo::new(io), service);
                Stage::Http1(Box::pin(http1.with_upgrades()))
            }
            Version::Http2 => {
                let service = Http2 { service, conn, readiness };
                self.conn().enter(State::Http2);
                let builder = http2_builder(Exec(self.held.clone()));
                let mut http2 = Box::pin(builder.serve_connection(TokioIo::new(io), service));
                if self.draining.is_some() {
                    http2.as_mut().graceful_shutdown();
                }
                Stage::Http2(http2)
            }
        };
    }

    /// When something is to happen without anything from the client.
    fn deadline(&self) -> Option<Instant> {
        let conn = self.conn();
        let linger = conn.handle.shared().limits.linger;
        match (conn.state(), self.draining) {
            (State::Fresh | State::Head, None) => self.header_deadline(),
            (State::Fresh | State::Idle, Some(_)) => Some(conn.since() + linger),
            (State::Closable, _) => Some(conn.since() + HEAD_GRACE),
            (State::NewHead, _) => {
                conn.enter(State::Head);
                self.deadline()
            }
            (State::Unsettled, Some(draining)) => Some(conn.since().max(draining) + HEAD_GRACE),
            (State::Head, Some(draining)) => {
                let grace = conn.since().max(draining) + HEAD_GRACE;
                Some(self.header_deadline().map_or(grace, |limit| limit.min(grace)))
            }
            (State::LastWords, draining) => {
                let grace = match draining {
                    None => LAST_WORDS,
                    Some(_) => LAST_WORDS_DRAINING,
                };
                // Sending on does not prolong it, the start of the drain shortens it.
                let since = draining.map_or(conn.since(), |at| at.max(conn.since()));
                Some(since + grace)
            }
            (State::Http2, Some(draining)) if !conn.has_streams() => {
                Some(conn.since().max(draining) + PONG_GRACE)
            }
            (
                State::Idle
                | State::Unsettled
                | State::Busy
                | State::Responding
                | State::Flushing
                | State::Answered
                | State::Http2
                | State::Upgraded
                | State::Closed,
                _,
            ) => None,
        }
    }

    fn header_deadline(&self) -> Option<Instant> {
        self.header_timeout.map(|limit| self.conn().since() + limit)
    }

    /// The deadline has passed. Ready: the connection is over.
    fn expire(&mut self) -> Poll<()> {
        match (self.conn().state(), &self.stage) {
            // Quiet for as long as the linger. One last look at what the kernel has.
            (State::Fresh, Stage::Detect(detect)) if self.draining.is_some() => {
                if detect.io.peek() != Received::Something {
                    return Poll::Ready(());
                }
                // The runtime is about to hear of it.
                self.conn().enter(State::Head);
                Poll::Pending
            }
            (State::Idle, _) => {
                self.conn().enter(State::Closable);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// The connection has ended, or has left HTTP.
    fn finish(&mut self) {
        let http1 = matches!(self.stage, Stage::Http1(_));
        self.stage = Stage::Done;
        if http1 && !self.held.is_last() {
            // hyper has handed the stream to whoever asked for the upgrade.
            self.conn().upgraded();
        }
    }
}
