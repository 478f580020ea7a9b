//! The body of a response: the service's, or none where the answer is our own.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    pub(crate) struct MaybeBody<B> {
        #[pin]
        body: Option<B>,
    }
}

impl<B> MaybeBody<B> {
    #[inline]
    pub(crate) fn new(body: B) -> Self {
        Self { body: Some(body) }
    }
}

/// An answer that the service is not asked for.
#[cold]
pub(crate) fn without_body<B>(status: StatusCode) -> Response<MaybeBody<B>> {
    let mut response = Response::new(MaybeBody { body: None });
    *response.status_mut() = status;
    response
}

impl<B: Body> Body for MaybeBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().body.as_pin_mut() {
            Some(body) => body.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        let empty = || SizeHint::with_exact(0);
        self.body.as_ref().map_or_else(empty, Body::size_hint)
    }
}
