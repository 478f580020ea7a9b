//! Futures that resolve during a stop: at the first signal, or when the drain starts.

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

/// A future that resolves during a stop. If created by [`shutdown`](crate::shutdown), it resolves
/// when the drain starts, once the `delay` is over; if created by [`stopping`](crate::stopping), at
/// the first signal.
///
/// It is `Clone`, `'static` and `Unpin`, resolves immediately if that moment has passed, and may be
/// polled again after it has resolved.
///
/// # Cancel safety
///
/// This future is cancel safe: it holds no state but the wait itself.
#[must_use = "futures do nothing unless polled"]
pub struct Shutdown(Reached);

impl Shutdown {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        // Noting it once is enough: `main` decides where the future goes from here, such as into a
        // task or a framework's server.
        if current::in_main() {
            shared.note_main_asked();
        }
        Self(Reached::new(shared, Phase::Draining))
    }

    pub(super) fn stopping(shared: Arc<Shared>) -> Self {
        Self(Reached::new(shared, Phase::Stopping))
    }

    /// Returns whether that moment has come, for loops that never await.
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
        self.0.is_reached()
    }
}

impl Future for Shutdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}

impl Clone for Shutdown {
    fn clone(&self) -> Self {
        match self.0.phase {
            Phase::Stopping => Self::stopping(self.0.shared.clone()),
            _ => Self::new(self.0.shared.clone()),
        }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("has_started", &self.has_started()).finish()
    }
}

/// An owned wait for a phase.
struct Reached {
    shared: Arc<Shared>,
    phase: Phase,
    wait: Option<Pin<Box<OwnedNotified>>>,
}

impl Reached {
    fn new(shared: Arc<Shared>, phase: Phase) -> Self {
        Self { shared, phase, wait: None }
    }

    fn is_reached(&self) -> bool {
        self.shared.phase.now() >= self.phase
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // Created before the check, so that no change is missed.
            let changed = self.shared.phase.changed();
            self.wait.get_or_insert_with(|| Box::pin(changed.notified_owned()));
            if self.is_reached() {
                self.wait = None;
                return Poll::Ready(());
            }
            match self.wait.as_mut().map(|wait| wait.as_mut().poll(cx)) {
                Some(Poll::Pending) => return Poll::Pending,
                Some(Poll::Ready(())) | None => self.wait = None,
            }
        }
    }
}
