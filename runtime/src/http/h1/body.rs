//! The body of an HTTP/1 response.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::http::{body::MaybeBody, conn::HttpConn, state::Event};

pin_project! {
    /// A body that tells when its response is over: hyper drops it once it has taken all it wants
    /// to send, and the flush that follows is the one of its last byte.
    pub(crate) struct Http1Body<B> {
        #[pin]
        pub(super) body: MaybeBody<B>,
        // `None` once the response has taken another way.
        pub(super) conn: Option<Arc<HttpConn>>,
        pub(super) upgraded: bool,
    }

    impl<B> PinnedDrop for Http1Body<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            match this.conn {
                Some(conn) if *this.upgraded => conn.on(Event::Upgrades),
                Some(conn) => conn.on(Event::ResponseEnds),
                None => {}
            }
        }
    }
}

impl<B: Body> Body for Http1Body<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
