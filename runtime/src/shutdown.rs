//! The future that resolves when the drain starts.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
};

use tokio::sync::futures::OwnedNotified;

use crate::{context, handle::Handle, phase::Phase};

/// A future that resolves when the drain starts, once the `delay` is over; made by
/// [`shutdown`](crate::shutdown).
///
/// It is `Clone`, `'static` and `Unpin`, resolves at once when the drain has already started, and may
/// be polled again after it has resolved.
///
/// # Cancel safety
///
/// Cancel safe: it holds nothing but its wait.
#[must_use = "futures do nothing unless polled"]
pub struct Shutdown {
    handle: Handle,
    /// Whether this is counted as held by the body of `main`.
    held_by_main: AtomicBool,
    wait: Option<Pin<Box<OwnedNotified>>>,
}

impl Shutdown {
    pub(crate) fn new(handle: Handle) -> Self {
        let held_by_main = context::in_main();
        if held_by_main {
            handle.shared().main_holds.fetch_add(1, Ordering::SeqCst);
        }
        Self { handle, held_by_main: AtomicBool::new(held_by_main), wait: None }
    }

    /// Whether the drain has started: what a loop that never awaits may look at.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let running = graceful::Config::new().start(()).await.unwrap();
    /// assert!(!running.handle().shutdown().has_started());
    /// # }
    /// ```
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.handle.shared().phase.is_draining()
    }

    /// `main` has handed this to somebody else: then it says nothing about `main` any more.
    fn leave_main(&self) {
        if self.held_by_main.swap(false, Ordering::SeqCst) {
            self.handle.shared().main_holds.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Future for Shutdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !context::in_main() {
            self.leave_main();
        }
        loop {
            // The wait exists before the check, so that no change slips in between.
            let phase = &self.handle.shared().phase;
            let changed = phase.changed();
            let this = &mut *self;
            let wait = this.wait.get_or_insert_with(|| Box::pin(changed.notified_owned()));
            if this.handle.shared().phase.now() >= Phase::Draining {
                this.wait = None;
                return Poll::Ready(());
            }
            match wait.as_mut().poll(cx) {
                Poll::Ready(()) => this.wait = None,
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Clone for Shutdown {
    fn clone(&self) -> Self {
        Self::new(self.handle.clone())
    }
}

impl Drop for Shutdown {
    fn drop(&mut self) {
        self.leave_main();
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("has_started", &self.has_started()).finish()
    }
}
