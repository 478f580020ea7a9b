//! The state of one context. The sentinel drives it; everything else reads it.

use std::{
    borrow::Cow,
    fmt,
    pin::Pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::{
    runtime::Handle as Runtime,
    sync::{mpsc, watch},
};

#[cfg(feature = "net")]
use super::order::OnLeave;
use super::{
    final_figures::FinalFigures,
    goodbyes::{Fraction, Goodbyes},
    hooks::Hooks,
    hooks::Kept,
    limits::Limits,
    order::{Members, Membership, OrderedStop, StopOrder},
    phase::{Phase, PhaseCell},
    ready::NotReady,
    ready::WhenReady,
};
use crate::{
    log::{Log, say},
    manager::Manager,
    util::{
        Failure,
        sync::{Mutex, lock},
    },
    work::{InFlight, Work},
};

pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) phase: PhaseCell,
    pub(crate) work: Arc<Work>,
    pub(crate) hooks: Hooks,
    pub(crate) log: Log,
    pub(crate) manager: Manager,
    pub(crate) kept: Arc<Kept>,
    pub(crate) ready: WhenReady,
    not_ready: NotReady,
    /// Whether the program wants to be a lame duck as soon as it serves. Held while the phase
    /// follows.
    lame_duck: Mutex<bool>,
    pub(crate) goodbyes: Arc<Goodbyes>,
    pub(crate) final_figures: FinalFigures,
    is_told_ready: watch::Sender<bool>,
    pub(crate) turns: StopOrder,
    propagation: Propagation,
    /// The program's context, if this is the context of an out-of-band server, or of one in a
    /// group.
    program: Option<Arc<Shared>>,
    /// The contexts of servers that drain when it is the turn of their group.
    grouped: Mutex<Vec<Weak<Shared>>>,
    /// The group, if this is the context of such a server.
    members: Option<Arc<dyn Members>>,
    /// The contexts of the out-of-band servers, which keep running while the program stops.
    out_of_band: Mutex<Vec<Weak<Shared>>>,
    /// Whether the body of `main` has ever asked for a `Shutdown`.
    main_asked: AtomicBool,
    /// The last server that was dropped without being served.
    unserved: Mutex<Option<String>>,
    /// When the drain started. The sentinel sets it once, before it advances the phase.
    pub(crate) drain_started: OnceLock<Instant>,
    /// State that belongs to the cleanup hooks alone.
    pub(crate) cleanup: Cleanup,
    events: mpsc::UnboundedSender<Event>,
    runtime: OnceLock<Runtime>,
}

impl Shared {
    pub(crate) fn new(
        limits: Limits,
        propagation: Propagation,
        log: Log,
        manager: Manager,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self {
            limits,
            phase: PhaseCell::new(),
            work: Arc::new(Work::new(log.clone())),
            hooks: Hooks::default(),
            kept: Arc::new(Kept::new()),
            ready: WhenReady::new(),
            not_ready: NotReady::default(),
            lame_duck: Mutex::new(false),
            final_figures: FinalFigures::default(),
            goodbyes: Arc::new(Goodbyes::new(limits.spread)),
            is_told_ready: watch::Sender::new(false),
            turns: StopOrder::new(),
            propagation,
            program: None,
            grouped: Mutex::new(Vec::new()),
            members: None,
            out_of_band: Mutex::new(Vec::new()),
            main_asked: AtomicBool::new(false),
            unserved: Mutex::new(None),
            drain_started: OnceLock::new(),
            cleanup: Cleanup::new(log.clone()),
            log,
            manager,
            events,
            runtime: OnceLock::new(),
        }
    }

    /// Creates the context of a server that keeps running while the program stops: its work is not
    /// waited for, and it ends when everything else is over.
    pub(crate) fn out_of_band(self: &Arc<Self>) -> Arc<Self> {
        let program = self.program();
        let (limits, log, events) = (program.limits, program.log.clone(), program.events.clone());
        let out_of_band = Self::new(limits, program.propagation, log, Manager::nobody(), events);
        let out_of_band = Arc::new(Self { program: Some(program.clone()), ..out_of_band });
        out_of_band.set_runtime(program.runtime().clone());
        lock(&program.out_of_band).push(Arc::downgrade(&out_of_band));
        out_of_band
    }

    /// Creates the context of a server that drains when it is the turn of its group: a phase of its
    /// own, for work that is the program's.
    pub(crate) fn in_group(self: &Arc<Self>, members: Arc<dyn Members>) -> Arc<Self> {
        let program = self.program();
        let (limits, log, events) = (program.limits, program.log.clone(), program.events.clone());
        let grouped = Self::new(limits, program.propagation, log, Manager::nobody(), events);
        let grouped = Arc::new(Self {
            program: Some(program.clone()),
            work: program.work.clone(),
            goodbyes: program.goodbyes.clone(),
            members: Some(members),
            ..grouped
        });
        grouped.set_runtime(program.runtime().clone());
        lock(&program.grouped).push(Arc::downgrade(&grouped));
        // Whatever phase the program has reached in the meantime.
        grouped.follow(program.phase.now());
        grouped
    }

    /// Whether this is the context of a server in a group.
    pub(crate) fn is_in_group(&self) -> bool {
        self.members.is_some()
    }

    /// The drain of the program has begun, and it is the turn of this server.
    pub(crate) fn begin_turn(&self) {
        self.begin_drain();
    }

    /// The limit of its group has come: what is left ends here.
    pub(crate) fn cut_turn(&self) {
        self.phase.advance(Phase::Cut);
    }

    /// Follows the program: in everything but the begin of the drain.
    fn follow(&self, phase: Phase) {
        if !matches!(phase, Phase::Stopping | Phase::Draining) {
            self.phase.advance(phase);
        }
    }

    fn grouped(&self) -> Vec<Arc<Self>> {
        lock(&self.grouped).iter().filter_map(Weak::upgrade).collect()
    }

    /// Returns what `WorkItem::context` of its work returns.
    pub(crate) fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    /// Moves on to `phase`, and with the program its servers in groups.
    pub(super) fn advance(&self, phase: Phase) {
        self.phase.advance(phase);
        for grouped in self.grouped() {
            grouped.follow(phase);
        }
    }

    /// Makes the caller a member of the group of this context, if there is one.
    pub(crate) fn membership(&self) -> Option<Membership> {
        self.members.as_ref().map(Membership::new)
    }

    /// A connection has come to this server.
    #[cfg(feature = "net")]
    #[inline]
    pub(crate) fn enter_group(&self) {
        if let Some(members) = &self.members {
            members.enter();
        }
    }

    /// A connection of this server is over.
    #[cfg(feature = "net")]
    #[inline]
    pub(crate) fn leave_group(&self) {
        if let Some(members) = &self.members {
            members.leave();
        }
    }

    /// Leaves the group until the returned value is dropped.
    #[cfg(feature = "net")]
    pub(crate) fn on_leave(&self) -> Option<OnLeave> {
        self.members.as_ref().map(OnLeave::new)
    }

    /// Like `Work::sweep`, for the out-of-band servers.
    #[cfg(feature = "http1")]
    pub(crate) fn sweep_out_of_band(&self, idle: std::time::Duration) -> bool {
        let all: Vec<_> = lock(&self.out_of_band).iter().filter_map(Weak::upgrade).collect();
        all.iter().fold(false, |left, it| it.work.sweep(idle) | left)
    }

    /// Drains the out-of-band servers: what has come is answered.
    pub(super) async fn drain_out_of_band(&self) {
        let all: Vec<_> = lock(&self.out_of_band).iter().filter_map(Weak::upgrade).collect();
        for out_of_band in &all {
            out_of_band.begin_drain();
        }
        for out_of_band in all {
            out_of_band.work.none().await;
        }
    }

    /// Ends the out-of-band servers.
    pub(super) fn end_out_of_band(&self) {
        for out_of_band in std::mem::take(&mut *lock(&self.out_of_band)) {
            if let Some(out_of_band) = out_of_band.upgrade() {
                out_of_band.phase.advance(Phase::Over);
                out_of_band.work.seal();
                out_of_band.work.cut();
            }
        }
    }

    /// Returns the program's context, also for an out-of-band server.
    pub(crate) fn program(self: &Arc<Self>) -> &Arc<Self> {
        self.program.as_ref().unwrap_or(self)
    }

    /// Tells the service manager that the program is ready, with this `status`: now, or once the
    /// program says so.
    pub(crate) fn tell_ready(&self, status: &str) {
        match self.not_ready.or_later(status) {
            Ok(()) => self.ready_told(status),
            Err(reason) => self.manager.status(&reason),
        }
    }

    fn ready_told(&self, status: &str) {
        self.manager.ready(status);
        self.is_told_ready.send_replace(true);
    }

    /// Waits until the program is ready, for whoever started it.
    #[cfg(feature = "handover")]
    pub(crate) async fn until_told_ready(&self) {
        // Never closed: the sender is here.
        let _ = self.is_told_ready.subscribe().wait_for(|is_ready| *is_ready).await;
    }

    /// Sets why the program is not ready; `None` if it is.
    pub(crate) fn set_not_ready(&self, reason: Option<Cow<'static, str>>) {
        let program = self.program.as_deref().unwrap_or(self);
        if let Some(status) = program.not_ready.set(reason) {
            program.ready_told(&status);
        }
    }

    /// Every listener is bound.
    pub(crate) fn begin_to_serve(&self) {
        let lame_duck = lock(&self.lame_duck);
        self.advance(Phase::Serving);
        for shared in self.grouped() {
            shared.phase.set_lame_duck(*lame_duck);
        }
        self.phase.set_lame_duck(*lame_duck);
    }

    /// Sets whether the program is a lame duck while it serves. `None` means: the other of the two.
    pub(crate) fn set_lame_duck(&self, is_lame_duck: Option<bool>) {
        let program = self.program.as_deref().unwrap_or(self);
        let mut lame_duck = lock(&program.lame_duck);
        *lame_duck = is_lame_duck.unwrap_or(!*lame_duck);
        let (is_lame_duck, has_changed) = (*lame_duck, program.phase.set_lame_duck(*lame_duck));
        for grouped in program.grouped() {
            grouped.phase.set_lame_duck(is_lame_duck);
        }
        drop(lame_duck);
        if !has_changed {
            return;
        }
        if is_lame_duck {
            say!(program.log, info, {}, "lame duck: not ready, but still accepting");
            program.manager.status("lame duck");
        } else {
            say!(program.log, info, {}, "lame duck no more: ready for new clients");
            program.manager.status("serving");
        }
        // HTTP/2 clients are told; the others with their next response.
        program.work.wake();
    }

    /// Returns why the program wants no new requests, or `None` if it wants them. After the phase
    /// `last`, it never does.
    pub(crate) fn unready(&self, last: Phase) -> Option<Cow<'static, str>> {
        let program = self.program.as_deref().unwrap_or(self);
        match program.phase.now() {
            Phase::LameDuck => Some("lame duck".into()),
            phase if phase > last => Some("stopping".into()),
            _ => program.not_ready.reason(),
        }
    }

    pub(crate) fn propagation(&self) -> Propagation {
        self.propagation
    }

    pub(crate) fn work_of(&self, scope: Scope) -> &Arc<Work> {
        match scope {
            Scope::Program => &self.work,
            Scope::Cleanup => &self.cleanup.work,
        }
    }

    pub(crate) fn set_runtime(&self, runtime: Runtime) {
        // Set once, by the code that created this context.
        let _ = self.runtime.set(runtime);
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        let runtime = self.runtime.get();
        runtime.expect("a context is handed out only after its runtime has been set")
    }

    /// Spawns an internal task that nobody waits for. Boxed, because each type of future that tokio
    /// spawns costs about two thousand lines to compile.
    pub(crate) fn spawn_quietly(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(task);
        self.runtime().spawn(task);
    }

    pub(crate) fn runtime_of(&self, scope: Scope) -> &Runtime {
        match scope {
            Scope::Program => self.runtime(),
            Scope::Cleanup => self.cleanup.runtime().unwrap_or_else(|| self.runtime()),
        }
    }

    /// Starts the drain.
    pub(super) fn begin_drain(&self) {
        // Set once, and only here, together with the phase.
        let _ = self.drain_started.set(Instant::now());
        // In this order, so that work that ends because it has seen the phase counts as drained.
        self.work.begin_drain();
        self.phase.advance(Phase::Draining);
        self.work.wake();
    }

    /// Returns when `connection` is told of the drain; `None`: as soon as it has begun.
    pub(crate) fn goodbye(&self, connection: Fraction) -> Option<Instant> {
        if self.phase.now() != Phase::Draining {
            return None;
        }
        self.goodbyes.of(connection, *self.drain_started.get()?)
    }

    /// The same for the connection that the running task serves, if it does.
    pub(crate) fn goodbye_of_this_task(&self) -> Option<Instant> {
        self.goodbye(self.goodbyes.of_this_task()?)
    }

    /// Adds `turn`, which stops in the drain before all that were added earlier.
    pub(crate) fn add_turn(self: &Arc<Self>, turn: &Arc<impl OrderedStop + 'static>) {
        if self.turns.add(turn) {
            // This task does not hold the drain, but the groups that it stops do.
            let shared = self.clone();
            self.spawn_quietly(async move {
                shared.phase.reached(Phase::Draining).await;
                shared.turns.give().await;
            });
        }
    }

    /// Notes that the body of `main` has asked for a `Shutdown`, which tells it about the stop.
    pub(crate) fn note_main_asked(&self) {
        self.main_asked.store(true, Ordering::Relaxed);
    }

    /// Returns whether the body of `main` has ever asked for a `Shutdown`.
    pub(crate) fn main_has_asked(&self) -> bool {
        // Relaxed: written by the thread that polls `main`, and every decision is made on that
        // thread, too.
        self.main_asked.load(Ordering::Relaxed)
    }

    /// Notes a server that was dropped without being served.
    pub(crate) fn note_unserved(&self, server: String) {
        *lock(&self.unserved) = Some(server);
    }

    pub(crate) fn take_unserved(&self) -> Option<String> {
        lock(&self.unserved).take()
    }

    /// Returns the running work: that of the program, oldest first, then that of the hooks.
    pub(crate) fn in_flight(&self) -> Vec<InFlight> {
        let mut all = self.work.in_flight();
        let hook = self.hooks.running();
        all.extend(hook.map(|(line, age)| InFlight::Hook { name: line.to_string(), age }));
        all.append(&mut self.cleanup.work.in_flight());
        all
    }

    /// Returns whether there is work besides the program itself.
    pub(crate) fn has_work(&self) -> bool {
        !self.work.counts().is_nothing()
    }

    /// Sends an event to the sentinel. Once that has ended, events no longer matter.
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("phase", &self.phase.now())
            .field("work", &self.work)
            .finish_non_exhaustive()
    }
}

// How code finds its context, and which part of a run it belongs to.

/// How code finds its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// Through the threads of the runtime, which belong to the context.
    Threads,
    /// Through the futures of this crate, on the threads of another program.
    Futures,
}

/// The part of a run that code belongs to, which determines its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The program: until the limit of the drain.
    Program,
    /// The cleanup hooks: until the limit of the cleanup.
    Cleanup,
}

// State that belongs to the cleanup hooks alone.

pub(crate) struct Cleanup {
    /// Tasks that the hooks have spawned.
    pub(crate) work: Arc<Work>,
    pub(super) runtime: OnceLock<Runtime>,
    /// Whether the clock of the hooks' runtime is paused, as the program's is.
    #[cfg(feature = "test-util")]
    pub(crate) is_paused: std::sync::atomic::AtomicBool,
}

impl Cleanup {
    pub(super) fn new(log: Log) -> Self {
        Self {
            work: Arc::new(Work::new(log)),
            runtime: OnceLock::new(),
            #[cfg(feature = "test-util")]
            is_paused: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Returns the runtime of the hooks, once they run.
    pub(crate) fn runtime(&self) -> Option<&Runtime> {
        self.runtime.get()
    }
}

// Events for the sentinel.

#[derive(Debug)]
pub(crate) enum Event {
    /// The program asks for the drain.
    Stop,
    /// `main` or a server failed.
    Failed(Failure),
    /// `main` panicked.
    Panicked,
    /// `main` and every server have ended.
    Finished,
    /// The next version of the program serves.
    #[cfg(feature = "handover")]
    Upgraded(u32),
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A connection that moves to the next process needs no goodbye, but its handler has to hear of
    /// the drain, and soon.
    #[test]
    fn only_a_stop_without_a_next_process_spreads() {
        let shared = |upgraded| {
            let limits = Limits { spread: Duration::from_secs(600), ..Limits::NONE };
            let events = tokio::sync::mpsc::unbounded_channel().0;
            let (log, manager) = (Log::closed(), Manager::nobody());
            let shared = Shared::new(limits, Propagation::Futures, log, manager, events);
            assert!(shared.goodbye(Fraction::nth(1)).is_none(), "it serves");
            if upgraded {
                shared.goodbyes.are_at_once();
            }
            shared.begin_drain();
            shared
        };
        let stopped = shared(false);
        assert!(stopped.goodbye(Fraction::nth(1)).is_some());
        stopped.phase.advance(Phase::Sealed);
        assert!(stopped.goodbye(Fraction::nth(1)).is_none(), "it is cut");
        assert!(shared(true).goodbye(Fraction::nth(1)).is_none());
    }
}
