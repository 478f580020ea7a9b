//! `Config::run`: the process from its first line to its exit code.

use std::{
    any::Any,
    future::{Future, pending, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::Poll,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc::unbounded_channel, oneshot};

use super::{
    builder::{AnyRuntime, Config},
    preflight,
};
use crate::{
    context::{self, Handle, adopt, as_main},
    log::{Log, say},
    manager::Manager,
    serve::{BodyKind, Main, Servers, launch},
    stop::{self, Ended, Event, Exit, Phase, ProcessEnd, Propagation, Report, Shared, teardown},
    util::{Failure, First, Sealed, poll_catching_panics, race},
    work::{InFlight, Key, WorkItem, WorkKind},
};

impl Config {
    /// Runs `main` and whatever it returns, until it has been drained: installs the signal
    /// handlers, builds the runtime, and owns the process from then on.
    ///
    /// [`Main`] lists what `main` may return. Its future runs on this thread and need not
    /// be `Send`; servers run on the worker threads.
    ///
    /// From the first stop signal to the return of this function (or the end of the process, where
    /// this thread is stuck) takes at most `delay + timeout + cleanup`, and 50 ms for the steps in
    /// between: 10 ms in which what was cut is dropped (twice, where hooks have been cut as well),
    /// 15 ms for the last message, 15 ms for this thread (and 15 ms to say that a value of
    /// [`keep`](crate::keep) is left behind). Returned from `main`, the [`Exit`]
    /// extends that to the end of the process, with 15 ms more. Each is only taken by a program
    /// that is stuck in that very step. Once this function has returned, the signals have their
    /// default actions again, those within 200 ms of the first stop signal excepted; code that
    /// follows it is not watched over.
    ///
    /// Signals that were ignored when the process began (`nohup`, `trap ''`) stay ignored, on
    /// Linux; those that were blocked are unblocked.
    ///
    /// Failures, those to install a handler or to build the runtime among them, are printed and
    /// become the exit code, as in the table at [`Exit`].
    ///
    /// # Panics
    ///
    /// If it is called from within a tokio runtime. There, use [`start`](Self::start).
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
        self.run_by(Propagation::Threads, move |shared| settings.build(shared), main)
    }

    /// As [`run`](Self::run), on a runtime of the program's own, which it consumes: for one that is
    /// built by other code. The settings of the runtime of this `Config` do not apply.
    ///
    /// The free functions ([`spawn`](crate::spawn), [`shutdown`](crate::shutdown), …) work in
    /// `main`, in the handlers of servers and in tasks that were spawned through this crate. In a
    /// task of `tokio::spawn` they do not, because the threads are not this crate's: there, use a
    /// [`Handle`].
    ///
    /// # Panics
    ///
    /// If it is called from within a tokio runtime.
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
        self.run_by(Propagation::Futures, |_| Ok(AnyRuntime::Threads(runtime)), main)
    }

    fn run_by<F, Fut, Via>(
        self,
        propagation: Propagation,
        build: impl FnOnce(&Arc<Shared>) -> io::Result<AnyRuntime>,
        main: F,
    ) -> Exit
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output: Main<Via>>,
    {
        // First, while there is no thread that may look at the environment.
        let manager = Manager::take();
        let log = match Log::start(true, self.quiet) {
            Ok(log) => log,
            Err(error) => return fail_without_log(&error),
        };
        let limits = match self.limits.resolve() {
            Ok(limits) => limits,
            Err(failure) => return fail(&log, &failure),
        };
        if let Some(failure) = self.ambiguous_signal() {
            return fail(&log, &failure);
        }
        let (events, inbox) = unbounded_channel();
        let handle = Handle::new(limits, propagation, log, manager, events);
        let runtime = match build(handle.shared()) {
            Ok(runtime) => runtime,
            Err(error) => {
                let failure = Failure::from_error(error).context("cannot build the runtime");
                return fail(&handle.shared().log, &failure);
            }
        };
        handle.shared().set_runtime(runtime.handle().clone());
        let (report, over) = oneshot::channel();
        let (over_to, end) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let (tearing_down, torn_down) = mpsc::channel::<()>();
        let (log, kept) = (handle.shared().log.clone(), handle.shared().kept.clone());
        let end_of_sentinel = move |ended: Ended, dumps| {
            // Their default action would end a process that is ending well.
            std::mem::forget(dumps);
            teardown(ended, &log, &kept, report, &over_to, &released, tearing_down);
        };
        if let Err(error) = stop::spawn(
            handle.shared().clone(),
            inbox,
            &self.signals,
            &self.dump,
            adopt,
            end_of_sentinel,
        ) {
            let failure = Failure::from_error(error).context("cannot install the signal handlers");
            return fail(&handle.shared().log, &failure);
        }
        preflight::check(&handle.shared().log, &limits, &self.signals);
        let context = context::enter(handle.shared().clone());
        let running = AssertUnwindSafe(|| runtime.block_on(run_main(&handle, main, over)));
        if catch_unwind(running).is_err() {
            // Not `main`: its panics are caught. tokio panics here where `unhandled_panic` shuts
            // the runtime down; the message is out.
            handle.shared().tell(Event::Panicked);
        }
        let end = end.recv().unwrap_or(ProcessEnd { exit: fail_code(), left_behind: true });
        // If `run_main` has not come so far.
        handle.shared().kept.drop_all();
        runtime.end(end.left_behind);
        // All that is the program's is dropped before the sentinel stands down.
        drop(context);
        drop(handle);
        drop(release);
        // Nothing is sent: the signals have their default actions again, or will have.
        let _ = torn_down.recv();
        end.exit
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

/// The process could not be set up.
fn fail(log: &Log, failure: &Failure) -> Exit {
    log.failed(failure);
    drop(log.close());
    log.flush(Duration::from_secs(1));
    fail_code()
}

fn fail_code() -> Exit {
    Exit::new(1, Some(Duration::from_secs(1)))
}

/// Even the log thread could not be spawned.
fn fail_without_log(error: &std::io::Error) -> Exit {
    use std::io::Write as _;
    let line = format!("error: cannot start the thread that writes messages: {error}\n");
    // If stderr is gone, there is no other place to report it.
    let _ = std::io::stderr().write_all(line.as_bytes());
    fail_code()
}

// The body of `main`: what a stop does to it follows from what it returns.

/// Holds the drain until it is dropped: the body runs, or what it has returned is being started.
pub(super) struct BodyGuard {
    shared: Arc<Shared>,
    body: Arc<Body>,
    key: Key,
}

/// The body, as the table of work sees it.
struct Body {
    kind: BodyKind,
    shared: Arc<Shared>,
    started: Instant,
    ended: AtomicBool,
}

impl Body {
    /// Whether it has ever asked for a `Shutdown`, from which it learns of the stop by itself.
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

    /// Polls the body to its end. `None`: the stop has dropped it.
    pub(super) async fn run<M: Future>(&self, main: M) -> Option<Result<M::Output, Panic>> {
        let phase = &self.shared.phase;
        let mut main = Box::pin(main);
        let mut changes = pin!(async {
            phase.reached(Phase::Draining).await;
            phase.reached(Phase::Cut).await;
            pending::<()>().await;
        });
        let mut is_ready = self.body.kind == BodyKind::StartUp;
        let returned = poll_fn(|cx| {
            // Before the look: what changes after it wakes this.
            let _ = changes.as_mut().poll(cx);
            if self.is_dropped(phase.now()) {
                return Poll::Ready(None);
            }
            let polled = poll_catching_panics(|| as_main(|| main.as_mut().poll(cx)));
            if polled.is_pending() && !std::mem::replace(&mut is_ready, true) {
                // A program that serves nothing is ready once it runs.
                self.shared.tell_ready("running");
            }
            polled.map(Some)
        })
        .await;
        self.body.ended.store(returned.is_some(), Ordering::Release);
        // The values that `main` holds may panic when dropped, as `main` itself may.
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

/// The payload of a panic.
type Panic = Box<dyn Any + Send>;

impl Drop for BodyGuard {
    fn drop(&mut self) {
        self.shared.work.finished(self.key);
    }
}

// The main thread: runs `main`, starts what it returns, waits for the report, drops kept values.

/// All of it, from the first line of `main` on.
pub(super) async fn run_main<F, Fut, Via>(handle: &Handle, main: F, over: oneshot::Receiver<Report>)
where
    F: FnOnce() -> Fut,
    Fut: Future<Output: Main<Via>>,
{
    let body = async {
        body(handle, main).await;
        pending::<()>().await;
    };
    match race(over, body).await {
        First::Left(_) | First::Right(()) => {}
    }
    drop_kept(handle).await;
}

/// Drops what the program has kept, now that the report is out: on a thread of its own, so that the
/// runtime goes on, which it may need to flush what it has.
async fn drop_kept(handle: &Handle) {
    if handle.shared().kept.is_empty() {
        return;
    }
    let (done, dropped) = oneshot::channel::<()>();
    let (handle, runtime) = (handle.clone(), tokio::runtime::Handle::current());
    let thread = std::thread::Builder::new().name("graceful-keep".to_owned());
    let spawned = thread.spawn(move || {
        let _runtime = runtime.enter();
        let _context = context::enter(handle.shared().clone());
        handle.shared().kept.drop_all();
        drop(done);
    });
    // Without a thread they are dropped on this one, a little later. The end of the sender is all
    // that is waited for.
    if spawned.is_ok() {
        let _ = dropped.await;
    }
}

/// Runs the body of `main` and starts what it returns.
async fn body<F, Fut, Via>(handle: &Handle, main: F)
where
    F: FnOnce() -> Fut,
    Fut: Future<Output: Main<Via>>,
{
    let shared = handle.shared();
    let kind = <Fut::Output as Main<Via>>::body_kind(Sealed);
    // Goes last: by then the servers hold guards of their own.
    let guard = BodyGuard::new(shared, kind);
    let result = match guard.run(async { main().await }).await {
        // The stop has dropped it.
        None => {
            // Or the limit, which names it.
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
        Some(Ok(value)) => {
            let mut servers = Servers::default();
            value.into_servers(&mut servers, Sealed).map(|()| servers)
        }
    };
    let servers = match result {
        Err(failure) => return shared.tell(Event::Failed(failure)),
        Ok(servers) => servers,
    };
    if servers.is_empty() {
        say_what_is_not_served(handle, kind);
    }
    drop(launch::spawn(handle, servers));
}

/// A program that ends before it was meant to looks like one that has done its work.
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
        // Nothing that is waited for, and yet something runs. A program that has asked for the stop
        // has seen to its end.
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

// `Config::test`: a context for a test that stops and drains at its end.

impl Config {
    /// Runs `body` in a context of its own, drains that afterwards, and returns what `body`
    /// returned: what [`graceful::test`](macro@crate::test) expands to.
    ///
    /// Inside, the free functions work. No signal handler is installed and nothing is printed.
    ///
    /// # Panics
    ///
    /// If `body` does, after the drain; and with the [`Report`](crate::Report) where the limit cut
    /// something off or a server failed. Also where the runtime or the sentinel cannot be started.
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
        let limits = self.limits.resolve().unwrap_or_else(|failure| panic!("{failure}"));
        let (events, inbox) = unbounded_channel();
        let log = Log::start(false, self.quiet).expect("the log starts");
        let handle = Handle::new(limits, Propagation::Threads, log, Manager::nobody(), events);
        let (report, over) = oneshot::channel();
        // The receiver is dropped only when this function has panicked.
        let end = move |ended: Ended, _| drop(report.send((ended.report, ended.left_behind)));
        stop::spawn(handle.shared().clone(), inbox, &[], &[], adopt, end)
            .expect("the sentinel starts");
        let runtime = self.runtime.build(handle.shared()).expect("the runtime is built");
        handle.shared().set_runtime(runtime.handle().clone());
        let _context = context::enter(handle.shared().clone());
        let (output, (report, left_behind)) = runtime.block_on(async {
            // A stop in the middle waits for the body, as for `main`.
            let guard = BodyGuard::new(handle.shared(), BodyKind::StartUp);
            handle.shared().phase.advance(Phase::Serving);
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
