//! `Config::run`: the process from its first line to its exit code.

use std::{
    any::Any,
    future::{Future, pending, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    builder::{AnyRuntime, Config},
    launch::{Surroundings, cannot_install},
    preflight,
};
#[cfg(feature = "handover")]
use crate::handover::Handover;
use crate::{
    context::{self, Handle, as_main},
    log::{Log, say},
    manager::Manager,
    serve::{BodyKind, Main, Servers, launch},
    stop::{Ended, Event, Exit, Phase, Propagation, Report, Shared, teardown},
    util::{Failure, First, Sealed, poll_catching_panics, race, threads},
    work::{InFlight, Key, WorkItem, WorkKind},
};

impl Config {
    /// Runs `main` and whatever it returns until that has been drained. Installs the signal
    /// handlers, builds the runtime, and owns the process from then on.
    ///
    /// [`Main`] lists the possible return types of `main`. Its future runs on this thread and need
    /// not be `Send`; servers run on the worker threads.
    ///
    /// The time from the first stop signal to the return of this function (or to the end of the
    /// process, if this thread is stuck) is at most `delay + timeout + cleanup`, plus 50 ms for the
    /// steps in between: 10 ms to drop the work that was cut (twice, if hooks were cut as well),
    /// 15 ms for the last message, and 15 ms for this thread (plus 15 ms to report that a value of
    /// [`keep`](crate::keep) is left behind). Returned from `main`, the [`Exit`] extends this bound
    /// to the end of the process, with 15 ms more. Only a program that is stuck in one of these
    /// steps uses up its time.
    ///
    /// Once this function has returned, the signals have their default actions again, except within
    /// 200 ms of the first stop signal. There is no limit on code that runs after it.
    ///
    /// On Linux, signals that were ignored when the process started (`nohup`, `trap ''`) stay
    /// ignored. Signals that were blocked are unblocked.
    ///
    /// Failures, including those to install a handler or to build the runtime, are printed and
    /// become the exit code; see the table at [`Exit`].
    ///
    /// # Panics
    ///
    /// Panics if called from within a tokio runtime. Use [`start`](Self::start) there.
    ///
    /// # Examples
    ///
    /// ```
    /// let exit = graceful::Config::new().run(async || {
    ///     graceful::on_stop(async { println!("cleaned up") });
    /// });
    /// assert_eq!(exit.code(), 0);
    /// ```
    #[track_caller]
    pub fn run<F, Fut, Via>(self, main: F) -> Exit
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output: Main<Via>>,
    {
        outside_of_a_runtime();
        let settings = self.runtime.clone();
        let build = Box::new(move |shared: &_| settings.build(shared));
        self.run_by(Propagation::Threads, build, BoxedMain::new(main))
    }

    /// Like [`run`](Self::run), but on a runtime that was built by other code, which this method
    /// consumes. The runtime settings of this `Config` do not apply.
    ///
    /// The free functions ([`spawn`](crate::spawn), [`shutdown`](crate::shutdown), …) work in
    /// `main`, in the handlers of servers and in tasks spawned through this crate. They do not work
    /// in tasks of `tokio::spawn`, because the threads do not belong to this crate; use a
    /// [`Handle`] there.
    ///
    /// # Panics
    ///
    /// Panics if called from within a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    /// let exit = graceful::Config::new().run_on(runtime, async || {
    ///     graceful::spawn(async { println!("waited for") });
    /// });
    /// assert_eq!(exit.code(), 0);
    /// ```
    #[track_caller]
    pub fn run_on<F, Fut, Via>(self, runtime: tokio::runtime::Runtime, main: F) -> Exit
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output: Main<Via>>,
    {
        outside_of_a_runtime();
        let build = Box::new(|_: &_| Ok(AnyRuntime::Threads(runtime)));
        self.run_by(Propagation::Futures, build, BoxedMain::new(main))
    }

    /// Not generic: compiled here and not with the program.
    fn run_by(self, propagation: Propagation, build: Build, main: BoxedMain<'_>) -> Exit {
        // Before this crate spawns its first thread.
        let prepared = crate::signal::prepare(&self.signals);
        // Also before that, so that no other thread can be reading the environment.
        #[cfg(feature = "handover")]
        let handover = self.handover.resolve().and_then(Handover::begin);
        let manager = Manager::take();
        let log = match Log::start(true, self.quiet) {
            Ok(log) => log,
            Err(error) => return fail_without_log(&error),
        };
        if let Err(error) = prepared {
            return fail(&log, &cannot_install(error));
        }
        #[cfg(feature = "handover")]
        let handover = match handover {
            Ok(handover) => handover,
            Err(failure) => return fail(&log, &failure),
        };
        let (report, over) = oneshot::channel();
        let (over_to, end) = threads::channel();
        let (release, released) = threads::channel::<()>();
        let (tearing_down, torn_down) = threads::channel::<()>();
        let end_of_sentinel =
            move |ended: Ended| teardown(ended, report, over_to, released, tearing_down);
        let surroundings = Surroundings {
            log: log.clone(),
            manager,
            propagation,
            has_signals: true,
            #[cfg(feature = "handover")]
            handover: Some(handover),
        };
        let (handle, runtime) = match self.launch(surroundings, build, end_of_sentinel) {
            Ok(launched) => launched,
            Err(failure) => return fail(&log, &failure),
        };
        preflight::check(&log, &handle.shared().limits, &self.signals);
        let context = context::enter(handle.shared().clone());
        let running = AssertUnwindSafe(|| runtime.block_on(run_main(&handle, main, over)));
        if catch_unwind(running).is_err() {
            // Not a panic of `main`, which would have been caught. tokio panics here if
            // `unhandled_panic` shuts the runtime down; the message has been printed.
            handle.shared().tell(Event::Panicked);
        }
        let (exit, left_behind) = end.recv().unwrap_or_else(|| (fail_code(), true));
        // In case `run_main` did not get this far.
        handle.shared().kept.drop_all();
        runtime.end(left_behind);
        // Everything that belongs to the program is dropped before the sentinel stands down.
        drop(context);
        drop(handle);
        drop(release);
        // Nothing is ever sent. Once the sender is gone, the signals have their default actions
        // again, or soon will.
        let _ = torn_down.recv();
        exit
    }
}

type Build = Box<dyn FnOnce(&Arc<Shared>) -> io::Result<AnyRuntime>>;

/// The body of `main`, and what becomes of its value.
struct BoxedMain<'a> {
    kind: BodyKind,
    body: Pin<Box<dyn Future<Output = Result<Servers, Failure>> + 'a>>,
}

impl<'a> BoxedMain<'a> {
    fn new<F, Fut, Via>(main: F) -> Self
    where
        F: FnOnce() -> Fut + 'a,
        Fut: Future<Output: Main<Via>>,
    {
        let kind = <Fut::Output as Main<Via>>::body_kind(Sealed);
        let body = async {
            let value = main().await;
            let mut servers = Servers::default();
            value.into_servers(&mut servers, Sealed).map(|()| servers)
        };
        Self { kind, body: Box::pin(body) }
    }
}

#[track_caller]
fn outside_of_a_runtime() {
    assert!(
        tokio::runtime::Handle::try_current().is_err(),
        "`Config::run` blocks its thread and cannot be called from within a tokio runtime; use \
         `Config::start` there"
    );
}

/// Reports that the process could not be set up.
fn fail(log: &Log, failure: &Failure) -> Exit {
    log.failed(failure);
    drop(log.close());
    log.flush(Duration::from_secs(1));
    fail_code()
}

fn fail_code() -> Exit {
    Exit::new(1, Some(Duration::from_secs(1)))
}

/// Reports that not even the log thread could be spawned.
fn fail_without_log(error: &std::io::Error) -> Exit {
    use std::io::Write as _;
    let line = format!("error: cannot start the thread that writes messages: {error}\n");
    // If stderr is gone, there is no other place to report it.
    let _ = std::io::stderr().write_all(line.as_bytes());
    fail_code()
}

// The body of `main`, whose return type determines what a stop does to it.

/// Holds the drain until dropped: while the body runs, and while the servers it has returned are
/// being started.
pub(super) struct BodyGuard {
    shared: Arc<Shared>,
    body: Arc<Body>,
    key: Key,
}

/// The entry of the body in the table of work.
struct Body {
    kind: BodyKind,
    shared: Arc<Shared>,
    started: Instant,
    ended: AtomicBool,
}

impl Body {
    /// Returns whether the body has ever asked for a `Shutdown`, which tells it about the stop.
    fn has_asked(&self) -> bool {
        self.shared.main_has_asked()
    }
}

impl WorkItem for Body {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        let age = now.saturating_duration_since(self.started);
        let asked = self.kind == BodyKind::StartUp || self.has_asked();
        out.push(InFlight::Main { age, asked });
    }

    fn oldest(&self) -> Option<Instant> {
        Some(self.started)
    }

    fn kind(&self) -> WorkKind {
        WorkKind::Main
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

impl BodyGuard {
    pub(super) fn new(shared: &Arc<Shared>, kind: BodyKind) -> Self {
        let (started, ended) = (Instant::now(), AtomicBool::new(false));
        let body = Arc::new(Body { kind, shared: shared.clone(), started, ended });
        let key = shared.work.add(body.clone());
        Self { shared: shared.clone(), body, key }
    }

    /// Polls the body to completion. Returns `None` if the stop dropped it.
    async fn run<T>(
        &self,
        mut main: Pin<Box<dyn Future<Output = T> + '_>>,
    ) -> Option<Result<T, Panic>> {
        let phase = &self.shared.phase;
        let mut changes = pin!(async {
            phase.reached(Phase::Draining).await;
            phase.reached(Phase::Cut).await;
            pending::<()>().await;
        });
        let mut is_ready = self.body.kind == BodyKind::StartUp;
        let returned = poll_fn(|cx| {
            // Polled before the phase is checked, so that a later change wakes this task.
            let _ = changes.as_mut().poll(cx);
            if self.is_dropped(phase.now()) {
                return Poll::Ready(None);
            }
            let polled = poll_catching_panics(|| as_main(|| main.as_mut().poll(cx)));
            if polled.is_pending() && !std::mem::replace(&mut is_ready, true) {
                // A program that serves nothing is ready once it is running.
                self.shared.tell_ready("running");
            }
            polled.map(Some)
        })
        .await;
        self.body.ended.store(returned.is_some(), Ordering::Release);
        // Values that `main` holds may panic when dropped, as `main` itself may.
        match catch_unwind(AssertUnwindSafe(|| as_main(|| drop(main)))) {
            Err(panic) if returned.is_none() => Some(Err(panic)),
            _ => returned,
        }
    }

    fn is_dropped(&self, phase: Phase) -> bool {
        let is_told = self.body.kind == BodyKind::Work || self.body.has_asked();
        phase >= if is_told { Phase::Cut } else { Phase::Draining }
    }
}

type Panic = Box<dyn Any + Send>;

impl Drop for BodyGuard {
    fn drop(&mut self) {
        self.shared.work.finished(self.key);
    }
}

// The main thread: runs `main`, starts what it returns, waits for the report, drops kept values.

/// Runs `main` and waits for the report, then drops the kept values.
async fn run_main(handle: &Handle, main: BoxedMain<'_>, over: oneshot::Receiver<Report>) {
    let body = async {
        body(handle, main).await;
        pending::<()>().await;
    };
    match race(over, body).await {
        First::Left(_) | First::Right(()) => {}
    }
    drop_kept(handle).await;
}

/// Drops the values that the program has kept, now that the report is out. This happens on a
/// separate thread, so that the runtime keeps running: a value may need it to flush its data.
async fn drop_kept(handle: &Handle) {
    if handle.shared().kept.is_empty() {
        return;
    }
    let (done, dropped) = oneshot::channel::<()>();
    let (handle, runtime) = (handle.clone(), tokio::runtime::Handle::current());
    let spawned = threads::spawn("graceful-keep", move || {
        let _runtime = runtime.enter();
        let _context = context::enter(handle.shared().clone());
        handle.shared().kept.drop_all();
        drop(done);
    });
    // If the thread cannot be spawned, this one drops them a little later. Nothing is ever sent:
    // the drop of the sender is the signal.
    if spawned.is_ok() {
        let _ = dropped.await;
    }
}

/// Runs the body of `main` and starts what it returns.
async fn body(handle: &Handle, main: BoxedMain<'_>) {
    let shared = handle.shared();
    let BoxedMain { kind, body } = main;
    // Dropped last: by then, the servers hold their own guards.
    let guard = BodyGuard::new(shared, kind);
    let servers = match guard.run(body).await {
        // The stop has dropped it.
        None => {
            // Otherwise, the limit has dropped it, and the report names it.
            if kind == BodyKind::StartUp && !shared.main_has_asked() {
                say!(
                    shared.log,
                    info,
                    {},
                    "`main` had not returned its server yet, and was dropped"
                );
            }
            return;
        }
        Some(Err(_panic)) => return shared.tell(Event::Panicked),
        Some(Ok(Err(failure))) => return shared.tell(Event::Failed(failure)),
        Some(Ok(Ok(servers))) => servers,
    };
    if servers.is_empty() {
        say_what_is_not_served(handle, kind);
    }
    drop(launch::spawn(handle, servers));
}

/// Warns about what was not served: a program that ends too early looks like one that is done.
fn say_what_is_not_served(handle: &Handle, kind: BodyKind) {
    let shared = handle.shared();
    if shared.phase.is_stopping() {
        return;
    }
    let alive = shared.runtime().metrics().num_alive_tasks();
    match (kind, shared.take_unserved()) {
        (_, Some(server)) => say!(
            shared.log,
            warn,
            { server = server.clone() },
            "nothing to serve: the server for {server} was dropped; return it from `main`"
        ),
        (BodyKind::StartUp, None) => {
            say!(shared.log, warn, {}, "nothing to serve: `main` has returned no server");
        }
        // Nothing is waited for, but tasks are still running. A `main` that has asked for a
        // `Shutdown` takes care of its own end.
        (BodyKind::Work, None) if alive > 0 && !shared.has_work() && !shared.main_has_asked() => {
            let what = if alive == 1 { "a task" } else { "tasks" };
            say!(
                shared.log,
                warn,
                { tasks = alive },
                "`main` has returned and ended {what} of `tokio::spawn`; `graceful::spawn` is \
                 waited for"
            );
        }
        (BodyKind::Work, None) => {}
    }
}

// `Config::test`: a context for a test, which is stopped and drained at the end.

impl Config {
    /// Runs `body` in its own context, drains that afterwards, and returns the output of `body`.
    /// [`graceful::test`](macro@crate::test) expands to this.
    ///
    /// The free functions work inside `body`. No signal handler is installed, and nothing is
    /// printed.
    ///
    /// # Panics
    ///
    /// Panics if `body` panics, after the drain; with the [`Report`](crate::Report), if the limit
    /// cut something or a server failed; and if the runtime or the sentinel cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// graceful::Config::new().test(async || {
    ///     let task = graceful::spawn(async { graceful::shutdown().await });
    ///     graceful::stop();
    ///     task.await.unwrap();
    /// });
    /// ```
    #[track_caller]
    pub fn test<F, Fut>(self, body: F) -> Fut::Output
    where
        F: FnOnce() -> Fut,
        Fut: Future,
    {
        let log = Log::start(false, self.quiet).expect("the log starts");
        let (report, over) = oneshot::channel();
        // The receiver is dropped only when this function has panicked.
        let end = move |ended: Ended| drop(report.send((ended.report, ended.left_behind)));
        let surroundings = Surroundings {
            log,
            manager: Manager::nobody(),
            propagation: Propagation::Threads,
            has_signals: false,
            #[cfg(feature = "handover")]
            handover: None,
        };
        let settings = self.runtime.clone();
        let launched = self.launch(surroundings, |shared| settings.build(shared), end);
        let (handle, runtime) = launched.unwrap_or_else(|failure| panic!("{failure}"));
        let _context = context::enter(handle.shared().clone());
        let (output, (report, left_behind)) = runtime.block_on(async {
            // A stop before the end waits for the body, as it does for `main`.
            let guard = BodyGuard::new(handle.shared(), BodyKind::StartUp);
            handle.shared().begin_to_serve();
            let mut body = pin!(async { body().await });
            let output = poll_fn(|cx| poll_catching_panics(|| body.as_mut().poll(cx))).await;
            drop(guard);
            handle.stop();
            (output, over.await.expect("the sentinel reports before it ends"))
        });
        handle.shared().kept.drop_all();
        runtime.end(left_behind);
        let output = output.unwrap_or_else(|panic| resume_unwind(panic));
        assert!(report.is_clean(), "{report}");
        output
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;

    #[test]
    #[should_panic(expected = "use `Config::start` there")]
    fn a_run_within_a_runtime_panics() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let _ = Config::new().run(async || {});
        });
    }

    /// `RUSTFLAGS="--cfg tokio_unstable" cargo test -p graceful-main --lib unhandled_panic`
    #[cfg(tokio_unstable)]
    #[test]
    fn unhandled_panic_reaches_the_runtime() {
        use crate::{Flavor, UnhandledPanic};
        let exit = |behavior| {
            let config = Config::new().flavor(Flavor::CurrentThread).unhandled_panic(behavior);
            let exit = config.run(async || {
                tokio::spawn(async { panic!("nobody looks") });
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            });
            exit.code()
        };
        assert_eq!(exit(UnhandledPanic::Ignore), 0);
        assert_eq!(exit(UnhandledPanic::ShutdownRuntime), 101);
    }
}
