//! The order in which groups of tasks stop: one after another, the last created first.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
};

use crate::{
    util::sync::{Mutex, lock},
    work::InFlight,
};

/// Something that stops when it is its turn in the drain.
pub(crate) trait OrderedStop: Send + Sync {
    /// Called when its turn has come.
    fn begin(&self);

    /// Resolves when it is the next one's turn.
    fn over(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// A group whose turn is over when its last member has left.
pub(crate) trait Members: Send + Sync {
    fn enter(&self);

    fn leave(&self);
}

/// A member of a group, until dropped.
pub(crate) struct Membership(Arc<dyn Members>);

impl Membership {
    pub(super) fn new(members: &Arc<dyn Members>) -> Self {
        members.enter();
        Self(members.clone())
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// One that is not waited for, until dropped.
#[cfg(feature = "net")]
pub(crate) struct OnLeave(Arc<dyn Members>);

#[cfg(feature = "net")]
impl OnLeave {
    pub(super) fn new(members: &Arc<dyn Members>) -> Self {
        members.leave();
        Self(members.clone())
    }
}

#[cfg(feature = "net")]
impl Drop for OnLeave {
    fn drop(&mut self) {
        self.0.enter();
    }
}

/// Everything that waits for its turn.
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
    /// A task waits for the drain, and then gives each group its turn.
    Driven,
    /// Every group has had its turn.
    Over,
}

impl StopOrder {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Order { waiting: Vec::new(), stage: Progress::Unused, cut: Vec::new() }))
    }

    /// Adds `turn`, which stops before all others. Returns whether it is the first one ever: if so,
    /// the caller has to run `give`.
    pub(super) fn add(&self, turn: &Arc<impl OrderedStop + 'static>) -> bool {
        let before = self.enter(turn);
        if before == Progress::Over {
            turn.begin();
        }
        before == Progress::Unused
    }

    /// Gives each group its turn.
    pub(super) async fn give(&self) {
        while let Some(turn) = self.next() {
            turn.begin();
            turn.over().await;
        }
    }

    /// Adds `turn`, unless all turns are over. Returns the progress before that.
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
            // A group without tasks and handles is gone.
            if let Some(turn) = turn.upgrade() {
                return Some(turn);
            }
        }
    }

    /// Notes the work that the limit of a group has cut.
    pub(crate) fn note_cut(&self, cut: Vec<InFlight>) {
        lock(&self.0).cut.extend(cut);
    }

    pub(super) fn take_cut(&self) -> Vec<InFlight> {
        std::mem::take(&mut lock(&self.0).cut)
    }
}
