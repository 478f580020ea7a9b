//! The context of the current thread, which the free functions act on.
//!
//! Under `Config::run`, it is set once on each thread of the runtime. Under `Config::start`, the
//! threads belong to another program, so each future of this crate sets it for the duration of its
//! polls.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::task::JoinHandle;

use crate::{
    stop::{Propagation, Scope, Shared},
    work::{self, Role, TaskName, WorkItem},
};

thread_local! {
    static CURRENT: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
    static IN_MAIN: Cell<bool> = const { Cell::new(false) };
    static SCOPE: Cell<Scope> = const { Cell::new(Scope::Program) };
}

/// Returns the scope of this thread.
pub(super) fn scope() -> Scope {
    SCOPE.try_with(Cell::get).unwrap_or(Scope::Program)
}

/// Makes `shared` the context of this thread for the rest of the thread's life.
pub(crate) fn adopt(shared: Arc<Shared>, scope: Scope) {
    CURRENT.set(Some(shared));
    SCOPE.set(scope);
}

/// Makes `shared` the context of this thread until the guard is dropped.
pub(crate) fn enter(shared: Arc<Shared>) -> Entered {
    Entered(CURRENT.replace(Some(shared)))
}

/// The previous context, restored on drop.
#[must_use]
pub(crate) struct Entered(Option<Arc<Shared>>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

pub(super) fn current() -> Option<Arc<Shared>> {
    // A thread that is being torn down no longer has a context.
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// # Panics
///
/// Panics if called outside of a context.
#[track_caller]
pub(super) fn expect_current() -> Arc<Shared> {
    current().expect(
        "no graceful context here: this runs neither under `#[graceful::main]`, nor in a server or a \
         task of `graceful::spawn` under `Config::start`; on a thread of your own, move a \
         `graceful::Handle` in",
    )
}

/// Returns whether the body of `main` is being polled on this thread.
pub(super) fn in_main() -> bool {
    IN_MAIN.try_with(Cell::get).unwrap_or(false)
}

/// Runs `f` as the body of `main`.
pub(crate) fn as_main<T>(f: impl FnOnce() -> T) -> T {
    struct Leave(bool);
    impl Drop for Leave {
        fn drop(&mut self) {
            IN_MAIN.set(self.0);
        }
    }
    let _leave = Leave(IN_MAIN.replace(true));
    f()
}

pin_project! {
    /// A future that has its context wherever it is polled or dropped.
    pub(crate) struct InContext<F> {
        // `None` if the runtime's threads carry the context.
        shared: Option<Arc<Shared>>,
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for InContext<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _entered = this.shared.take().map(enter);
            this.future.set(None);
        }
    }
}

impl<F> InContext<F> {
    pub(crate) fn new(shared: &Arc<Shared>, future: F) -> Self {
        // The handlers of a server in a group hear of the drain when it is the group's turn.
        let found = if shared.is_in_group() { shared } else { shared.program() };
        let is_carried = shared.is_in_group() || shared.propagation() == Propagation::Futures;
        let shared = is_carried.then(|| found.clone());
        Self { shared, future: Some(future) }
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // `None` only while it is being dropped.
        let Some(future) = this.future.as_pin_mut() else {
            return Poll::Pending;
        };
        // Polled in one place, so that it can be inlined.
        let _entered = this.shared.as_ref().map(|shared| enter(shared.clone()));
        future.poll(cx)
    }
}

/// Spawns a task of the program, whatever the scope of the calling code. Also returns its entry in
/// the table of work.
pub(super) fn spawn<F>(
    shared: &Arc<Shared>,
    name: TaskName,
    future: F,
) -> (JoinHandle<F::Output>, Arc<dyn WorkItem>)
where
    F: Future<Output: Send> + Send + 'static,
{
    let future = InContext::new(shared, future);
    work::spawn(&shared.work, Role::Task, name, future, |task| shared.runtime().spawn(task))
}
