//! The handle to a context, and the free functions that spawn.

use std::{
    borrow::Cow,
    fmt,
    future::{Future, poll_fn},
    panic::Location,
    sync::Arc,
};

use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    current::{self, InContext},
    group::TaskGroup,
    shutdown::Shutdown,
};
use crate::{
    log::Log,
    manager::Manager,
    stop::{Event, Limits, Listening, Phase, Propagation, Shared},
    util::{Failure, Outcome, Sealed, panic_message, poll_catching_panics},
    work::{self, InFlight, Role, TaskName},
};

#[cfg(feature = "tokio-util")]
use crate::util::{First, race};

/// An explicit handle to the context that the free functions ([`spawn`](crate::spawn),
/// [`on_stop`](crate::on_stop), [`shutdown`](crate::shutdown()), [`stop`](crate::stop), …) act on:
/// for threads that the runtime does not own, and for code that prefers explicit dependencies.
///
/// It is cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    pub(crate) fn new(
        limits: Limits,
        propagation: Propagation,
        log: Log,
        manager: Manager,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self(Arc::new(Shared::new(limits, propagation, log, manager, events)))
    }

    /// Creates a handle for a test that advances the phases itself.
    #[cfg(test)]
    pub(crate) fn for_test(limits: Limits) -> Self {
        let events = mpsc::unbounded_channel().0;
        Self::new(limits, Propagation::Futures, Log::closed(), Manager::nobody(), events)
    }

    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        Self(shared.clone())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// The program's context, if this is that of one of its servers.
    fn program(&self) -> &Arc<Shared> {
        self.0.program()
    }

    /// Returns the handle of the context that this code runs in.
    ///
    /// # Panics
    ///
    /// Panics if called outside of a context. [`try_current`](Self::try_current) returns `None`
    /// instead.
    #[must_use]
    #[track_caller]
    pub fn current() -> Self {
        Self(current::expect_current())
    }

    /// Returns the handle of the context that this code runs in, if there is one.
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

    /// See [`shutdown`](crate::shutdown()).
    pub fn shutdown(&self) -> Shutdown {
        Shutdown::new(self.0.clone())
    }

    /// See [`stopping`](crate::stopping).
    pub fn stopping(&self) -> Shutdown {
        Shutdown::stopping(self.program().clone())
    }

    /// See [`cancellation_token`](crate::cancellation_token).
    #[cfg(feature = "tokio-util")]
    #[must_use]
    pub fn cancellation_token(&self) -> tokio_util::sync::CancellationToken {
        let token = tokio_util::sync::CancellationToken::new();
        let (shutdown, told) = (self.shutdown(), token.clone());
        self.0.spawn_quietly(async move {
            // The program may cancel it earlier.
            if let First::Left(()) = race(shutdown, told.cancelled()).await {
                told.cancel();
            }
        });
        token
    }

    /// See [`stop`](crate::stop).
    pub fn stop(&self) {
        self.0.tell(Event::Stop);
    }

    /// See [`spawn`](crate::spawn).
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.spawn_tracked(Role::Task, TaskName::Line(Location::caller()), future)
    }

    /// See [`spawn_named`](crate::spawn_named).
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

    /// Spawns in the scope of the calling code: a task that a hook spawns belongs to the cleanup.
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
        let runtime = self.0.runtime_of(scope);
        let future = InContext::new(&self.0, future);
        work::spawn(self.0.work_of(scope), role, name, future, |task| runtime.spawn(task)).0
    }

    /// See [`spawn_local`](crate::spawn_local).
    #[track_caller]
    pub fn spawn_local<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: 'static> + 'static,
    {
        let name = TaskName::Line(Location::caller());
        let future = InContext::new(&self.0, future);
        work::spawn(&self.0.work, Role::Task, name, future, tokio::task::spawn_local).0
    }

    /// See [`spawn_critical`](crate::spawn_critical).
    pub fn spawn_critical<F, O>(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: F,
    ) -> JoinHandle<()>
    where
        F: Future<Output: Outcome<O>> + Send + 'static,
        O: 'static,
    {
        let name = name.into();
        let future = run_critical(self.0.clone(), name.clone().into_owned(), future);
        self.spawn_tracked(Role::Task, TaskName::Text(name), future)
    }

    /// See [`TaskGroup::new`].
    #[must_use]
    pub fn task_group(&self, name: impl Into<Cow<'static, str>>) -> TaskGroup {
        TaskGroup::with(self.program().clone(), name.into())
    }

    /// See [`spawn_blocking`](crate::spawn_blocking).
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

    /// See [`on_stop`](crate::on_stop).
    #[track_caller]
    pub fn on_stop<O>(&self, future: impl Future<Output: Outcome<O>> + Send + 'static) {
        self.program().hooks.push(Location::caller(), async { future.await.outcome(Sealed) });
    }

    /// See [`on_ready`](crate::on_ready).
    #[track_caller]
    pub fn on_ready<F, Fut>(&self, f: F)
    where
        F: FnOnce(Listening) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (shared, name) = (self.program().clone(), TaskName::Line(Location::caller()));
        self.program().ready.call(Box::new(move |listening| {
            // Calls `f` inside the task, so that its panic is caught.
            drop(current::spawn(&shared, name, async { f(listening).await }));
        }));
    }

    /// See [`keep`](crate::keep).
    pub fn keep(&self, value: impl Send + 'static) {
        self.program().kept.push(value);
    }

    /// Sets whether the program wants new requests, as reported by the
    /// [`readiness`](crate::Server::readiness) path and by [`Server::probes`](crate::Server). From
    /// the first stop signal on, they report that it does not, whatever is set here. Default: it
    /// does.
    ///
    /// systemd receives `READY=1` only once the program is ready in this sense, too. A `main` that
    /// has to prepare something first calls this with `Err` in its first line, and with `Ok` when
    /// it is done.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let running = graceful::Config::new().start(()).await.unwrap();
    /// # let handle = running.handle();
    /// handle.ready(Err("the cache is cold"));
    /// // … fill it …
    /// handle.ready(Ok(()));
    /// # running.stop().await;
    /// # }
    /// ```
    pub fn ready(&self, ready: Result<(), &str>) {
        self.0.set_not_ready(ready.err().map(|reason| Cow::Owned(reason.to_owned())));
    }

    /// Takes the program out of service without stopping it, or back into it: `true` makes it a
    /// lame duck, `false` ends that. For maintenance, or to move load away and look at a process.
    ///
    /// A lame duck reports that it is not ready, says `Connection: close` in each HTTP/1 response,
    /// and sends GOAWAY to HTTP/2 clients, whose requests are answered first. It still accepts, and
    /// nothing else ends: WebSockets and connections of [`listen`](crate::listen) stay, and so do
    /// idle HTTP/1 connections until their next response. A stop goes on from there as from any
    /// other state; called during a stop, this changes nothing.
    ///
    /// [`Config::lame_duck`](crate::Config::lame_duck) does the same by signals.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let running = graceful::Config::new().start(()).await.unwrap();
    /// # let handle = running.handle();
    /// handle.lame_duck(true);
    /// // … look at it, while its clients go elsewhere …
    /// handle.lame_duck(false);
    /// # running.stop().await;
    /// # }
    /// ```
    pub fn lame_duck(&self, is_lame_duck: bool) {
        self.0.set_lame_duck(Some(is_lame_duck));
    }

    /// Notes that the figures of this process are being read, on a page of your own: during a stop,
    /// the process need not stay any longer for that ([`Config::scrape`](crate::Config::scrape)).
    /// Before the drain is over, this has no effect. To be called where the figures are rendered;
    /// the answer that has them is still delivered, if its server runs
    /// [until the exit](crate::Serve::until_exit).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn render() -> String { String::new() }
    /// async fn metrics() -> String {
    ///     graceful::Handle::current().scraped();
    ///     render()
    /// }
    /// ```
    pub fn scraped(&self) {
        self.program().final_figures.note_scraped();
    }

    /// Returns the handle of a new context, for a server that keeps running while the program
    /// stops.
    pub(crate) fn out_of_band(&self) -> Self {
        Self(self.0.out_of_band())
    }

    /// Returns whether the first stop signal has arrived, for readiness probes.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.program().phase.is_stopping()
    }

    /// Returns the running work that a stop would wait for: requests, connections, tasks, servers
    /// and `main`, oldest first; then the running cleanup hook, and the tasks that hooks have
    /// spawned. For a status page or a log line; takes the locks of the table for a moment.
    #[must_use]
    pub fn in_flight(&self) -> Vec<InFlight> {
        self.program().in_flight()
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

// Tasks that the program cannot do without.

/// Runs `future`, and stops the program if it fails, or if it ends before the drain has begun.
pub(super) fn run_critical<O>(
    shared: Arc<Shared>,
    name: String,
    future: impl Future<Output: Outcome<O>>,
) -> impl Future<Output = ()> {
    // Created here, because a task that is aborted before its first poll has ended, too.
    guarded(Alarm { shared, name, armed: true }, future)
}

async fn guarded<O>(mut alarm: Alarm, future: impl Future<Output: Outcome<O>>) {
    let mut future = std::pin::pin!(future);
    let failure = match poll_fn(|cx| poll_catching_panics(|| future.as_mut().poll(cx))).await {
        Ok(outcome) => match outcome.outcome(Sealed) {
            // The alarm reports it, if there is anything to report.
            Ok(()) => return,
            Err(failure) => failure,
        },
        Err(panic) => Failure::new(format!("panicked: {}", panic_message(&*panic))),
    };
    alarm.fail(failure);
}

/// Goes off when the task ends in any way, including an abort.
struct Alarm {
    shared: Arc<Shared>,
    name: String,
    armed: bool,
}

impl Alarm {
    fn fail(&mut self, failure: Failure) {
        self.armed = false;
        let failure = failure.context(&format!("task {}", self.name));
        self.shared.tell(Event::Failed(failure));
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.armed && self.shared.phase.now() < Phase::Draining {
            self.fail(Failure::new("has ended, and the program cannot do without it"));
        }
    }
}

// The free functions that spawn work that the drain waits for.

/// Spawns a task that the drain waits for, as a `sync.WaitGroup` does in Go.
///
/// Messages name the task by the line of this call. It may spawn more tasks during the drain. The
/// limit aborts it, as [`JoinHandle::abort`] does. A panic is logged, and returned by the handle.
///
/// A task of [`tokio::spawn`] is *not* waited for.
///
/// # Panics
///
/// Panics if called outside of a context, like [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// # async fn send_mail() {}
/// # async fn handler() -> &'static str {
/// graceful::spawn(send_mail());
/// "accepted"
/// # }
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    Handle::current().spawn(future)
}

/// Like [`spawn`], with a name for messages instead of the caller's line.
///
/// # Panics
///
/// Panics if called outside of a context, like [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// # async fn rebuild() {}
/// # async fn handler() {
/// graceful::spawn_named("rebuild the index", rebuild());
/// # }
/// ```
#[track_caller]
pub fn spawn_named<F>(name: impl Into<Cow<'static, str>>, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    Handle::current().spawn_named(name, future)
}

/// Spawns a task that the program cannot do without: if it ends before a stop, fails or panics, the
/// program stops gracefully, with the exit code 1.
///
/// The drain waits for it, as for a task of [`spawn`]. It should finish when the drain starts,
/// which it learns from [`shutdown()`](crate::shutdown()). The future's output is `()` or
/// `Result<(), E>`. An abort counts as an end, too.
///
/// # Panics
///
/// Panics if called outside of a context, like [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// # async fn consume(_: graceful::Shutdown) -> std::io::Result<()> { Ok(()) }
/// #[graceful::main]
/// async fn main() -> impl graceful::Serve {
///     graceful::spawn_critical("orders", consume(graceful::shutdown()));
///     graceful::serve_fn(|shutdown| shutdown)
/// }
/// ```
#[track_caller]
pub fn spawn_critical<F, O>(name: impl Into<Cow<'static, str>>, future: F) -> JoinHandle<()>
where
    F: Future<Output: Outcome<O>> + Send + 'static,
    O: 'static,
{
    Handle::current().spawn_critical(name, future)
}

/// Like [`spawn`], for a future that is not `Send`, on the thread of the caller.
///
/// # Panics
///
/// Panics if called outside of a context, like [`Handle::current`], and where
/// [`tokio::task::spawn_local`] panics: outside of `flavor = "local"` and of a `LocalSet`.
///
/// # Examples
///
/// ```
/// #[graceful::main(flavor = "local")]
/// async fn main() {
///     let shared = std::rc::Rc::new(1);
///     graceful::spawn_local(async move { println!("{shared}") });
/// }
/// ```
#[track_caller]
pub fn spawn_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: 'static> + 'static,
{
    Handle::current().spawn_local(future)
}

/// Runs a blocking closure on a thread where blocking is acceptable; the drain waits for it.
///
/// Nothing can abort it: at the limit, it is named in the report and left behind until the process
/// ends.
///
/// # Panics
///
/// Panics if called outside of a context, like [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// # fn compress() {}
/// # async fn handler() {
/// graceful::spawn_blocking(|| compress());
/// # }
/// ```
#[track_caller]
pub fn spawn_blocking<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Handle::current().spawn_blocking(f)
}

// A server that was created and then dropped, for example by a stray semicolon.

/// Part of each server. If dropped before the server is bound, it leaves a note, for a program that
/// then ends with nothing to serve.
pub(crate) struct Unserved(Option<String>);

impl Unserved {
    pub(crate) fn new(server: &impl std::fmt::Display) -> Self {
        Self(Some(server.to_string()))
    }

    /// Marks the server as used.
    pub(crate) fn served(mut self) {
        self.0 = None;
    }
}

impl Drop for Unserved {
    fn drop(&mut self) {
        if let (Some(server), Some(handle)) = (self.0.take(), Handle::try_current()) {
            handle.shared().note_unserved(server);
        }
    }
}
