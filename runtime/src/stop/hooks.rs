//! What the program leaves for the end of a stop: cleanup hooks, which run after the drain, and
//! values that outlive the report. Both are last in, first out.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    pin::Pin,
    time::{Duration, Instant},
};

use crate::util::{
    Failure,
    sync::{Mutex, lock},
};

/// The hooks that have not run yet, and the running one.
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

    /// Takes the next hook, which counts as running from now on.
    pub(crate) fn next(&self) -> Option<Hook> {
        let mut state = lock(&self.0);
        let hook = state.waiting.pop();
        state.running = hook.as_ref().map(|hook| (hook.line, Instant::now()));
        hook
    }

    /// Returns the running hook, and for how long it has been running.
    pub(super) fn running(&self) -> Option<(&'static Location<'static>, Duration)> {
        lock(&self.0).running.map(|(line, since)| (line, since.elapsed()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).waiting.is_empty()
    }

    /// Gives up all further hooks. Returns the running one, with its age, and those that will never
    /// run.
    pub(super) fn give_up(&self) -> (Option<(&'static Location<'static>, Duration)>, Vec<Hook>) {
        let mut state = lock(&self.0);
        let running = state.running.take().map(|(line, since)| (line, since.elapsed()));
        (running, std::mem::take(&mut state.waiting))
    }
}

// Values that outlive the report.

/// Values that are dropped at the very end, the last one first.
pub(crate) struct Kept(Mutex<KeptValues>);

struct KeptValues {
    values: Vec<Value>,
    /// The type of the value that is being dropped.
    dropping: Option<&'static str>,
    /// Whether all have been dropped: a value that comes now is not kept.
    is_over: bool,
}

struct Value {
    type_name: &'static str,
    value: Box<dyn Any + Send>,
}

/// The values that are left behind, by their types.
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
        // Dropped outside of the lock, like all values.
        drop(late);
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).values.is_empty()
    }

    /// Drops all values. If one panics, the panic hook has reported it, and the next one is still
    /// dropped.
    pub(crate) fn drop_all(&self) {
        loop {
            let Some(value) = self.pop() else {
                return;
            };
            let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
        }
    }

    /// Returns the types of the values that have not been dropped.
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
        // A value that is pushed late is dropped immediately.
        kept.push(2_u8);
        assert_eq!((kept.left(), kept.is_empty()), (nothing(), true));
    }
}
