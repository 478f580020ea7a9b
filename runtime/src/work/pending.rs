//! Counts the work that the drain still waits for: the last piece to end wakes the waiter.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use crate::util::sync::{AtomicUsize, AtomicWaker, Ordering, fence, register};

/// Counts work, and wakes one waiter, the sentinel, when none is left.
///
/// Running work that is not worth waiting for removes itself, and adds itself again before it
/// checks the phase: either the waiter sees it, or it sees that the drain is over.
///
/// Each piece of work adds one before it becomes visible to other threads, and removes it when its
/// guard is dropped. Work that starts other work (an accept loop its connections, a task its
/// children) adds the child before its own guard is dropped, so the count cannot reach zero in
/// between.
#[derive(Debug)]
pub(crate) struct Pending {
    count: AtomicUsize,
    waiter: AtomicWaker,
}

impl Pending {
    pub(crate) fn new() -> Self {
        Self { count: AtomicUsize::new(0), waiter: AtomicWaker::new() }
    }

    pub(crate) fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `poll_none`: either a caller that checks the phase after this
        // sees what the waiter stored before its check, or the waiter sees this work.
        fence(Ordering::SeqCst);
    }

    pub(crate) fn remove(&self) {
        // Release: everything that this piece of work did happens before the waiter sees zero. The
        // waiter acquires in `poll_none`. Only the last piece pays for the wake-up.
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waiter.wake();
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn poll_none(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Registered before the check, so that a `remove` that the check misses finds the waker.
        register(&self.waiter, cx.waker());
        fence(Ordering::SeqCst);
        // Acquire: pairs with the release of the last `remove`.
        if self.count.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits until there is no work.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. There may be only one waiter at a time: the sentinel.
    pub(crate) async fn none(&self) {
        poll_fn(|cx| self.poll_none(cx)).await;
    }
}

#[cfg(all(test, graceful_loom))]
mod loom_models {
    use loom::{future::block_on, sync::Arc, thread};

    use super::Pending;

    /// A handshake that is no longer waited for completes while the drain ends: it is waited for
    /// again, or turned away.
    #[test]
    fn loom_what_comes_back_is_waited_for_or_turned_away() {
        use loom::sync::atomic::{AtomicBool, Ordering};
        loom::model(|| {
            let pending = Arc::new(Pending::new());
            let (over, served) =
                (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let handshake = {
                let (pending, over, served) = (pending.clone(), over.clone(), served.clone());
                thread::spawn(move || {
                    pending.add();
                    let begins = !over.load(Ordering::Relaxed);
                    served.store(begins, Ordering::Relaxed);
                    pending.remove();
                    begins
                })
            };
            block_on(pending.none());
            // As `Phase::Cleanup`.
            over.store(true, Ordering::Relaxed);
            block_on(pending.none());
            let was_served = served.load(Ordering::Relaxed);
            assert_eq!(handshake.join().unwrap(), was_served, "begun, and not waited for");
        });
    }

    /// An accept loop that ends while its connection is still running, against the waiter.
    #[test]
    fn loom_last_one_out_wakes_the_waiter() {
        loom::model(|| {
            let pending = Arc::new(Pending::new());
            pending.add();
            let accept_loop = {
                let pending = pending.clone();
                thread::spawn(move || {
                    pending.add();
                    let connection = {
                        let pending = pending.clone();
                        thread::spawn(move || pending.remove())
                    };
                    pending.remove();
                    connection.join().unwrap();
                })
            };
            block_on(pending.none());
            assert_eq!(pending.count(), 0);
            accept_loop.join().unwrap();
        });
    }
}
