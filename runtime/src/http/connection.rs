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
    bounds::{Due, Moments},
    conn::{Conn, Left},
    detect::{Detect, Version},
    exec::Exec,
    framing::Framing,
    held::Held,
    http1::Http1,
    http2::Http2,
    io::Io,
    look::Draining,
    server::{Options, http2_builder},
    service::Service,
    state::{
        Event,
        State::{Fresh, Http2 as SpeaksHttp2, Idle, Upgraded},
    },
    timer::Timer,
};
use crate::{
    net::{lingering::LingeringClose, stream::Received},
    phase::Phase,
};

type Http1Conn<S> = http1::UpgradeableConnection<TokioIo<Io>, Http1<S>>;
type Http2Conn<S> = http2::Connection<TokioIo<Io>, Http2<S>, Exec>;

/// The task of a connection.
pub(crate) struct Connection<S: Service> {
    stage: Stage<S>,
    timer: Timer,
    header_timeout: Option<Duration>,
    /// From the moment in which this connection has learned of the drain.
    draining: Option<Box<Draining>>,
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
    Closing(LingeringClose, Option<Framing>),
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
                if self.finish().is_ready() {
                    return Poll::Ready(());
                }
                continue;
            }
            // Nothing to wait for: the way of every poll in steady state.
            if self.steady && !self.conn().is_bounded() {
                return Poll::Pending;
            }
            let state = self.conn().state();
            let moments = self.moments();
            let Some(deadline) = state.deadline(&moments) else {
                return Poll::Pending;
            };
            if !self.timer.has_passed(deadline, cx) {
                return Poll::Pending;
            }
            match state.due(&moments) {
                Due::Look => self.look(),
                Due::Expire => self.conn().on(Event::Expires),
                Due::End => {
                    if self.end().is_ready() {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }

    /// Looks at the phase.
    #[cold]
    fn look_up(&mut self, cx: &mut Context<'_>) {
        // Before the look. What is woken has to register again, for the next time.
        self.conn().register(cx.waker());
        self.steady = self.conn().phase() < Phase::Draining;
        if self.steady {
            return;
        }
        if let Some(draining) = &mut self.draining {
            draining.forget_what_is_void(self.held.conn());
            return;
        }
        let now = Instant::now();
        self.draining = Some(Box::new(Draining::new(now)));
        if let Stage::Http2(http2) = &mut self.stage {
            http2.as_mut().graceful_shutdown();
        } else if self.conn().is(Idle) {
            // Long idle, as most are: hyper need not be asked before it is told.
            self.look();
            if Idle.deadline(&self.moments()).is_some_and(|at| at <= now) {
                self.conn().on(Event::Expires);
            }
        }
    }

    fn look(&mut self) {
        let local = || match &self.stage {
            Stage::Detect(detect) => detect.io.stream().local_addr(),
            Stage::Closing(closing, _) => closing.local_addr(),
            Stage::Http1(_) | Stage::Http2(_) | Stage::Done => None,
        };
        if let Some(draining) = &mut self.draining {
            draining.look(self.held.conn(), local);
        }
    }

    fn moments(&self) -> Moments {
        let conn = self.conn();
        Moments {
            accepted: conn.accepted_at(),
            since: conn.since(),
            draining: self.draining.as_ref().map(|draining| draining.since),
            header_timeout: self.header_timeout,
            linger: conn.handle.shared().limits.linger,
            look: self.draining.as_ref().and_then(|draining| draining.look),
            has_streams: conn.has_streams(),
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
                Stage::Closing(closing, framing) => {
                    let mut heard = false;
                    let ended = closing.poll(cx, |bytes| {
                        heard = true;
                        // What is read now is not for hyper, which has taken all it wanted.
                        let _ = framing.as_mut().map(|it| it.read(bytes, it.heads()));
                    });
                    let is_between = framing.as_ref().map(Framing::is_between);
                    self.held
                        .conn()
                        .set_sending(is_between.map_or(heard, |is_between| !is_between));
                    if ended.is_pending() && is_between != Some(true) {
                        return Poll::Pending;
                    }
                    return self.poll_delivered();
                }
                Stage::Done => return Poll::Ready(()),
            }
        }
    }

    /// In service the kernel sees to what is on its way; the end of the process is waited for until it has.
    fn poll_delivered(&mut self) -> Poll<()> {
        self.look();
        match &self.draining {
            Some(draining) if draining.look.is_some_and(|look| look.undelivered) => Poll::Pending,
            Some(_) | None => Poll::Ready(()),
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
                self.conn().on(Event::SpeaksHttp2);
                let builder = http2_builder(Exec(self.held.clone()));
                let mut http2 = Box::pin(builder.serve_connection(TokioIo::new(io), service));
                if self.draining.is_some() {
                    http2.as_mut().graceful_shutdown();
                }
                Stage::Http2(http2)
            }
        };
    }

    /// The deadline has passed, and the connection is over. Pending: not quite.
    fn end(&mut self) -> Poll<()> {
        match (self.conn().state(), &self.stage) {
            // One last look at what the kernel has received.
            (Fresh, Stage::Detect(detect))
                if self.draining.is_some() && detect.io.stream().peek() == Received::Something =>
            {
                // The runtime is about to hear of it.
                self.conn().on(Event::PartOfHead);
                Poll::Pending
            }
            // A client of HTTP/2 that has had its time to answer has had its time to read.
            (SpeaksHttp2, _) => {
                self.conn().on(Event::Gone);
                self.finish()
            }
            _ => self.finish(),
        }
    }

    /// The protocol is over, or the close. Pending: the stream is still to be closed.
    fn finish(&mut self) -> Poll<()> {
        let http1 = matches!(self.stage, Stage::Http1(_));
        // hyper lets go of the stream.
        self.stage = Stage::Done;
        if let Some(Left { stream, framing }) = self.conn().take_left() {
            self.conn().on(Event::Closes);
            // Once the process is about to end, the end of this waits for what is on its way, as the drain does.
            if self.conn().phase() >= Phase::Stopping {
                self.draining
                    .get_or_insert_with(|| Box::new(Draining::new(Instant::now())))
                    .closes(stream.local_addr());
            }
            self.stage = Stage::Closing(LingeringClose::new(stream), framing);
            return Poll::Pending;
        }
        if http1 && !self.held.is_last() && !self.conn().is(Upgraded) {
            // Or has handed it to whoever asked for the upgrade.
            self.conn().on(Event::Upgrades);
        }
        Poll::Ready(())
    }
}
