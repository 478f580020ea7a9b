//! Groups of tasks stop one after another, the last made first.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
};

use crate::{
    util::sync::{Mutex, lock},
    work::InFlight,
};

/// Something that has its turn in the drain.
pub(crate) trait OrderedStop: Send + Sync {
    /// Its turn has come.
    fn begin(&self);

    /// Resolves when the next one may have its turn.
    fn over(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// All that wait for their turn.
pub(crate) struct StopOrder(Mutex<Order>);

struct Order {
    waiting: Vec<Weak<dyn OrderedStop>>,
    stage: Progress,
    /// Work that a group's own limit has cut.
    cut: Vec<InFlight>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// There has never been a group.
    Unused,
    /// A task waits for the drain, and gives each its turn then.
    Driven,
    /// All that there were have had it.
    Over,
}

impl StopOrder {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Order { waiting: Vec::new(), stage: Progress::Unused, cut: Vec::new() }))
    }

    /// Puts `turn` before all that are there. Returns whether it is the first ever: then somebody
    /// has to give them their turns.
    pub(super) fn add(&self, turn: &Arc<impl OrderedStop + 'static>) -> bool {
        let before = self.enter(turn);
        if before == Progress::Over {
            turn.begin();
        }
        before == Progress::Unused
    }

    /// Gives each its turn.
    pub(super) async fn give(&self) {
        while let Some(turn) = self.next() {
            turn.begin();
            turn.over().await;
        }
    }

    /// Returns how far they were before.
    fn enter(&self, turn: &Arc<impl OrderedStop + 'static>) -> Progress {
        let mut state = lock(&self.0);
        let before = state.stage;
        if before != Progress::Over {
            let turn: Arc<dyn OrderedStop> = turn.clone();
            state.waiting.push(Arc::downgrade(&turn));
            state.stage = Progress::Driven;
        }
        before
    }

    fn next(&self) -> Option<Arc<dyn OrderedStop>> {
        let mut state = lock(&self.0);
        loop {
            let Some(turn) = state.waiting.pop() else {
                state.stage = Progress::Over;
                return None;
            };
            // Nobody holds a group without tasks and handles.
            if let Some(turn) = turn.upgrade() {
                return Some(turn);
            }
        }
    }

    /// The limit of a group has been reached.
    pub(crate) fn note_cut(&self, cut: Vec<InFlight>) {
        lock(&self.0).cut.extend(cut);
    }

    pub(super) fn take_cut(&self) -> Vec<InFlight> {
        std::mem::take(&mut lock(&self.0).cut)
    }
}
