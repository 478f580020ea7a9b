//! Combinators that wait for more than one future, without tokio's macros.
//!
//! These are types rather than `async fn`s, because they are nested, and the future of an
//! `async fn` contains its arguments twice.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;

/// The output of the future that was first.
pub(crate) enum First<A, B> {
    Left(A),
    Right(B),
}

/// Waits for the first of two futures; the left one wins a tie. The other one is dropped with the
/// returned future.
///
/// # Cancel safety
///
/// As cancel safe as both futures are.
pub(crate) fn race<A: Future, B: Future>(left: A, right: B) -> Race<A, B> {
    Race { left, right }
}

/// Waits for `future`, while `aside`, which never ends, is polled as well.
///
/// # Cancel safety
///
/// As cancel safe as both futures are.
pub(crate) fn beside<F, A>(future: F, aside: A) -> Beside<F, A>
where
    F: Future,
    A: Future<Output = Infallible>,
{
    Beside { race: race(future, aside) }
}

pin_project! {
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Race<A, B> {
        #[pin]
        left: A,
        #[pin]
        right: B,
    }
}

impl<A: Future, B: Future> Future for Race<A, B> {
    type Output = First<A::Output, B::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.left.poll(cx) {
            Poll::Ready(output) => Poll::Ready(First::Left(output)),
            Poll::Pending => this.right.poll(cx).map(First::Right),
        }
    }
}

pin_project! {
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Beside<F, A> {
        #[pin]
        race: Race<F, A>,
    }
}

impl<F: Future, A: Future<Output = Infallible>> Future for Beside<F, A> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().race.poll(cx).map(|first| match first {
            First::Left(output) => output,
            First::Right(never) => match never {},
        })
    }
}

/// Waits for `future` for at most `limit`, where `None` is no limit. Returns `None` if the limit
/// was reached first.
pub(crate) async fn within<F: Future>(limit: Option<Duration>, future: F) -> Option<F::Output> {
    match limit {
        None => Some(future.await),
        Some(limit) => tokio::time::timeout(limit, future).await.ok(),
    }
}
