//! The state of one context: the sentinel drives it, everything else looks at it.

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
    runtime::{Handle as Runtime, Handle as RuntimeHandle},
    sync::mpsc,
};

use super::{
    hooks::Hooks,
    hooks::Kept,
    limits::Limits,
    order::{OrderedStop, StopOrder},
    phase::{Phase, PhaseCell},
    ready::NotReady,
    ready::WhenReady,
};
use crate::{
    log::Log,
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
    pub(crate) turns: StopOrder,
    propagation: Propagation,
    /// The program, for a server that stands apart from its stop.
    program: Option<Arc<Shared>>,
    /// The servers that stand apart from the stop of this.
    out_of_band: Mutex<Vec<Weak<Shared>>>,
    /// Whether the body of `main` has ever asked for a `Shutdown`.
    main_asked: AtomicBool,
    /// The latest server that was dropped without being served.
    unserved: Mutex<Option<String>>,
    /// When the drain has started. The sentinel sets it once, before the phase says so.
    pub(crate) drain_started: OnceLock<Instant>,
    /// Callbacks that reload files when the program asks for it.
    #[cfg(feature = "tls")]
    reloads: Mutex<Vec<Box<dyn Fn() + Send>>>,
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
            turns: StopOrder::new(),
            propagation,
            program: None,
            out_of_band: Mutex::new(Vec::new()),
            main_asked: AtomicBool::new(false),
            unserved: Mutex::new(None),
            drain_started: OnceLock::new(),
            #[cfg(feature = "tls")]
            reloads: Mutex::new(Vec::new()),
            cleanup: Cleanup::new(log.clone()),
            log,
            manager,
            events,
            runtime: OnceLock::new(),
        }
    }

    /// A context of its own for a server that goes on while the program stops: what it does is not
    /// waited for, and it ends when all else is over.
    pub(crate) fn out_of_band(self: &Arc<Self>) -> Arc<Self> {
        let program = self.program();
        let (limits, log, events) = (program.limits, program.log.clone(), program.events.clone());
        let out_of_band = Self::new(limits, program.propagation, log, Manager::nobody(), events);
        let out_of_band = Arc::new(Self { program: Some(program.clone()), ..out_of_band });
        out_of_band.set_runtime(program.runtime().clone());
        lock(&program.out_of_band).push(Arc::downgrade(&out_of_band));
        out_of_band
    }

    /// As `Work::sweep`, of the servers that stand out of band.
    #[cfg(feature = "http1")]
    pub(super) fn sweep_out_of_band(&self, idle: std::time::Duration) -> bool {
        let all: Vec<_> = lock(&self.out_of_band).iter().filter_map(Weak::upgrade).collect();
        all.iter().fold(false, |left, it| it.work.sweep(idle) | left)
    }

    /// Ends the servers that stand out of band.
    pub(super) fn end_out_of_band(&self) {
        for out_of_band in std::mem::take(&mut *lock(&self.out_of_band)) {
            if let Some(out_of_band) = out_of_band.upgrade() {
                out_of_band.phase.advance(Phase::Over);
                out_of_band.work.seal();
                out_of_band.work.cut();
            }
        }
    }

    /// The program's context, also for a server that is out of band.
    pub(crate) fn program(self: &Arc<Self>) -> &Arc<Self> {
        self.program.as_ref().unwrap_or(self)
    }

    /// The service manager is told that the program is ready, which is `status`: now, or once the
    /// program says so.
    pub(crate) fn tell_ready(&self, status: &str) {
        match self.not_ready.or_later(status) {
            Ok(()) => self.manager.ready(status),
            Err(reason) => self.manager.status(&reason),
        }
    }

    /// The program says whether it is ready.
    pub(crate) fn set_not_ready(&self, reason: Option<Cow<'static, str>>) {
        let program = self.program.as_deref().unwrap_or(self);
        if let Some(status) = program.not_ready.set(reason) {
            program.manager.ready(&status);
        }
    }

    /// Why the program wants no new requests; `None`: it does, up to the phase `last`.
    pub(crate) fn unready(&self, last: Phase) -> Option<Cow<'static, str>> {
        let program = self.program.as_deref().unwrap_or(self);
        match program.phase.now() {
            phase if phase > last => Some("stopping".into()),
            _ => program.not_ready.reason(),
        }
    }

    pub(crate) fn propagation(&self) -> Propagation {
        self.propagation
    }

    /// Returns the table of this scope.
    pub(crate) fn work_of(&self, scope: Scope) -> &Arc<Work> {
        match scope {
            Scope::Program => &self.work,
            Scope::Cleanup => &self.cleanup.work,
        }
    }

    pub(crate) fn set_runtime(&self, runtime: Runtime) {
        // Set once, by the code that made this context.
        let _ = self.runtime.set(runtime);
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        let runtime = self.runtime.get();
        runtime.expect("a context is handed out only after its runtime has been set")
    }

    /// Spawns a task of this crate's own that nobody waits for. Boxed: each type of future that
    /// tokio spawns is some two thousand lines to compile.
    pub(crate) fn spawn_quietly(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(task);
        self.runtime().spawn(task);
    }

    /// Returns the runtime of this scope's tasks.
    pub(crate) fn runtime_of(&self, scope: Scope) -> &Runtime {
        match scope {
            Scope::Program => self.runtime(),
            Scope::Cleanup => self.cleanup.runtime().unwrap_or_else(|| self.runtime()),
        }
    }

    /// Moves on to the drain, for everything that looks.
    pub(super) fn begin_drain(&self) {
        // Set once: this is the only place, and it comes with the phase.
        let _ = self.drain_started.set(Instant::now());
        // In this order: what ends because it has seen the phase counts as drained.
        self.work.begin_drain();
        self.phase.advance(Phase::Draining);
        self.work.wake();
    }

    /// Stops `turn` in the drain before all that were added before it.
    pub(crate) fn add_turn(self: &Arc<Self>, turn: &Arc<impl OrderedStop + 'static>) {
        if self.turns.add(turn) {
            // Holds no drain: what has its turn does.
            let shared = self.clone();
            self.spawn_quietly(async move {
                shared.phase.reached(Phase::Draining).await;
                shared.turns.give().await;
            });
        }
    }

    /// The body of `main` has asked for a `Shutdown`, from which it learns of the stop by itself.
    pub(crate) fn note_main_asked(&self) {
        self.main_asked.store(true, Ordering::Relaxed);
    }

    /// Whether it ever has.
    pub(crate) fn main_has_asked(&self) -> bool {
        // Relaxed: written by the thread that polls `main`, and read there where it decides
        // anything.
        self.main_asked.load(Ordering::Relaxed)
    }

    /// A server was dropped without being served.
    pub(crate) fn note_unserved(&self, server: String) {
        *lock(&self.unserved) = Some(server);
    }

    pub(crate) fn take_unserved(&self) -> Option<String> {
        lock(&self.unserved).take()
    }

    /// Calls `reload` whenever the program asks for files to be read again. It returns at once.
    #[cfg(feature = "tls")]
    pub(crate) fn on_reload(&self, reload: Box<dyn Fn() + Send>) {
        let program = self.program.as_deref().unwrap_or(self);
        lock(&program.reloads).push(reload);
    }

    /// Rereads certificates that came from files.
    #[cfg(feature = "tls")]
    pub(crate) fn reload_tls(&self) {
        let program = self.program.as_deref().unwrap_or(self);
        lock(&program.reloads).iter().for_each(|reload| reload());
        // Else it is not ready yet, or stops: there is nothing that could be said to go on.
        if self.phase.now() == Phase::Serving {
            self.manager.reloads();
        }
    }

    /// Returns what runs now: the program's work, the oldest first, then that of the hooks.
    pub(crate) fn in_flight(&self) -> Vec<InFlight> {
        let mut all = self.work.in_flight();
        let hook = self.hooks.running();
        all.extend(hook.map(|(line, age)| InFlight::Hook { name: line.to_string(), age }));
        all.append(&mut self.cleanup.work.in_flight());
        all
    }

    /// Whether there is work besides the program itself.
    pub(crate) fn has_work(&self) -> bool {
        !self.work.counts().is_nothing()
    }

    /// Tells the sentinel. One that has ended has nothing left to do with it.
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
    /// The threads of the runtime, which belong to the context.
    Threads,
    /// The futures of this crate, on the threads of another program.
    Futures,
}

/// Which part of the life of a process a piece of code belongs to, and with it the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The program: until the limit of the drain.
    Program,
    /// The cleanup hooks: until theirs.
    Cleanup,
}

// State that belongs to the cleanup hooks alone.

pub(crate) struct Cleanup {
    /// Tasks they have spawned.
    pub(crate) work: Arc<Work>,
    pub(super) runtime: OnceLock<RuntimeHandle>,
    /// A runtime whose clock is paused, as the program's is.
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

    /// Once the hooks run.
    pub(crate) fn runtime(&self) -> Option<&RuntimeHandle> {
        self.runtime.get()
    }
}

// Events for the sentinel.

#[derive(Debug)]
pub(crate) enum Event {
    /// The program calls for the drain.
    Stop,
    /// `main` or a server failed.
    Failed(Failure),
    /// `main` panicked.
    Panicked,
    /// `main` and every server have come to an end.
    Finished,
}
