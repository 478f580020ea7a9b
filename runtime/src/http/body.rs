//! The body of a response: tells when its request is over.

use std::{
    io::IoSlice,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Buf;
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
        guard: Option<Guard>,
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

/// HTTP/1 knows by its flushes when the last byte is out. An HTTP/2 body is handed to h2 long before
/// its bytes are: there each piece of it holds on to the request.
enum Guard {
    Whole(RequestGuard),
    Pieces(Arc<Mutex<RequestGuard>>),
}

impl Guard {
    fn new(guard: RequestGuard) -> Self {
        if guard.is_http2() {
            Self::Pieces(Arc::new(Mutex::new(guard)))
        } else {
            Self::Whole(guard)
        }
    }

    fn complete(&mut self) {
        match self {
            Self::Whole(guard) => guard.complete(),
            Self::Pieces(guard) => {
                guard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).complete();
            }
        }
    }

    fn piece(&self) -> Option<Arc<Mutex<RequestGuard>>> {
        match self {
            Self::Whole(_) => None,
            Self::Pieces(guard) => Some(guard.clone()),
        }
    }
}

impl<B: Body> Tracked<B> {
    pub(crate) fn with(body: B, guard: Option<RequestGuard>) -> Self {
        Self { ended: body.is_end_stream(), body: Some(body), guard: guard.map(Guard::new) }
    }

    pub(crate) fn empty(guard: RequestGuard) -> Self {
        Self { body: None, ended: true, guard: Some(Guard::new(guard)) }
    }
}

impl<B: Body> Body for Tracked<B> {
    type Data = Piece<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(mut body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(body.as_mut().poll_frame(cx));
        *this.ended = frame.is_none() || body.is_end_stream();
        let guard = this.guard.as_ref();
        let held = |data| Piece { data, _request: guard.and_then(Guard::piece) };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(held))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let empty = || SizeHint::with_exact(0);
        self.body.as_ref().map_or_else(empty, Body::size_hint)
    }
}

/// Data of a body, and for HTTP/2 the request that it answers.
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

    fn copy_to_bytes(&mut self, len: usize) -> bytes::Bytes {
        self.data.copy_to_bytes(len)
    }
}
