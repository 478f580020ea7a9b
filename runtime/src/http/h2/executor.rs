//! Runs what hyper spawns for an HTTP/2 connection: a task for each stream, and one for each stream
//! that has been upgraded.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;

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
        let slot = conn.streams().task();
        let upgraded = UPGRADING.take();
        let held = Held { slot, conn: self.0.clone(), upgraded };
        let shared = conn.core().shared();
        let join = shared.runtime().spawn(InContext::new(shared, StreamTask { future, held }));
        conn.stream_task_spawned(slot, join.abort_handle());
    }
}

pin_project! {
    /// What hyper has spawned. Not an async block, which has its future in it twice: once as it was
    /// given, and once where it is polled.
    struct StreamTask<F> {
        #[pin]
        future: F,
        // Dropped last.
        held: Held,
    }
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let poll = self.project().future.poll(cx);
        // Not taken: hyper has turned the upgrade down.
        drop(UPGRADING.take());
        poll
    }
}

/// Holds the connection for as long as the task exists.
struct Held {
    slot: usize,
    conn: ConnGuard<HttpConn>,
    upgraded: Option<RequestGuard>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // In this order: until its bytes are written, something is left.
        if let Some(guard) = self.upgraded.take() {
            guard.upgrade_ended();
        }
        self.conn.conn().stream_task_ended(self.slot);
    }
}
