//! Which context the current thread is in: the `Handle` that the free functions act on.
//!
//! Under `Config::run` it is set once on each thread of the runtime. Under `Config::start` the
//! threads belong to somebody else, so each future of ours carries it in and out of its polls.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::handle::Handle;

thread_local! {
    static CURRENT: RefCell<Option<Handle>> = const { RefCell::new(None) };
    static IN_MAIN: Cell<bool> = const { Cell::new(false) };
    static PLACE: Cell<Place> = const { Cell::new(Place::Program) };
}

/// Where in the life of a process a piece of code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the runtime of the program: until the limit.
    Program,
    /// On that of the cleanup hooks: until theirs.
    Cleanup,
}

/// Which place this thread belongs to.
pub(crate) fn place() -> Place {
    PLACE.try_with(Cell::get).unwrap_or(Place::Program)
}

/// Makes `handle` the current one for the rest of this thread's life.
pub(crate) fn adopt(handle: Handle, place: Place) {
    CURRENT.set(Some(handle));
    PLACE.set(place);
}

/// Makes `handle` the current one until the guard is dropped.
pub(crate) fn enter(handle: Handle) -> Entered {
    Entered(CURRENT.replace(Some(handle)))
}

/// What was current before, to be put back.
#[must_use]
pub(crate) struct Entered(Option<Handle>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

pub(crate) fn current() -> Option<Handle> {
    // A thread that is being torn down has no context any more.
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Whether the body of `main` is being polled on this thread.
pub(crate) fn in_main() -> bool {
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
    /// A future that finds its context wherever it is polled, and where it is dropped.
    pub(crate) struct InContext<F> {
        // `None` where the runtime's threads carry the context.
        handle: Option<Handle>,
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for InContext<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _entered = this.handle.take().map(enter);
            this.future.set(None);
        }
    }
}

impl<F> InContext<F> {
    pub(crate) fn new(handle: &Handle, future: F) -> Self {
        let handle = (!handle.shared().owns_threads).then(|| handle.clone());
        Self { handle, future: Some(future) }
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // Only a drop takes it.
        let Some(future) = this.future.as_pin_mut() else {
            return Poll::Pending;
        };
        match this.handle {
            None => future.poll(cx),
            Some(handle) => {
                let _entered = enter(handle.clone());
                future.poll(cx)
            }
        }
    }
}
