//! The future that resolves when the drain starts.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::futures::OwnedNotified;

use super::current;
use crate::stop::{Phase, Shared};

/// A future that resolves when the drain starts, once the `delay` is over; made by
/// [`shutdown`](crate::shutdown).
///
/// It is `Clone`, `'static` and `Unpin`, resolves at once when the drain has already started, and
/// may be polled again after it has resolved.
///
/// # Cancel safety
///
/// Cancel safe: it holds nothing but its wait.
#[must_use = "futures do nothing unless polled"]
pub struct Shutdown {
    shared: Arc<Shared>,
    wait: Option<Pin<Box<OwnedNotified>>>,
}

impl Shutdown {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        // Once is enough: where it goes from here, into a task or a framework's server, is up to
        // `main`.
        if current::in_main() {
            shared.note_main_asked();
        }
        Self { shared, wait: None }
    }

    /// Whether the drain has started: what a loop that never awaits may look at.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let running = graceful::Config::new().start(()).await.unwrap();
    /// assert!(!running.handle().shutdown().has_started());
    /// # }
    /// ```
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.shared.phase.is_draining()
    }
}

impl Future for Shutdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // The wait exists before the check, so that no change slips in between.
            let phase = &self.shared.phase;
            let changed = phase.changed();
            let this = &mut *self;
            let wait = this.wait.get_or_insert_with(|| Box::pin(changed.notified_owned()));
            if this.shared.phase.now() >= Phase::Draining {
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
        Self::new(self.shared.clone())
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("has_started", &self.has_started()).finish()
    }
}
