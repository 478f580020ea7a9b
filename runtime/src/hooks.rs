//! Cleanup hooks: kept until the drain is over, then run one after the other, last in first out.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    context,
    handle::Handle,
    in_flight::InFlight,
    race::within,
    sync::{Mutex, lock},
    task::message_of,
};

/// The hooks that have not run yet, and the one that runs.
#[derive(Default)]
pub(crate) struct Hooks(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: Vec<Hook>,
    running: Option<(&'static Location<'static>, Instant)>,
}

struct Hook {
    line: &'static Location<'static>,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Hooks {
    pub(crate) fn push(
        &self,
        line: &'static Location<'static>,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        let future = Box::pin(future);
        lock(&self.0).waiting.push(Hook { line, future });
    }

    fn next(&self) -> Option<Hook> {
        let mut state = lock(&self.0);
        let hook = state.waiting.pop();
        state.running = hook.as_ref().map(|hook| (hook.line, Instant::now()));
        hook
    }

    fn is_empty(&self) -> bool {
        lock(&self.0).waiting.is_empty()
    }

    /// Runs no further hook. Returns the one that runs, and those that never will, which have the age 0.
    pub(crate) fn give_up(&self) -> Vec<InFlight> {
        let (running, waiting) = {
            let mut state = lock(&self.0);
            (state.running.take(), std::mem::take(&mut state.waiting))
        };
        let running = running.map(|(line, since)| (line, since.elapsed()));
        let lines: Vec<_> = waiting.iter().rev().map(|hook| (hook.line, Duration::ZERO)).collect();
        drop_elsewhere(waiting);
        let all = running.into_iter().chain(lines);
        all.map(|(line, age)| InFlight::Hook { name: line.to_string(), age }).collect()
    }
}

/// Drops on a thread of its own: what a future owns may take its time to let go, and whoever holds the
/// limits cannot wait for it. Where there is no thread to be had, nothing is dropped.
fn drop_elsewhere(waiting: Vec<Hook>) {
    if waiting.is_empty() {
        return;
    }
    let waiting = std::mem::ManuallyDrop::new(waiting);
    let thread = std::thread::Builder::new().name("graceful-cleanup".to_owned());
    // A panic in there is told by the panic hook.
    let _ = thread.spawn(move || drop(std::mem::ManuallyDrop::into_inner(waiting)));
}

/// Runs the hooks of `handle` within `limit` and returns those that did not make it.
///
/// They run on a thread of their own, inside the context of the runtime: so they run even while
/// every worker is blocked, and a hook that blocks is cut by the limit like any other.
pub(crate) async fn run(handle: &Handle, limit: Option<Duration>) -> Vec<InFlight> {
    let hooks = &handle.shared().hooks;
    if hooks.is_empty() {
        return Vec::new();
    }
    let (done, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("graceful-cleanup".to_owned());
    let spawned = thread.spawn({
        let handle = handle.clone();
        move || {
            run_all(&handle);
            // The sentinel may have given up waiting: then nobody wants to know.
            let _ = done.send(());
        }
    });
    if let Err(error) = spawned {
        handle.shared().log.cleanup_impossible(&error);
        return hooks.give_up();
    }
    match within(limit, ended).await {
        Some(_) => Vec::new(),
        None => hooks.give_up(),
    }
}

fn run_all(handle: &Handle) {
    let _entered = context::enter(handle.clone());
    let shared: Arc<_> = handle.shared().clone();
    while let Some(Hook { line, future }) = shared.hooks.next() {
        let run = AssertUnwindSafe(|| handle.runtime().block_on(future));
        if let Err(panic) = catch_unwind(run) {
            shared.log.hook_panicked(&line.to_string(), &message_of(&*panic));
        }
    }
}
