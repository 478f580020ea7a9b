//! Futures that resolve during a stop: at the first signal, or when the drain starts.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tokio::{sync::futures::OwnedNotified, time::Sleep};

use super::current;
use crate::stop::{Fraction, Phase, Shared};

/// A future that resolves during a stop. If created by [`shutdown`](crate::shutdown), it resolves
/// when the drain starts, once the `delay` is over, or in a connection at its moment of the
/// [`spread`](crate::Config::spread); if created by [`stopping`](crate::stopping), at
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
        Self(Reached::new(shared, Phase::Draining, None))
    }

    /// The same, told at the moment of this connection.
    #[cfg(feature = "net")]
    pub(crate) fn of_connection(shared: &Arc<Shared>, connection: Fraction) -> Self {
        Self(Reached::new(shared.clone(), Phase::Draining, Some(connection)))
    }

    pub(super) fn stopping(shared: Arc<Shared>) -> Self {
        Self(Reached::new(shared, Phase::Stopping, None))
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
        let Reached { shared, phase, connection, .. } = &self.0;
        match (phase, connection) {
            (Phase::Stopping, _) => Self::stopping(shared.clone()),
            (_, None) => Self::new(shared.clone()),
            (_, &connection) => Self(Reached::new(shared.clone(), *phase, connection)),
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
    /// The connection that is told, if that is known.
    connection: Option<Fraction>,
    wait: Option<Pin<Box<OwnedNotified>>>,
    /// Until the moment of the connection.
    moment: Option<Pin<Box<Sleep>>>,
}

impl Reached {
    fn new(shared: Arc<Shared>, phase: Phase, connection: Option<Fraction>) -> Self {
        Self { shared, phase, connection, wait: None, moment: None }
    }

    fn is_reached(&self) -> bool {
        self.shared.phase.now() >= self.phase
            && self.goodbye().is_none_or(|goodbye| goodbye <= Instant::now())
    }

    /// When the connection that this is for is told, if that is later.
    fn goodbye(&self) -> Option<Instant> {
        if self.phase == Phase::Stopping {
            return None;
        }
        match self.connection {
            Some(connection) => self.shared.goodbye(connection),
            None => self.shared.goodbye_of_this_task(),
        }
    }

    fn poll_reached(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.phase.now() < self.phase {
            return Poll::Pending;
        }
        let Some(goodbye) = self.goodbye() else { return Poll::Ready(()) };
        let sleep = || Box::pin(tokio::time::sleep_until(goodbye.into()));
        self.moment.get_or_insert_with(sleep).as_mut().poll(cx)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // Created before the check, so that no change is missed.
            let changed = self.shared.phase.changed();
            self.wait.get_or_insert_with(|| Box::pin(changed.notified_owned()));
            if self.poll_reached(cx).is_ready() {
                (self.wait, self.moment) = (None, None);
                return Poll::Ready(());
            }
            match self.wait.as_mut().map(|wait| wait.as_mut().poll(cx)) {
                Some(Poll::Pending) => return Poll::Pending,
                Some(Poll::Ready(())) | None => self.wait = None,
            }
        }
    }
}
