//! The futures that resolve as a stop goes on: at the first signal, and when the drain starts.

use std::{
    fmt::{self, Display},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tokio::sync::futures::OwnedNotified;

use super::{current, free::shutdown, handle::Handle};
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
pub struct Shutdown(Reached);

impl Shutdown {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        // Once is enough: where it goes from here, into a task or a framework's server, is up to
        // `main`.
        if current::in_main() {
            shared.note_main_asked();
        }
        Self(Reached::new(shared, Phase::Draining))
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
        Self::new(self.0.shared.clone())
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("has_started", &self.has_started()).finish()
    }
}

/// A future that resolves at the first stop signal, before the `delay`; made by
/// [`stopping`](crate::stopping).
///
/// It is as [`Shutdown`] in all else.
///
/// # Cancel safety
///
/// Cancel safe: it holds nothing but its wait.
#[must_use = "futures do nothing unless polled"]
#[derive(Clone)]
pub struct Stopping(Reached);

impl Stopping {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(Reached::new(shared, Phase::Stopping))
    }

    /// Whether the first stop signal has come.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.0.is_reached()
    }
}

impl Future for Stopping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopping").field("has_started", &self.has_started()).finish()
    }
}

/// The wait for a phase, in a form that owns all it needs.
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
            // The wait exists before the check, so that no change slips in between.
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

impl Clone for Reached {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone(), self.phase)
    }
}

// Streams and futures that end when the drain starts.

/// Ends a stream or a future when the drain starts.
///
/// - A **stream** ends then: for responses that would never end by themselves, such as server-sent
///   events. What it has ready in that moment is not sent any more.
/// - A **future** is dropped then, and its output is `None`. One that is ready in that moment is
///   taken all the same, as `Some`. What it was waiting for should be safe to give up: see the
///   "cancel safety" of what it awaits.
///
/// Call it where the context is, such as in the handler; the result may be polled anywhere.
///
/// # Panics
///
/// Outside of a context, as [`Handle::current`](crate::Handle::current).
///
/// # Examples
///
/// ```no_run
/// use axum::response::sse::{Event, Sse};
/// # use futures_core::Stream;
/// # use std::convert::Infallible;
/// # fn ticks() -> impl Stream<Item = Result<Event, Infallible>> {
/// #     futures_util::stream::repeat_with(|| Ok(Event::default())) }
///
/// async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
///     Sse::new(graceful::until_shutdown(ticks()))
/// }
/// ```
///
/// ```no_run
/// # async fn next_job() -> u32 { 0 }
/// # async fn work(_: u32) {}
/// #[graceful::main]
/// async fn main() {
///     while let Some(job) = graceful::until_shutdown(next_job()).await {
///         work(job).await;
///     }
/// }
/// ```
#[track_caller]
pub fn until_shutdown<S>(inner: S) -> UntilShutdown<S> {
    UntilShutdown { inner: Some(inner), shutdown: shutdown() }
}

pin_project! {
    /// A stream or a future that ends when the drain starts, made by [`until_shutdown`].
    #[must_use = "streams and futures do nothing unless polled"]
    pub struct UntilShutdown<S> {
        // `None` once it has ended: what it owns is dropped with that.
        #[pin]
        inner: Option<S>,
        shutdown: Shutdown,
    }
}

impl<F: Future> Future for UntilShutdown<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let mut this = self.project();
        let Some(future) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let output = match future.poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => {
                std::task::ready!(Pin::new(this.shutdown).poll(cx));
                None
            }
        };
        this.inner.set(None);
        Poll::Ready(output)
    }
}

impl<S: Stream> Stream for UntilShutdown<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut this = self.project();
        let Some(stream) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let item = match Pin::new(this.shutdown).poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => stream.poll_next(cx),
        };
        if let Poll::Ready(None) = item {
            this.inner.set(None);
        }
        item
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // It may end at any time.
        let most = self.inner.as_ref().map_or(Some(0), |stream| stream.size_hint().1);
        (0, most)
    }
}

impl<S: fmt::Debug> fmt::Debug for UntilShutdown<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntilShutdown").field("inner", &self.inner).finish_non_exhaustive()
    }
}

// A server that was made and then dropped, as by a semicolon behind it.

/// Part of each server. Dropped before the server is bound it leaves a note, for a program that
/// then ends with nothing to serve.
pub(crate) struct Unserved(Option<String>);

impl Unserved {
    pub(crate) fn new(server: &impl Display) -> Self {
        Self(Some(server.to_string()))
    }

    /// It has got where it belongs.
    pub(crate) fn served(mut self) {
        self.0 = None;
    }
}

impl Drop for Unserved {
    fn drop(&mut self) {
        if let (Some(server), Some(handle)) = (self.0.take(), Handle::try_current()) {
            handle.shared().note_unserved(server);
        }
    }
}
