//! Where the cleanup hooks run: on a runtime of their own, which works whatever has become of the program's.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use tokio::{
    runtime::{Builder, Handle as TokioHandle, Runtime},
    sync::oneshot,
    task::JoinHandle,
};

use crate::{
    context::{self, Place},
    handle::Handle,
    hooks::Hook,
    phase::Phase,
    race::{First, race},
    runtime::threads_can_be_had,
    stop::LET_GO,
    task::message_of,
    work::Work,
};

/// What the hooks have to themselves.
pub(crate) struct Cleanup {
    /// What they have spawned.
    pub(crate) work: Work,
    runtime: OnceLock<TokioHandle>,
    /// A runtime whose clock is paused, as the program's is.
    #[cfg(feature = "test-util")]
    pub(crate) is_paused: std::sync::atomic::AtomicBool,
}

impl Default for Cleanup {
    fn default() -> Self {
        Self {
            work: Work::new(),
            runtime: OnceLock::new(),
            #[cfg(feature = "test-util")]
            is_paused: std::sync::atomic::AtomicBool::new(false),
        }
    }
}

impl Cleanup {
    /// Once the hooks run.
    pub(crate) fn runtime(&self) -> Option<&TokioHandle> {
        self.runtime.get()
    }
}

/// The hooks, on their way.
pub(crate) struct Running {
    ended: oneshot::Receiver<()>,
    /// A task of the program's own runtime: run at once, unless all of its threads are blocked.
    probe: JoinHandle<()>,
}

/// Starts to run the hooks of `handle`; `None`: there are none.
///
/// They run on a thread and a runtime of their own: so they can sleep, connect and spawn even while every worker of the
/// program is blocked, and a hook that blocks holds up nobody who watches the limit.
pub(crate) fn start(handle: &Handle) -> Option<Running> {
    if handle.shared().hooks.is_empty() {
        return None;
    }
    let probe = handle.runtime().spawn(std::future::ready(()));
    let (done, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("graceful-cleanup".to_owned());
    let hooks = handle.clone();
    let spawned = thread.spawn(move || match build(&hooks) {
        Ok(runtime) => run_all(&hooks, runtime, done),
        Err(error) => {
            hooks.shared().log.cleanup_impossible(&error);
            // What `ended` says comes after that.
            drop(done);
        }
    });
    if let Err(error) = spawned {
        // `done` is gone with the closure: that is what `ended` says.
        handle.shared().log.cleanup_impossible(&error);
    }
    Some(Running { ended, probe })
}

impl Running {
    /// Resolves with whether they have run, the last of them to its end or not. Not to be asked again then.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn ended(&mut self) -> bool {
        (&mut self.ended).await.is_ok()
    }

    /// Whether nothing runs on the program's own runtime.
    pub(crate) fn is_program_blocked(&self) -> bool {
        !self.probe.is_finished()
    }
}

/// Runs the hooks on this thread, one after the other, until there is none left or they are given up.
fn run_all(handle: &Handle, runtime: Runtime, done: oneshot::Sender<()>) {
    let shared = handle.shared();
    context::adopt(handle.clone(), Place::Cleanup);
    // The only one who sets it.
    let _ = shared.cleanup.runtime.set(runtime.handle().clone());
    while let Some(Hook { line, future }) = shared.hooks.next() {
        // The phase first: what has been given up is not polled again, but dropped here, where its timers are.
        let run = || runtime.block_on(race(shared.phase.reached(Phase::Over), future));
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(First::Left(())) => break,
            Ok(First::Right(())) => {}
            Err(panic) => shared.log.hook_panicked(&line.to_string(), &message_of(&*panic)),
        }
    }
    // The sentinel may have given up waiting: then nobody wants to know.
    let _ = done.send(());
    // What the hooks have spawned is driven until the sentinel has seen to it.
    runtime.block_on(shared.phase.reached(Phase::Over));
    if !shared.cleanup.work.is_none() {
        // Cut in this moment. The sentinel is the one who waits for them; this only gives them the same time.
        std::thread::sleep(LET_GO);
    }
    if shared.cleanup.work.is_none() {
        runtime.shutdown_background();
    } else {
        // As of the program's runtime: see `Built::end`.
        std::mem::forget(runtime);
    }
}

fn build(handle: &Handle) -> io::Result<Runtime> {
    #[cfg(feature = "test-util")]
    if handle.shared().cleanup.is_paused.load(std::sync::atomic::Ordering::Relaxed) {
        return Builder::new_current_thread().enable_all().start_paused(true).build();
    }
    // With a worker: what a hook has spawned goes on while it blocks.
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().thread_name("graceful-cleanup");
    let shared = Arc::downgrade(handle.shared());
    builder.on_thread_start(move || {
        if let Some(shared) = shared.upgrade() {
            context::adopt(Handle::from(shared), Place::Cleanup);
        }
    });
    threads_can_be_had(1)?;
    builder.build()
}
