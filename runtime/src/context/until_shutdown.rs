//! Streams that end when the drain starts.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::{free::shutdown, shutdown::Shutdown};

/// Ends `stream` when the drain starts: for responses that would never end by themselves, such as
/// server-sent events. What the stream has ready in that moment is not sent any more.
///
/// Call it in the handler, where the context is; the stream may be polled anywhere.
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
#[track_caller]
pub fn until_shutdown<S: Stream>(stream: S) -> UntilShutdown<S> {
    UntilShutdown { stream: Some(stream), shutdown: shutdown() }
}

pin_project! {
    /// A stream that ends when the drain starts, made by [`until_shutdown`].
    #[must_use = "streams do nothing unless polled"]
    pub struct UntilShutdown<S> {
        // `None` once it has ended: what it owns is dropped with its last item.
        #[pin]
        stream: Option<S>,
        shutdown: Shutdown,
    }
}

impl<S: Stream> Stream for UntilShutdown<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut this = self.project();
        let Some(stream) = this.stream.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let item = match Pin::new(this.shutdown).poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => stream.poll_next(cx),
        };
        if let Poll::Ready(None) = item {
            this.stream.set(None);
        }
        item
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // It may end at any time.
        let most = self.stream.as_ref().map_or(Some(0), |stream| stream.size_hint().1);
        (0, most)
    }
}

impl<S: fmt::Debug> fmt::Debug for UntilShutdown<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntilShutdown").field("stream", &self.stream).finish_non_exhaustive()
    }
}
