//! Cleanup hooks: kept until the drain is over, last in first out.

use std::{
    future::Future,
    panic::Location,
    pin::Pin,
    time::{Duration, Instant},
};

use crate::util::{
    Failure,
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
