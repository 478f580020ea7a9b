//! Drives a connection from the first byte to the last: finds out the protocol, lets hyper speak
//! it, and ends it at the right moment.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use super::{
    conn::{HttpConn, Leftover},
    detect::{Detect, Version},
    framing::Framing,
    io::Io,
    options::Options,
    service::Service,
    stage::Stage,
    state::{Due, Event, InService, Moments, State},
    timed::Timed,
};
use crate::{
    net::{ConnDrain, ConnGuard, ConnectInfo, GuardedConn, LingeringClose, Received, Timer},
    stop::Phase,
};

/// The task of a connection.
pub(super) struct Driver<S: Service> {
    stage: Stage<S>,
    timer: Timer,
    options: Arc<Options>,
    info: Option<ConnectInfo>,
    /// What has to be looked at on every poll, for the options that bound a connection in service.
    timed: Option<Box<Timed>>,
    /// From the moment in which this connection has learned of the drain.
    draining: Option<Box<ConnDrain>>,
    /// Whether nothing drains, and the waker is where the drain will find it.
    steady: bool,
    /// Whether the connection may have deadlines in service whatever its state is.
    watched: bool,
    /// Whether half a record of a layer may be there.
    is_layered: bool,
    /// Dropped last: what the handlers hold is dropped before the drain stops waiting for them.
    guard: ConnGuard<HttpConn>,
}

impl<S: Service> Driver<S> {
    pub(super) fn new(
        mut io: Io,
        service: S,
        options: &Arc<Options>,
        info: Option<ConnectInfo>,
    ) -> Self {
        let guard = io.guard().clone();
        let timed = options.is_timed().then(|| Box::new(Timed::new(&io, options)));
        if options.body_timeout.is_some() {
            io.time_bodies();
        }
        let is_layered = io.stream().is_layered();
        Self {
            stage: Stage::Detect(Detect { io, matched: 0, service }),
            timer: Timer::default(),
            options: options.clone(),
            info,
            timed,
            draining: None,
            steady: false,
            watched: options.is_timed(),
            is_layered,
            guard,
        }
    }

    #[inline]
    fn conn(&self) -> &HttpConn {
        self.guard.conn()
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A task keeps its waker for life, so in steady state it is registered once.
        if !self.steady || self.conn().phase() >= Phase::Draining {
            self.look_up(cx);
            if self.conn().phase() >= Phase::Cut {
                self.stage = Stage::Done;
                return Poll::Ready(());
            }
        } else if self.watched {
            self.forget_what_is_void();
        }
        loop {
            if self.poll_stage(cx).is_ready() {
                if self.finish().is_ready() {
                    return Poll::Ready(());
                }
                continue;
            }
            // Nothing to wait for: the way of every poll in steady state.
            let is_bounded =
                self.conn().is_bounded() || self.is_layered && self.conn().core().is_partial();
            if self.steady && !self.watched && !is_bounded {
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
                Due::AskKernel => self.ask_kernel(),
                Due::Expire => self.conn().on(Event::Expires),
                Due::FailBody => self.conn().give_up_body(),
                Due::Retire => self.retire(),
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
        self.conn().core().register(cx.waker());
        self.steady = self.conn().phase() < Phase::Draining;
        if self.steady {
            return;
        }
        if self.draining.is_some() {
            return self.forget_what_is_void();
        }
        let now = Instant::now();
        self.draining = Some(Box::new(ConnDrain::new(now)));
        self.stage.say_goaway();
        if self.conn().is(State::Idle) {
            // Long idle, as most are: hyper need not be asked before it is told.
            self.ask_kernel();
            if State::Idle.deadline(&self.moments()).is_some_and(|at| at <= now) {
                self.conn().on(Event::Expires);
            }
        }
    }

    /// What was found out before the connection did something else is void.
    fn forget_what_is_void(&mut self) {
        let conn = self.guard.conn();
        if let Some(draining) = &mut self.draining
            && (!conn.state().is_between_messages() || conn.has_streams())
        {
            draining.view = None;
        }
    }

    /// The connection is old, or has been idle, for long enough: from here on it ends as in the
    /// drain.
    fn retire(&mut self) {
        self.conn().retire();
        let mut drain = ConnDrain::new(Instant::now());
        // Asked for alone: a table of all connections is made once, when the process drains.
        drain.closes(self.timed.take().and_then(|timed| timed.local));
        self.draining = Some(Box::new(drain));
        self.stage.say_goaway();
    }

    fn in_service(&self) -> InService {
        let Some(timed) = &self.timed else {
            return InService::default();
        };
        InService {
            keep_alive: self.options.keep_alive_timeout,
            body: self.options.body_timeout.zip(self.conn().body_wait()),
            retires: timed.retires,
        }
    }

    fn ask_kernel(&mut self) {
        let stage = &self.stage;
        let Some(draining) = &mut self.draining else {
            return;
        };
        let conn = self.guard.conn();
        // Over HTTP/2 a client that reads says so by frames, which a close would answer with a
        // reset. Over HTTP/1 a client that goes on sending gets its second, and no more.
        let is_http2 = conn.streams_if_any().is_some();
        let view = draining.ask(conn.core(), conn.since(), is_http2, || stage.local_addr());
        if view.is_to_come {
            return;
        }
        conn.on(if view.undelivered { Event::Unacknowledged } else { Event::Acknowledged });
    }

    fn moments(&self) -> Moments {
        let conn = self.conn();
        Moments {
            accepted: conn.core().accepted_at(),
            since: conn.since(),
            draining: self.draining.as_ref().map(|draining| draining.since),
            header_timeout: self.options.header_timeout,
            in_service: self.in_service(),
            linger: conn.core().shared().limits.linger,
            view: self.draining.as_ref().and_then(|draining| draining.view),
            has_streams: conn.has_streams(),
            partial: conn.core().partial_since(),
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
                #[cfg(feature = "http1")]
                Stage::Http1(http1) => return http1.as_mut().poll(cx).map(drop),
                #[cfg(feature = "http2")]
                Stage::Http2(http2) => return http2.as_mut().poll(cx).map(drop),
                Stage::Closing(closing, framing) => {
                    let mut heard = false;
                    let ended = closing.poll(cx, |bytes| {
                        heard = true;
                        // What is read now is not for hyper, which has taken all it wanted.
                        let _ = framing.as_mut().map(|it| it.read(bytes, it.heads()));
                    });
                    let is_between = framing.as_ref().map(Framing::is_between);
                    let is_sending = is_between.map_or(heard, |is_between| !is_between);
                    let core = self.guard.conn().core();
                    core.set_sending(is_sending);
                    core.set_goodbye(closing.goodbye());
                    if ended.is_pending() && is_between != Some(true) {
                        return Poll::Pending;
                    }
                    return self.poll_delivered();
                }
                Stage::Done => return Poll::Ready(()),
            }
        }
    }

    /// In service the kernel sees to what is on its way; the end of the process is waited for until
    /// it has.
    fn poll_delivered(&mut self) -> Poll<()> {
        self.ask_kernel();
        match &self.draining {
            Some(draining) if draining.view.is_some_and(|view| view.is_open()) => Poll::Pending,
            Some(_) | None => Poll::Ready(()),
        }
    }

    fn speak(&mut self, version: Version) {
        if let Stage::Detect(detect) = mem::replace(&mut self.stage, Stage::Done) {
            let (options, info) = (&self.options, self.info.take());
            self.stage = Stage::speaking(detect, version, options, &self.guard, info);
            if self.draining.is_some() {
                self.stage.say_goaway();
            }
        }
    }

    /// The deadline has passed, and the connection is over. Pending: not quite.
    fn end(&mut self) -> Poll<()> {
        match (self.conn().state(), &self.stage) {
            // One last look at what the kernel has received.
            (State::Fresh, Stage::Detect(detect))
                if self.draining.is_some() && detect.io.stream().peek() == Received::Something =>
            {
                // The runtime is about to hear of it.
                self.conn().on(Event::PartOfHead);
                Poll::Pending
            }
            // A client of HTTP/2 that has had its time to answer has had its time to read.
            (State::Http2, _) => {
                self.conn().on(Event::Gone);
                self.finish()
            }
            _ => self.finish(),
        }
    }

    /// The protocol is over, or the close. Pending: the stream is still to be closed.
    fn finish(&mut self) -> Poll<()> {
        #[cfg(feature = "http1")]
        let http1 = matches!(self.stage, Stage::Http1(_));
        #[cfg(not(feature = "http1"))]
        let http1 = false;
        // hyper lets go of the stream.
        self.stage = Stage::Done;
        if let Some(Leftover { stream, framing, goodbye }) = self.conn().take_leftover() {
            self.conn().on(Event::Closes);
            // Once the process is about to end, the end of this waits for what is on its way, as
            // the drain does.
            if self.conn().phase() >= Phase::Stopping {
                self.draining
                    .get_or_insert_with(|| Box::new(ConnDrain::new(Instant::now())))
                    .closes(stream.local_addr());
            }
            self.stage = Stage::Closing(LingeringClose::new(stream, goodbye), framing);
            return Poll::Pending;
        }
        if http1 && !self.guard.is_last() && !self.conn().is(State::Upgraded) {
            // Or hyper has handed it to the code that asked for the upgrade.
            self.conn().on(Event::Upgrades);
        }
        Poll::Ready(())
    }
}
