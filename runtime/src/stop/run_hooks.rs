//! Runs the cleanup hooks, on a separate runtime that works whatever state the program's runtime is
//! in.

use std::{
    future::ready,
    io,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    task::JoinHandle,
};

use super::{
    hooks::Hook,
    limits::ABORT_GRACE,
    messages,
    phase::Phase,
    shared::{Event, Scope, Shared},
};
use crate::{
    util::{Failure, First, panic_message, race, threads},
    work::InFlight,
};

/// Sets the current thread's context permanently. This is a function pointer because the
/// thread-locals belong to `context`, which depends on this module and not the other way round.
pub(crate) type Adopt = fn(Arc<Shared>, Scope);

/// The running hooks.
pub(super) struct RunningHooks {
    ended: oneshot::Receiver<()>,
    /// A task on the program's own runtime, which runs at once unless all of its threads are
    /// blocked.
    probe: JoinHandle<()>,
}

/// Starts the hooks. Returns `None` if there are none.
///
/// They run on a separate thread with its own runtime, so that they can sleep, connect and spawn
/// even while every worker of the program is blocked, and so that a hook that blocks does not block
/// the sentinel.
pub(super) fn start(shared: &Arc<Shared>, adopt: Adopt) -> Option<RunningHooks> {
    if shared.hooks.is_empty() {
        return None;
    }
    let probe = shared.runtime().spawn(ready(()));
    let (done, ended) = oneshot::channel();
    let hooks = shared.clone();
    let spawned = threads::spawn("graceful-cleanup", move || match build(&hooks, adopt) {
        Ok(runtime) => run_all(&hooks, adopt, runtime, done),
        Err(error) => {
            messages::cleanup_impossible(&hooks.log, &error);
            // In this order, so that `ended` resolves after the error is logged.
            drop(done);
        }
    });
    if let Err(error) = spawned {
        // `done` was dropped with the closure, so `ended` resolves.
        messages::cleanup_impossible(&shared.log, &error);
    }
    Some(RunningHooks { ended, probe })
}

impl RunningHooks {
    /// Resolves once the hooks are over, with whether they have run, even if the last one was given
    /// up. Must not be called again after that.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub(crate) async fn ended(&mut self) -> bool {
        (&mut self.ended).await.is_ok()
    }

    /// Returns whether nothing runs on the program's own runtime.
    pub(crate) fn is_program_blocked(&self) -> bool {
        !self.probe.is_finished()
    }
}

/// Gives up all further hooks. Returns the running one, and those that will never run, which have
/// the age 0.
pub(super) fn give_up(shared: &Arc<Shared>, adopt: Adopt) -> Vec<InFlight> {
    let (running, waiting) = shared.hooks.give_up();
    let lines: Vec<_> = waiting.iter().rev().map(|hook| (hook.line, Duration::ZERO)).collect();
    drop_elsewhere(shared, adopt, waiting);
    let all = running.into_iter().chain(lines);
    all.map(|(line, age)| InFlight::Hook { name: line.to_string(), age }).collect()
}

/// Drops the hooks on a separate thread: what a future owns may block when dropped, and the
/// sentinel, which owns the limits, cannot wait for that. If the thread cannot be spawned, nothing
/// is dropped.
fn drop_elsewhere(shared: &Arc<Shared>, adopt: Adopt, waiting: Vec<Hook>) {
    if waiting.is_empty() {
        return;
    }
    let waiting = std::mem::ManuallyDrop::new(waiting);
    let shared = shared.clone();
    // The panic hook reports a panic in there.
    let _ = threads::spawn("graceful-cleanup", move || {
        let _runtime = shared.runtime().enter();
        adopt(shared.clone(), Scope::Program);
        drop(std::mem::ManuallyDrop::into_inner(waiting));
    });
}

/// Runs the hooks on this thread, one after another, until none is left or they are given up.
fn run_all(shared: &Arc<Shared>, adopt: Adopt, runtime: Runtime, done: oneshot::Sender<()>) {
    adopt(shared.clone(), Scope::Cleanup);
    // Cannot fail: this is the only place that sets it.
    let _ = shared.cleanup.runtime.set(runtime.handle().clone());
    while let Some(Hook { line, future }) = shared.hooks.next() {
        // The phase comes first: a hook that has been given up is not polled again, but dropped
        // here, where its timers are.
        let run = || runtime.block_on(race(shared.phase.reached(Phase::Over), future));
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(First::Left(())) => break,
            Ok(First::Right(Ok(()))) => {}
            Ok(First::Right(Err(failure))) => hook_failed(shared, line, failure),
            Err(panic) => {
                let panicked = Failure::new(format!("panicked: {}", panic_message(&*panic)));
                hook_failed(shared, line, panicked);
            }
        }
    }
    // The sentinel may have given up waiting.
    let _ = done.send(());
    // Drives the tasks that hooks have spawned until the sentinel is done with them.
    runtime.block_on(shared.phase.reached(Phase::Over));
    if !shared.cleanup.work.is_none() {
        // They have just been cut. The sentinel waits for them; this gives them the same time.
        std::thread::sleep(ABORT_GRACE);
    }
    if shared.cleanup.work.is_none() {
        runtime.shutdown_background();
    } else {
        // Leaked, like the program's runtime: see `AnyRuntime::end`.
        std::mem::forget(runtime);
    }
}

/// Reports the failure of a hook, before the end of the hooks, so that the report contains it.
fn hook_failed(shared: &Shared, line: &Location<'_>, failure: Failure) {
    shared.tell(Event::Failed(failure.context(&format!("hook {line}"))));
}

fn build(shared: &Arc<Shared>, adopt: Adopt) -> io::Result<Runtime> {
    #[cfg(feature = "test-util")]
    if shared.cleanup.is_paused.load(std::sync::atomic::Ordering::Relaxed) {
        return Builder::new_current_thread().enable_all().start_paused(true).build();
    }
    // With a worker, so that the tasks of a hook keep running while it blocks.
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().thread_name("graceful-cleanup");
    // Weak, because the runtime keeps this closure.
    let shared = Arc::downgrade(shared);
    builder.on_thread_start(move || {
        if let Some(shared) = shared.upgrade() {
            adopt(shared, Scope::Cleanup);
        }
    });
    threads::can_be_had(1)?;
    builder.build()
}
