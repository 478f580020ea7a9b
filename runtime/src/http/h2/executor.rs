//! Runs what hyper spawns for an HTTP/2 connection: a task for each stream, and one for each stream
//! that has been upgraded.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
};

use hyper::rt::Executor;

use super::guard::RequestGuard;
use crate::{
    context::InContext,
    http::conn::HttpConn,
    net::{ConnGuard, GuardedConn},
};

thread_local! {
    /// The guard of a request that is being upgraded on this thread. hyper spawns the task of the
    /// upgraded stream within the same poll in which the service's future became ready.
    static UPGRADING: Cell<Option<RequestGuard>> = const { Cell::new(None) };
}

/// Hands the guard over to the task of the upgraded stream.
pub(super) fn hand_over(guard: RequestGuard) {
    UPGRADING.set(Some(guard));
}

/// Spawns so that the connection counts as held while the task runs, and the cut aborts it.
#[derive(Clone, Debug)]
pub struct ConnExecutor(pub(in crate::http) ConnGuard<HttpConn>);

impl<F> Executor<F> for ConnExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let conn = self.0.conn();
        let (slot, place) = conn.streams().task();
        let guard = StreamTaskGuard { slot, conn: self.0.clone(), _upgraded: UPGRADING.take() };
        let shared = conn.core().shared();
        let join = shared.runtime().spawn(InContext::new(shared, async move {
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
        conn.streams().task_spawned(&place, join.abort_handle(), &shared.phase);
    }
}

struct StreamTaskGuard {
    slot: usize,
    conn: ConnGuard<HttpConn>,
    _upgraded: Option<RequestGuard>,
}

impl Drop for StreamTaskGuard {
    fn drop(&mut self) {
        self.conn.conn().stream_task_ended(self.slot);
    }
}
