//! The handle to a context: what the free functions act on.

use std::{
    fmt,
    future::Future,
    panic::Location,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    cleanup::Cleanup,
    context::{self, Place},
    hooks::Hooks,
    in_flight::InFlight,
    limits::Limits,
    log::Log,
    phase::{Phase, PhaseCell},
    registry::Key,
    sentinel::Event,
    shutdown::Shutdown,
    sync::{Mutex, lock},
    task::{self, Name, Role},
    work::{Drained, Kind, Work},
};

/// The context that the free functions ([`spawn`](crate::spawn), [`on_stop`](crate::on_stop),
/// [`shutdown`](crate::shutdown()), [`stop`](crate::stop), …) act on, in
/// explicit form: for threads that the runtime does not own, and for code that wants to be handed
/// what it uses.
///
/// Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

/// All state of one context. The sentinel drives it, everything else looks at it.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) phase: PhaseCell,
    pub(crate) work: Work,
    pub(crate) hooks: Hooks,
    pub(crate) log: Log,
    /// Whether the runtime's threads carry the context (`Config::run`), or our futures have to.
    pub(crate) owns_threads: bool,
    /// Whether the body of `main` has ever asked for a `Shutdown`.
    pub(crate) main_asked: AtomicBool,
    /// The latest server that was dropped without being served.
    unserved: Mutex<Option<String>>,
    /// When the drain has started.
    pub(crate) drain_started: OnceLock<Instant>,
    /// What ended by itself while the drain was under way.
    pub(crate) drained: Drained,
    /// What the cleanup hooks have to themselves.
    pub(crate) cleanup: Cleanup,
    events: mpsc::UnboundedSender<Event>,
    runtime: OnceLock<tokio::runtime::Handle>,
}

/// What of the process belongs to a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owns {
    /// All: its signals, its stderr, its end.
    Process,
    /// The threads of the runtime.
    Threads,
    /// Nothing: it is a guest.
    Nothing,
}

impl Shared {
    /// Takes a finished piece of work off the table.
    pub(crate) fn finished(&self, key: Key, kind: Kind) {
        if self.phase.drains() {
            match kind {
                Kind::Connection => self.drained.connections.fetch_add(1, Ordering::Relaxed),
                Kind::Task => self.drained.tasks.fetch_add(1, Ordering::Relaxed),
                Kind::Server | Kind::Main => 0,
            };
        }
        self.work.remove(key);
    }

    /// Where work of this place is listed.
    pub(crate) fn work_of(&self, place: Place) -> &Work {
        match place {
            Place::Program => &self.work,
            Place::Cleanup => &self.cleanup.work,
        }
    }

    /// Whether the limit of this place is reached: what runs there is cut, and what would begin is turned away.
    pub(crate) fn is_cut(&self, place: Place) -> bool {
        let cut = match place {
            Place::Program => Phase::Sealed,
            Place::Cleanup => Phase::Over,
        };
        self.phase.now() >= cut
    }

    /// A request has been answered to its end. Returns whether that was too late: at the limit.
    #[cfg(feature = "http")]
    pub(crate) fn request_drained(&self) -> bool {
        match self.phase.now() {
            Phase::Starting | Phase::Serving | Phase::Stopping => false,
            Phase::Draining | Phase::Cleanup => {
                self.drained.requests.fetch_add(1, Ordering::Relaxed);
                false
            }
            Phase::Sealed | Phase::Cut | Phase::Over => true,
        }
    }

    /// Whether the body of `main` has ever asked for a `Shutdown`, from which it learns of the stop by itself.
    pub(crate) fn main_has_asked(&self) -> bool {
        // Relaxed: written by the thread that polls `main`, and read there where it decides anything.
        self.main_asked.load(Ordering::Relaxed)
    }

    /// A server was dropped without being served.
    pub(crate) fn note_unserved(&self, server: String) {
        *lock(&self.unserved) = Some(server);
    }

    pub(crate) fn unserved(&self) -> Option<String> {
        lock(&self.unserved).take()
    }

    /// Whether anybody is waited for but the program itself.
    pub(crate) fn has_work(&self) -> bool {
        !self.work.counts().is_nothing()
    }

    /// Tells the sentinel. One that is gone has nothing left to do with it.
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

impl Handle {
    pub(crate) fn new(
        limits: Limits,
        owns: Owns,
        log: Log,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self(Arc::new(Shared {
            limits,
            phase: PhaseCell::new(),
            work: Work::new(),
            hooks: Hooks::default(),
            log,
            owns_threads: owns != Owns::Nothing,
            main_asked: AtomicBool::new(false),
            unserved: Mutex::new(None),
            drain_started: OnceLock::new(),
            drained: Drained::default(),
            cleanup: Cleanup::default(),
            events,
            runtime: OnceLock::new(),
        }))
    }

    /// One whose phases a test advances by itself.
    #[cfg(test)]
    pub(crate) fn for_test(limits: Limits) -> Self {
        Self::new(limits, Owns::Nothing, Log::closed(), mpsc::unbounded_channel().0)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    pub(crate) fn set_runtime(&self, runtime: tokio::runtime::Handle) {
        // Set once, by whoever made this handle.
        let _ = self.0.runtime.set(runtime);
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        let runtime = self.0.runtime.get();
        runtime.expect("the handle is handed out only after its runtime has been set")
    }

    /// Where a task of this place runs.
    pub(crate) fn runtime_of(&self, place: Place) -> &tokio::runtime::Handle {
        match place {
            Place::Program => self.runtime(),
            Place::Cleanup => self.0.cleanup.runtime().unwrap_or_else(|| self.runtime()),
        }
    }

    /// The handle of the context that this code runs in.
    ///
    /// # Panics
    ///
    /// Outside of a context. [`try_current`](Self::try_current) is the form that does not.
    #[must_use]
    #[track_caller]
    pub fn current() -> Self {
        Self::try_current().expect(
            "no graceful context here: this runs neither under `#[graceful::main]`, nor in a server \
             or a task of `graceful::spawn` under `Config::start`; on a thread of your own, move a \
             `graceful::Handle` in",
        )
    }

    /// The handle of the context that this code runs in, if there is one.
    ///
    /// ```
    /// assert!(graceful::Handle::try_current().is_none());
    /// ```
    #[must_use]
    pub fn try_current() -> Option<Self> {
        context::current()
    }

    /// As [`shutdown`](crate::shutdown()).
    pub fn shutdown(&self) -> Shutdown {
        Shutdown::new(self.clone())
    }

    /// As [`stop`](crate::stop).
    pub fn stop(&self) {
        self.0.tell(Event::Stop);
    }

    /// As [`spawn`](crate::spawn).
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        task::spawn(self, Role::Task, Name::Line(Location::caller()), future)
    }

    /// As [`spawn_named`](crate::spawn_named).
    pub fn spawn_named<F>(
        &self,
        name: impl Into<std::borrow::Cow<'static, str>>,
        future: F,
    ) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        task::spawn(self, Role::Task, Name::Text(name.into()), future)
    }

    /// As [`spawn_blocking`](crate::spawn_blocking).
    #[track_caller]
    pub fn spawn_blocking<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        task::spawn_blocking(self, Name::Line(Location::caller()), f)
    }

    /// As [`on_stop`](crate::on_stop).
    #[track_caller]
    pub fn on_stop(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.hooks.push(Location::caller(), future);
    }

    /// Whether the first stop signal has come: what a readiness probe wants to know.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.phase.is_stopping()
    }

    /// What runs now and would be waited for: requests, connections, tasks, servers, `main`; the
    /// oldest first. For a status page or a log line; takes the locks of the table for a moment.
    #[must_use]
    pub fn in_flight(&self) -> Vec<InFlight> {
        let mut all = self.0.work.in_flight();
        all.append(&mut self.0.cleanup.work.in_flight());
        all
    }
}

impl From<Arc<Shared>> for Handle {
    fn from(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("phase", &self.0.phase.now())
            .field("work", &self.0.work)
            .finish_non_exhaustive()
    }
}
