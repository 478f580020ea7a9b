//! The handle to a context: what the free functions act on.

use std::{
    fmt,
    future::Future,
    panic::Location,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    context,
    hooks::Hooks,
    in_flight::InFlight,
    limits::Limits,
    log::Log,
    phase::PhaseCell,
    registry::Key,
    sentinel::Event,
    shutdown::Shutdown,
    task::{self, Name, Role},
    work::{Kind, Work},
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
    /// How many `Shutdown`s the body of `main` holds.
    pub(crate) main_holds: AtomicUsize,
    /// When the drain has started.
    pub(crate) drain_started: OnceLock<Instant>,
    /// What ended by itself while the drain was under way.
    pub(crate) drained: Drained,
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

#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) connections: AtomicUsize,
    pub(crate) requests: AtomicUsize,
    pub(crate) tasks: AtomicUsize,
}

impl Shared {
    /// Takes a finished piece of work off the table.
    pub(crate) fn finished(&self, key: Key, kind: Kind) {
        if self.phase.drains() {
            match kind {
                Kind::Connection => self.drained.connections.fetch_add(1, Ordering::Relaxed),
                Kind::Task => self.drained.tasks.fetch_add(1, Ordering::Relaxed),
                Kind::Other => 0,
            };
        }
        self.work.remove(key);
    }

    /// A request has been answered to its end.
    #[cfg(feature = "http")]
    pub(crate) fn request_drained(&self) {
        if self.phase.drains() {
            self.drained.requests.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells the sentinel. One that is gone has nothing left to do with it.
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

impl Handle {
    pub(crate) fn new(limits: Limits, owns: Owns, events: mpsc::UnboundedSender<Event>) -> Self {
        Self(Arc::new(Shared {
            limits,
            phase: PhaseCell::new(),
            work: Work::new(),
            hooks: Hooks::default(),
            log: Log::new(owns == Owns::Process),
            owns_threads: owns != Owns::Nothing,
            main_holds: AtomicUsize::new(0),
            drain_started: OnceLock::new(),
            drained: Drained::default(),
            events,
            runtime: OnceLock::new(),
        }))
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
        self.0.work.in_flight()
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
