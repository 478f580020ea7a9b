//! Which protocol a connection speaks, by its first bytes.

use std::{
    mem::MaybeUninit,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::server::conn::http1;
use tokio::io::ReadBuf;

use super::{io::Io, server::Readiness};

/// How an HTTP/2 connection begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// Before the protocol is known.
pub(crate) struct Detect<S> {
    pub(crate) io: Io,
    /// How much of the preface of HTTP/2 has been read.
    pub(crate) matched: usize,
    pub(crate) service: S,
    pub(crate) http1: http1::Builder,
    pub(crate) readiness: Option<Arc<Readiness>>,
}

impl<S> Detect<S> {
    /// Reads until the protocol is known; `None`: the client has gone.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Version>> {
        let mut space = [MaybeUninit::uninit(); 2048];
        loop {
            let mut buf = ReadBuf::uninit(&mut space);
            buf.put_slice(&PREFACE[..self.matched]);
            match ready!(self.io.poll_read_stream(cx, &mut buf)) {
                Ok(()) if buf.filled().len() > self.matched => {}
                Ok(()) | Err(_) => return Poll::Ready(None),
            }
            let bytes = buf.filled();
            self.io.note_read(&bytes[self.matched..]);
            if bytes.starts_with(PREFACE) {
                self.io.set_prefix(bytes);
                return Poll::Ready(Some(Version::Http2));
            }
            if !PREFACE.starts_with(bytes) {
                self.io.set_prefix(bytes);
                return Poll::Ready(Some(Version::Http1));
            }
            self.matched = bytes.len();
        }
    }
}
