//! The body of a response: tells when its request is over.

use std::{
    io::IoSlice,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::service::RequestGuard;

/// What the two protocols do with a body.
pub(crate) trait Protocol: Send + Sync + 'static {
    const IS_HTTP2: bool;
    type Body<B: Body>: Body;

    /// `body` is `None` for an answer of our own without one; `guard` is `None` where the request has been
    /// handed on.
    fn wrap<B: Body>(body: Option<B>, guard: Option<RequestGuard>) -> Self::Body<B>;
}

pub(crate) struct Http1;

impl Protocol for Http1 {
    const IS_HTTP2: bool = false;
    type Body<B: Body> = Tracked<B>;

    fn wrap<B: Body>(body: Option<B>, guard: Option<RequestGuard>) -> Tracked<B> {
        Tracked { ended: body.as_ref().is_none_or(Body::is_end_stream), body, guard }
    }
}

pub(crate) struct Http2;

impl Protocol for Http2 {
    const IS_HTTP2: bool = true;
    type Body<B: Body> = Held<B>;

    fn wrap<B: Body>(body: Option<B>, guard: Option<RequestGuard>) -> Held<B> {
        let guard = guard.map(|guard| Arc::new(Mutex::new(guard)));
        // The guard of `Tracked` is not what counts here: pieces that are not written yet hold theirs.
        Held { body: Http1::wrap(body, None), guard }
    }
}

pin_project! {
    /// A service's body with the guard of its request. hyper drops it as soon as it has ended, and its
    /// flushes tell when the last byte is out.
    pub(crate) struct Tracked<B> {
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

impl<B: Body> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(mut body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = body.as_mut().poll_frame(cx);
        *this.ended = matches!(frame, Poll::Ready(None)) || body.is_end_stream();
        frame
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

pin_project! {
    /// A body for HTTP/2, which is handed to h2 long before its bytes are written: each piece of it
    /// holds on to the request.
    pub(crate) struct Held<B> {
        #[pin]
        body: Tracked<B>,
        guard: Option<Arc<Mutex<RequestGuard>>>,
    }

    impl<B> PinnedDrop for Held<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let (true, Some(guard)) = (*this.body.project().ended, this.guard) {
                guard.lock().unwrap_or_else(PoisonError::into_inner).complete();
            }
        }
    }
}

impl<B: Body> Body for Held<B> {
    type Data = Piece<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        let held = |data| Piece { data, _request: this.guard.clone() };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(held))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Data of a body, and the request that it answers.
pub(crate) struct Piece<D> {
    data: D,
    _request: Option<Arc<Mutex<RequestGuard>>>,
}

impl<D: Buf> Buf for Piece<D> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(to)
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        self.data.copy_to_bytes(len)
    }
}
