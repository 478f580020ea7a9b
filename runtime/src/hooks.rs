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

    /// What the limit of the cleanup has cut: the hook that runs and those that never will.
    fn take_rest(&self) -> Vec<InFlight> {
        let mut state = lock(&self.0);
        let running = state.running.take().map(|(line, since)| (line, since.elapsed()));
        let waiting = state.waiting.drain(..).rev().map(|hook| (hook.line, Duration::ZERO));
        let all = running.into_iter().chain(waiting);
        all.map(|(line, age)| InFlight::Hook { name: line.to_string(), age }).collect()
    }
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
        return hooks.take_rest();
    }
    match within(limit, ended).await {
        Some(_) => Vec::new(),
        None => hooks.take_rest(),
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
