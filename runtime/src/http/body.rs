//! The body of a response: tells when its request is over.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::service::RequestGuard;

pin_project! {
    /// A service's body with the guard of its request. hyper drops it as soon as it has ended.
    pub(crate) struct Tracked<B> {
        // `None`: an answer of our own, without a body.
        #[pin]
        body: Option<B>,
        ended: bool,
        guard: Option<RequestGuard>,
    }

    impl<B> PinnedDrop for Tracked<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let (true, Some(guard)) = (*this.ended, this.guard) {
                guard.complete();
            }
        }
    }
}

impl<B: Body> Tracked<B> {
    pub(crate) fn with(body: B, guard: Option<RequestGuard>) -> Self {
        Self { ended: body.is_end_stream(), body: Some(body), guard }
    }

    pub(crate) fn empty(guard: RequestGuard) -> Self {
        Self { body: None, ended: true, guard: Some(guard) }
    }
}

impl<B: Body> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(mut body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(body.as_mut().poll_frame(cx));
        *this.ended = frame.is_none() || body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let empty = || SizeHint::with_exact(0);
        self.body.as_ref().map_or_else(empty, Body::size_hint)
    }
}
