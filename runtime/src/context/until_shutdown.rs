//! Streams and futures that end when the drain starts.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::{free::shutdown, shutdown::Shutdown};

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
