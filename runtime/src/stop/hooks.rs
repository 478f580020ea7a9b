//! Cleanup hooks: kept until the drain is over, last in first out.

use std::{
    any::Any,
    future::Future,
    io,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    task::JoinHandle,
};

use super::{
    limits::LET_GO,
    messages,
    phase::Phase,
    shared::{Event, Scope, Shared},
};
use crate::{
    util::{
        Failure, First, panic_message, race,
        sync::{Mutex, lock},
        threads_can_be_had,
    },
    work::InFlight,
};

/// The hooks that have not run yet, and the one that runs.
#[derive(Default)]
pub(crate) struct Hooks(Mutex<HookQueue>);

#[derive(Default)]
struct HookQueue {
    waiting: Vec<Hook>,
    running: Option<(&'static Location<'static>, Instant)>,
}

pub(crate) struct Hook {
    pub(crate) line: &'static Location<'static>,
    pub(crate) future: Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>,
}

impl Hooks {
    pub(crate) fn push(
        &self,
        line: &'static Location<'static>,
        future: impl Future<Output = Result<(), Failure>> + Send + 'static,
    ) {
        let future = Box::pin(future);
        lock(&self.0).waiting.push(Hook { line, future });
    }

    /// The next one, which runs from now on.
    pub(crate) fn next(&self) -> Option<Hook> {
        let mut state = lock(&self.0);
        let hook = state.waiting.pop();
        state.running = hook.as_ref().map(|hook| (hook.line, Instant::now()));
        hook
    }

    /// The one that runs, and how long it has.
    pub(super) fn running(&self) -> Option<(&'static Location<'static>, Duration)> {
        lock(&self.0).running.map(|(line, since)| (line, since.elapsed()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).waiting.is_empty()
    }

    /// Runs no further hook. Returns the one that runs, with its age, and those that never will.
    pub(super) fn give_up(&self) -> (Option<(&'static Location<'static>, Duration)>, Vec<Hook>) {
        let mut state = lock(&self.0);
        let running = state.running.take().map(|(line, since)| (line, since.elapsed()));
        (running, std::mem::take(&mut state.waiting))
    }
}

// Where the cleanup hooks run: on a runtime of their own, which works whatever state the program's
// runtime is in.

/// The hooks while they run.
pub(super) struct RunningHooks {
    ended: oneshot::Receiver<()>,
    /// A task of the program's own runtime: it runs at once, unless all of its threads are blocked.
    probe: JoinHandle<()>,
}

/// Starts to run the hooks; `None`: there are none.
///
/// They run on a thread and a runtime of their own: so they can sleep, connect and spawn even while
/// every worker of the program is blocked, and a hook that blocks does not block the sentinel.
pub(super) fn start(shared: &Arc<Shared>) -> Option<RunningHooks> {
    if shared.hooks.is_empty() {
        return None;
    }
    let probe = shared.runtime().spawn(std::future::ready(()));
    let (done, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("graceful-cleanup".to_owned());
    let hooks = shared.clone();
    let spawned = thread.spawn(move || match build(&hooks) {
        Ok(runtime) => run_all(&hooks, runtime, done),
        Err(error) => {
            messages::cleanup_impossible(&hooks.log, &error);
            // In this order: `ended` resolves after that is said.
            drop(done);
        }
    });
    if let Err(error) = spawned {
        // `done` was dropped with the closure: that is what `ended` resolves with.
        messages::cleanup_impossible(&shared.log, &error);
    }
    Some(RunningHooks { ended, probe })
}

impl RunningHooks {
    /// Resolves with whether they have run, the last of them to its end or not. Not to be asked
    /// again then.
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

/// Runs no further hook. Returns the one that runs, and those that never will, which have the age
/// 0.
pub(super) fn give_up(shared: &Arc<Shared>) -> Vec<InFlight> {
    let (running, waiting) = shared.hooks.give_up();
    let lines: Vec<_> = waiting.iter().rev().map(|hook| (hook.line, Duration::ZERO)).collect();
    drop_elsewhere(shared, waiting);
    let all = running.into_iter().chain(lines);
    all.map(|(line, age)| InFlight::Hook { name: line.to_string(), age }).collect()
}

/// Drops on a thread of its own: what a future owns may block when it is dropped, and the sentinel,
/// which owns the limits, cannot wait for it. If no thread can be had, nothing is dropped.
fn drop_elsewhere(shared: &Arc<Shared>, waiting: Vec<Hook>) {
    if waiting.is_empty() {
        return;
    }
    let waiting = std::mem::ManuallyDrop::new(waiting);
    let shared = shared.clone();
    let thread = std::thread::Builder::new().name("graceful-cleanup".to_owned());
    // A panic in there is told by the panic hook.
    let _ = thread.spawn(move || {
        let _runtime = shared.runtime().enter();
        shared.enter_context(Scope::Program);
        drop(std::mem::ManuallyDrop::into_inner(waiting));
    });
}

/// Runs the hooks on this thread, one after the other, until there is none left or they are given
/// up.
fn run_all(shared: &Arc<Shared>, runtime: Runtime, done: oneshot::Sender<()>) {
    shared.enter_context(Scope::Cleanup);
    // Set once: this is the only place.
    let _ = shared.cleanup.runtime.set(runtime.handle().clone());
    while let Some(Hook { line, future }) = shared.hooks.next() {
        // The phase first: what has been given up is not polled again, but dropped here, where its
        // timers are.
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
    // What the hooks have spawned is driven until the sentinel has seen to it.
    runtime.block_on(shared.phase.reached(Phase::Over));
    if !shared.cleanup.work.is_none() {
        // Cut in this moment. The sentinel waits for them; this only gives them the same time.
        std::thread::sleep(LET_GO);
    }
    if shared.cleanup.work.is_none() {
        runtime.shutdown_background();
    } else {
        // As for the program's runtime: see `AnyRuntime::end`.
        std::mem::forget(runtime);
    }
}

/// A failure of the stop, before its end is said: so that it is in the report.
fn hook_failed(shared: &Shared, line: &Location<'_>, failure: Failure) {
    shared.tell(Event::Failed(failure.context(&format!("hook {line}"))));
}

fn build(shared: &Arc<Shared>) -> io::Result<Runtime> {
    #[cfg(feature = "test-util")]
    if shared.cleanup.is_paused.load(std::sync::atomic::Ordering::Relaxed) {
        return Builder::new_current_thread().enable_all().start_paused(true).build();
    }
    // With a worker: what a hook has spawned goes on while it blocks.
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().thread_name("graceful-cleanup");
    // Weak: the runtime keeps this closure.
    let shared = Arc::downgrade(shared);
    builder.on_thread_start(move || {
        if let Some(shared) = shared.upgrade() {
            shared.enter_context(Scope::Cleanup);
        }
    });
    threads_can_be_had(1)?;
    builder.build()
}

// Values that outlive the report.

/// What the program has handed over to be dropped at the very end, the last first.
pub(crate) struct Kept(Mutex<KeptValues>);

struct KeptValues {
    values: Vec<Value>,
    /// What is being dropped, by its type.
    dropping: Option<&'static str>,
    /// All have been dropped: what comes now is not kept.
    is_over: bool,
}

struct Value {
    type_name: &'static str,
    value: Box<dyn Any + Send>,
}

/// By their types.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) dropping: Option<&'static str>,
    /// In the order in which they would have been dropped.
    pub(super) waiting: Vec<&'static str>,
}

impl Kept {
    pub(super) fn new() -> Self {
        Self(Mutex::new(KeptValues { values: Vec::new(), dropping: None, is_over: false }))
    }

    pub(crate) fn push<T: Send + 'static>(&self, value: T) {
        let value = Value { type_name: std::any::type_name::<T>(), value: Box::new(value) };
        let late = {
            let mut state = lock(&self.0);
            if state.is_over {
                Some(value)
            } else {
                state.values.push(value);
                None
            }
        };
        // Outside of the lock, as all of them.
        drop(late);
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).values.is_empty()
    }

    /// Drops all of them. One that panics has said so, and the next one is dropped all the same.
    pub(crate) fn drop_all(&self) {
        loop {
            let Some(value) = self.pop() else {
                return;
            };
            let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
        }
    }

    /// Those that have not been dropped.
    pub(super) fn left(&self) -> Left {
        let state = lock(&self.0);
        let waiting = state.values.iter().rev().map(|value| value.type_name).collect();
        Left { dropping: state.dropping, waiting }
    }

    fn pop(&self) -> Option<Box<dyn Any + Send>> {
        let mut state = lock(&self.0);
        let value = state.values.pop();
        state.is_over = value.is_none();
        state.dropping = value.as_ref().map(|value| value.type_name);
        value.map(|value| value.value)
    }
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::{Kept, Left};

    #[test]
    fn what_is_left_is_known_by_its_types() {
        struct Looks(Arc<Kept>, mpsc::Sender<Left>);
        impl Drop for Looks {
            fn drop(&mut self) {
                self.1.send(self.0.left()).unwrap();
            }
        }
        let looks = std::any::type_name::<Looks>();
        let nothing = || Left { dropping: None, waiting: vec![] };
        let (to_test, seen) = mpsc::channel();
        let kept = Arc::new(Kept::new());
        assert_eq!((kept.left(), kept.is_empty()), (nothing(), true));
        kept.push(1_u8);
        kept.push(Looks(kept.clone(), to_test));
        assert_eq!(kept.left(), Left { dropping: None, waiting: vec![looks, "u8"] });
        assert!(!kept.is_empty());
        kept.drop_all();
        assert_eq!(seen.try_recv(), Ok(Left { dropping: Some(looks), waiting: vec!["u8"] }));
        // What comes late is dropped at once.
        kept.push(2_u8);
        assert_eq!((kept.left(), kept.is_empty()), (nothing(), true));
    }
}
