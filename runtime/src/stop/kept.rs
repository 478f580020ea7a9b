//! Values that outlive the report.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::util::sync::{Mutex, lock};

/// What the program has handed over to be dropped at the very end, the last first.
pub(crate) struct Kept(Mutex<State>);

struct State {
    values: Vec<Box<dyn Any + Send>>,
    /// All have been dropped: what comes now is not kept.
    is_over: bool,
}

impl Kept {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { values: Vec::new(), is_over: false }))
    }

    pub(crate) fn push(&self, value: Box<dyn Any + Send>) {
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

    fn pop(&self) -> Option<Box<dyn Any + Send>> {
        let mut state = lock(&self.0);
        let value = state.values.pop();
        state.is_over = value.is_none();
        value
    }
}
