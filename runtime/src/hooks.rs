//! Cleanup hooks: kept until the drain is over, last in first out.

use std::{
    future::Future,
    panic::Location,
    pin::Pin,
    time::{Duration, Instant},
};

use crate::{
    context,
    handle::Handle,
    in_flight::InFlight,
    sync::{Mutex, lock},
};

/// The hooks that have not run yet, and the one that runs.
#[derive(Default)]
pub(crate) struct Hooks(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: Vec<Hook>,
    running: Option<(&'static Location<'static>, Instant)>,
}

pub(crate) struct Hook {
    pub(crate) line: &'static Location<'static>,
    pub(crate) future: Pin<Box<dyn Future<Output = ()> + Send>>,
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

    /// The next one, which runs from now on.
    pub(crate) fn next(&self) -> Option<Hook> {
        let mut state = lock(&self.0);
        let hook = state.waiting.pop();
        state.running = hook.as_ref().map(|hook| (hook.line, Instant::now()));
        hook
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).waiting.is_empty()
    }

    /// Runs no further hook. Returns the one that runs, and those that never will, which have the age 0.
    pub(crate) fn give_up(&self, handle: &Handle) -> Vec<InFlight> {
        let (running, waiting) = {
            let mut state = lock(&self.0);
            (state.running.take(), std::mem::take(&mut state.waiting))
        };
        let running = running.map(|(line, since)| (line, since.elapsed()));
        let lines: Vec<_> = waiting.iter().rev().map(|hook| (hook.line, Duration::ZERO)).collect();
        drop_elsewhere(handle, waiting);
        let all = running.into_iter().chain(lines);
        all.map(|(line, age)| InFlight::Hook { name: line.to_string(), age }).collect()
    }
}

/// Drops on a thread of its own: what a future owns may take its time to let go, and whoever holds the
/// limits cannot wait for it. Where there is no thread to be had, nothing is dropped.
fn drop_elsewhere(handle: &Handle, waiting: Vec<Hook>) {
    if waiting.is_empty() {
        return;
    }
    let waiting = std::mem::ManuallyDrop::new(waiting);
    let handle = handle.clone();
    let thread = std::thread::Builder::new().name("graceful-cleanup".to_owned());
    // A panic in there is told by the panic hook.
    let _ = thread.spawn(move || {
        let _runtime = handle.runtime().enter();
        let _context = context::enter(handle.clone());
        drop(std::mem::ManuallyDrop::into_inner(waiting));
    });
}
