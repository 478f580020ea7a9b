//! `Config::test`: a context for a test that stops and drains at its end.

use std::{
    future::{Future, poll_fn},
    panic::resume_unwind,
    pin::pin,
};

use tokio::sync::{mpsc::unbounded_channel, oneshot};

use super::{builder::Config, run::BodyGuard};
use crate::{
    context::{self, Handle},
    log::Log,
    manager::Manager,
    serve::BodyKind,
    stop::{self, Ended, Phase, Propagation},
    util::poll_catching_panics,
};

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
        stop::spawn(handle.shared().clone(), inbox, &[], &[], end).expect("the sentinel starts");
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
