//! `Config::run`: the process from its first line to its exit code.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{atomic::Ordering, mpsc},
    task::Poll,
    time::Duration,
};

use tokio::sync::{mpsc::unbounded_channel, oneshot};

use crate::{
    caught::poll_caught,
    config::Config,
    context,
    exit::Exit,
    failure::Failure,
    handle::{Handle, Owns},
    log::Log,
    main_fn::Main,
    phase::Phase,
    race::{First, race},
    report::Report,
    sentinel::{self, Event},
    serve::Servers,
    serving,
    task::{Name, Role, TaskGuard},
};

/// How long the main thread may take to let go of the runtime once everything is over. Where it is
/// stuck in somebody's code, the sentinel ends the process.
const TEARDOWN: Duration = Duration::from_millis(15);

impl Config {
    /// Runs `main` and whatever it returns, until it has been drained: installs the signal handlers,
    /// builds the runtime, and owns the process from then on.
    ///
    /// What `main` may return is described at [`Main`]. Its future runs on this thread and need not
    /// be `Send`; servers run on the worker threads.
    ///
    /// From the first stop signal to the return of this function (or the end of the process, where
    /// this thread is stuck) takes at most `delay + timeout + cleanup`.
    ///
    /// Failures, those to install a handler or to build the runtime among them, are printed and
    /// become the exit code, as in the table at [`Exit`].
    ///
    /// # Panics
    ///
    /// If it is called from within a tokio runtime. There, use [`start`](Self::start).
    ///
    /// ```
    /// let exit = graceful::Config::new().run(async || {
    ///     graceful::on_stop(async { println!("cleaned up") });
    /// });
    /// assert_eq!(exit.code(), 0);
    /// ```
    pub fn run<F, Fut, Via>(self, main: F) -> Exit
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output: Main<Via>>,
    {
        let (events, inbox) = unbounded_channel();
        let limits = match self.limits.resolve() {
            Ok(limits) => limits,
            Err(failure) => return fail(&Log::new(true), &failure),
        };
        let handle = Handle::new(limits, Owns::Process, events);
        let (report, over) = oneshot::channel();
        let (code, end_code) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let end = move |ended: Report| {
            let exit = ended.exit();
            // `run` may have returned early, for want of a runtime.
            let _ = code.send(exit);
            let _ = report.send(ended);
            // Disconnected: `run` is about to return. Otherwise the main thread is stuck.
            if released.recv_timeout(TEARDOWN) == Err(mpsc::RecvTimeoutError::Timeout) {
                std::process::exit(i32::from(exit.code()));
            }
        };
        if let Err(error) = sentinel::spawn(handle.clone(), inbox, &self.signals, end) {
            let failure = Failure::from_error(&error).context("cannot install the signal handlers");
            return fail(&handle.shared().log, &failure);
        }
        let runtime = match self.runtime.build(&handle) {
            Ok(runtime) => runtime,
            Err(error) => {
                // In this order: the sentinel does not end the process that `main` is about to.
                drop(release);
                handle.shared().tell(Event::Finished);
                let failure = Failure::from_error(&error).context("cannot build the runtime");
                return fail(&handle.shared().log, &failure);
            }
        };
        handle.set_runtime(runtime.handle().clone());
        let context = context::enter(handle.clone());
        let whole = AssertUnwindSafe(|| runtime.block_on(whole(&handle, main, over)));
        let exit = catch_unwind(whole).unwrap_or_else(|_| {
            // Not `main`: its panics are caught. tokio panics here where `unhandled_panic` shuts the
            // runtime down; the message is out.
            handle.shared().tell(Event::Panicked);
            end_code.recv().unwrap_or(Exit::FAILED)
        });
        runtime.shutdown_background();
        // All that is somebody else's is gone before the sentinel stands down.
        drop(context);
        drop(handle);
        drop(release);
        exit
    }
}

/// An end before the beginning.
fn fail(log: &Log, failure: &Failure) -> Exit {
    log.failed(failure);
    log.flush(Duration::from_secs(1));
    Exit::FAILED
}

/// What the main thread waits for: `main`, its servers, and the report.
async fn whole<F, Fut, Via>(handle: &Handle, main: F, over: oneshot::Receiver<Report>) -> Exit
where
    F: FnOnce() -> Fut,
    Fut: Future<Output: Main<Via>>,
{
    let body = async {
        body(handle, main).await;
        std::future::pending().await
    };
    match race(over, body).await {
        First::Left(report) => report.map_or(Exit::FAILED, |report| report.exit()),
        First::Right(never) => never,
    }
}

/// Runs the body of `main` and starts what it returns.
async fn body<F, Fut, Via>(handle: &Handle, main: F)
where
    F: FnOnce() -> Fut,
    Fut: Future<Output: Main<Via>>,
{
    let shared = handle.shared();
    // Goes last: by then the servers hold guards of their own.
    let _guard = TaskGuard::new(handle, Role::Main, Name::Text("main".into()));
    let returned = until_dropped(handle, async { main().await }).await;
    let result = match returned {
        // A stop came before the servers were up.
        None => return,
        Some(Err(_panic)) => return shared.tell(Event::Panicked),
        Some(Ok(value)) => {
            let mut servers = Servers::default();
            value.into_servers(&mut servers).map(|()| servers)
        }
    };
    match result {
        Err(failure) => shared.tell(Event::Failed(failure)),
        Ok(servers) => drop(serving::spawn(handle, servers)),
    }
}

/// Polls the body of `main` to its end, or drops it when the drain starts and it holds no
/// [`Shutdown`](crate::Shutdown) to learn of that by itself: then this returns `None`.
async fn until_dropped<M: Future>(
    handle: &Handle,
    main: M,
) -> Option<Result<M::Output, Box<dyn std::any::Any + Send>>> {
    let shared = handle.shared();
    let mut main = Box::pin(main);
    let mut draining = pin!(shared.phase.reached(Phase::Draining));
    let mut decided = false;
    let holds = || shared.main_holds.load(Ordering::SeqCst) > 0;
    let returned = poll_fn(|cx| {
        let held_before = holds();
        if !decided && draining.as_mut().poll(cx).is_ready() {
            if !held_before {
                return Poll::Ready(None);
            }
            decided = true;
        }
        let poll = poll_caught(|| context::as_main(|| main.as_mut().poll(cx)));
        if poll.is_ready() {
            return poll.map(Some);
        }
        // The drain may have started in the middle of that poll, and `main` may have seen it and let
        // go of its `Shutdown` in the same moment: then it has its last steps still to do.
        if !decided && shared.phase.is_draining() {
            if !(held_before || holds()) {
                return Poll::Ready(None);
            }
            decided = true;
        }
        Poll::Pending
    })
    .await;
    // What `main` holds may panic when it is dropped, as `main` itself may.
    match catch_unwind(AssertUnwindSafe(|| context::as_main(|| drop(main)))) {
        Err(panic) if returned.is_none() => Some(Err(panic)),
        _ => returned,
    }
}

#[cfg(all(test, tokio_unstable))]
mod tests {
    use crate::{Config, Flavor, UnhandledPanic};

    /// `RUSTFLAGS="--cfg tokio_unstable" cargo test -p graceful-main --lib unhandled_panic`
    #[test]
    fn unhandled_panic_reaches_the_runtime() {
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
