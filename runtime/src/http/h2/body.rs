//! The body of an HTTP/2 response. It is handed to h2 long before its bytes are written, so each
//! piece of its data keeps the request in the table. A response is complete when its body has come to
//! an end and h2 has written every piece of it: a piece that is dropped before, as at the limit or when
//! the client resets the stream, was not delivered.

use std::{
    io::IoSlice,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::guard::RequestGuard;
use crate::{http::body::MaybeBody, util::sync::lock_std};

/// What keeps a request in the table.
enum Held {
    /// By the body, or by its last piece.
    One(RequestGuard),
    /// By the body, and by each of its pieces.
    Shared(Arc<Mutex<RequestGuard>>),
}

impl Held {
    fn change(&mut self, change: impl FnOnce(&mut RequestGuard)) {
        match self {
            Self::One(guard) => change(guard),
            Self::Shared(guard) => change(&mut lock_std(guard)),
        }
    }

    /// The response is complete as soon as nothing holds the request any more, unless a piece is lost.
    fn body_ended(&mut self) {
        self.change(|guard| guard.body_ended = true);
    }
}

pin_project! {
    /// A body of which each piece holds on to the request.
    pub(crate) struct Http2Body<B> {
        #[pin]
        body: MaybeBody<B>,
        ended: bool,
        // `None`: it is not a request any more, or the last piece of the body holds on to it.
        held: Option<Held>,
    }

    impl<B> PinnedDrop for Http2Body<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let (true, Some(held)) = (*this.ended, this.held) {
                held.body_ended();
            }
        }
    }
}

impl<B: Body> Http2Body<B> {
    pub(super) fn new(body: MaybeBody<B>, guard: Option<RequestGuard>) -> Self {
        Self { ended: body.is_end_stream(), body, held: guard.map(Held::One) }
    }
}

impl<B: Body> Body for Http2Body<B> {
    type Data = GuardedData<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        // Trailers are the last that hyper asks for.
        let is_last =
            |frame: &Result<Frame<B::Data>, _>| frame.as_ref().is_ok_and(Frame::is_trailers);
        *this.ended = frame.as_ref().is_none_or(is_last) || this.body.is_end_stream();
        let ended = *this.ended;
        let guarded = |data| GuardedData { data, held: hold(this.held, ended) };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(guarded))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// For one piece of the body. Most bodies are of one piece, which can have the guard itself: shared,
/// it takes an allocation.
fn hold(held: &mut Option<Held>, is_last: bool) -> Option<Held> {
    match held.take()? {
        mut last if is_last => {
            last.body_ended();
            Some(last)
        }
        Held::Shared(guard) => {
            *held = Some(Held::Shared(guard.clone()));
            Some(Held::Shared(guard))
        }
        Held::One(guard) => {
            let guard = Arc::new(Mutex::new(guard));
            *held = Some(Held::Shared(guard.clone()));
            Some(Held::Shared(guard))
        }
    }
}

/// Data of a body, and the request that it answers.
pub(crate) struct GuardedData<D: Buf> {
    data: D,
    held: Option<Held>,
}

impl<D: Buf> Drop for GuardedData<D> {
    fn drop(&mut self) {
        if self.data.has_remaining()
            && let Some(held) = &mut self.held
        {
            held.change(|guard| guard.piece_lost = true);
        }
    }
}

impl<D: Buf> Buf for GuardedData<D> {
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
