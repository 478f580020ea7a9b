//! The handle to a context: what the free functions act on.

use std::{borrow::Cow, fmt, future::Future, panic::Location, sync::Arc};

use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    current::{self, InContext},
    shutdown::Shutdown,
};
use crate::{
    log::Log,
    stop::{Event, Limits, Owns, Shared},
    work::{self, InFlight, Role, TaskName},
};

/// The context that the free functions ([`spawn`](crate::spawn), [`on_stop`](crate::on_stop),
/// [`shutdown`](crate::shutdown()), [`stop`](crate::stop), …) act on, in
/// explicit form: for threads that the runtime does not own, and for code that wants to be handed
/// what it uses.
///
/// Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    pub(crate) fn new(
        limits: Limits,
        owns: Owns,
        log: Log,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self(Arc::new(Shared::new(limits, owns, log, events, current::adopt)))
    }

    /// One whose phases a test advances by itself.
    #[cfg(test)]
    pub(crate) fn for_test(limits: Limits) -> Self {
        Self::new(limits, Owns::Nothing, Log::closed(), mpsc::unbounded_channel().0)
    }

    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        Self(shared.clone())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
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
    /// # Examples
    ///
    /// ```
    /// assert!(graceful::Handle::try_current().is_none());
    /// ```
    #[must_use]
    pub fn try_current() -> Option<Self> {
        current::current().map(Self)
    }

    /// As [`shutdown`](crate::shutdown()).
    pub fn shutdown(&self) -> Shutdown {
        Shutdown::new(self.0.clone())
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
        self.spawn_tracked(Role::Task, TaskName::Line(Location::caller()), future)
    }

    /// As [`spawn_named`](crate::spawn_named).
    pub fn spawn_named<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: F,
    ) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.spawn_tracked(Role::Task, TaskName::Text(name.into()), future)
    }

    /// Spawns in the scope of the calling code: what a hook spawns belongs to the cleanup.
    pub(crate) fn spawn_tracked<F>(
        &self,
        role: Role,
        name: TaskName,
        future: F,
    ) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let scope = current::scope();
        let future = InContext::new(&self.0, future);
        work::spawn(self.0.work_of(scope), self.0.runtime_of(scope), role, name, future)
    }

    /// As [`spawn_blocking`](crate::spawn_blocking).
    #[track_caller]
    pub fn spawn_blocking<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let scope = current::scope();
        let name = TaskName::Line(Location::caller());
        let shared = self.0.clone();
        let f = move || {
            let _entered = current::enter(shared);
            f()
        };
        work::spawn_blocking(self.0.work_of(scope), self.0.runtime_of(scope), name, f)
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

    /// Has the certificates of [`Server::tls_files`](crate::Server::tls_files) read again at the
    /// next handshake, without waiting for the change to be seen.
    #[cfg(feature = "tls")]
    pub fn reload_tls(&self) {
        self.0.reload_tls();
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

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("phase", &self.0.phase.now())
            .field("work", &self.0.work)
            .finish_non_exhaustive()
    }
}
