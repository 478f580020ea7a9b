//! Runs what hyper spawns for an HTTP/2 connection: a task for each stream, and one for each stream
//! that has been upgraded.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
};

use hyper::rt::Executor;

use super::{held::Held, http2::RequestGuard};
use crate::context::InContext;

thread_local! {
    /// The guard of a request that is being upgraded on this thread. hyper spawns the task of the
    /// upgraded stream within the same poll in which the service's future became ready.
    static UPGRADING: Cell<Option<RequestGuard>> = const { Cell::new(None) };
}

/// Hands the guard over to the task of the upgraded stream.
pub(crate) fn hand_over(guard: RequestGuard) {
    UPGRADING.set(Some(guard));
}

/// Spawns so that the connection counts as held while the task runs, and the cut aborts it.
#[derive(Clone, Debug)]
pub(crate) struct Exec(pub(crate) Held);

impl<F> Executor<F> for Exec
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let held = self.0.clone();
        let (slot, place) = held.conn().streams().task();
        let guard = TaskGuard { slot, held, _upgraded: UPGRADING.take() };
        let handle = &self.0.conn().handle;
        let join = handle.runtime().spawn(InContext::new(handle, async move {
            let _guard = guard;
            let mut future = pin!(future);
            poll_fn(|cx| {
                let poll = future.as_mut().poll(cx);
                // Not taken: hyper has turned the upgrade down.
                drop(UPGRADING.take());
                poll
            })
            .await;
        }));
        let conn = self.0.conn();
        conn.streams().task_spawned(&place, join.abort_handle(), &conn.handle.shared().phase);
    }
}

struct TaskGuard {
    slot: usize,
    held: Held,
    _upgraded: Option<RequestGuard>,
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.held.conn().task_ended(self.slot);
    }
}
