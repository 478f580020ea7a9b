//! A connection between messages: a socket, and the service for what comes next.
//!
//! A connection that has just been accepted and one that has been fully answered are the same,
//! except for their deadline. hyper is not involved: it takes over with the first byte of a
//! message, and leaves when the connection has been idle for a while.

use std::{
    mem::MaybeUninit,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::ReadBuf;

use super::io::Io;

/// The HTTP/2 connection preface (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    #[cfg(feature = "http2")]
    Http2,
}

/// The protocol for a client that begins with the HTTP/2 preface. Without the feature, hyper
/// rejects such a client.
#[cfg(feature = "http2")]
const HTTP2: Version = Version::Http2;
#[cfg(not(feature = "http2"))]
const HTTP2: Version = Version::Http1;

/// A parked connection; owns the stream.
pub(super) struct Parked<S> {
    pub(super) io: Io,
    pub(super) service: S,
    /// Bytes that were read before hyper took over.
    read: Box<[u8]>,
    /// The protocol of a message whose beginning was read by the process before.
    begun: Option<Version>,
    /// Whether the protocol is already known to be HTTP/1.
    speaks_http1: bool,
}

impl<S> Parked<S> {
    /// A connection that has just been accepted.
    pub(super) fn fresh(io: Io, service: S) -> Self {
        Self { io, service, read: Box::default(), begun: None, speaks_http1: false }
    }

    /// An HTTP/1 connection that hyper has released. `read` is the excess that it had read: line
    /// breaks after the last message, if anything.
    pub(super) fn idle(io: Io, service: S, read: &Bytes) -> Self {
        Self { io, service, read: read[..].into(), begun: None, speaks_http1: true }
    }

    /// Continues a connection of the process before, which has read the beginning of a message, or
    /// line breaks behind the last one.
    pub(super) fn continues(&mut self, read: Vec<u8>, speaks_http1: bool) {
        self.speaks_http1 = speaks_http1;
        if speaks_http1 {
            self.io.has_answered();
        }
        if read.is_empty() {
            return;
        }
        self.io.note_read(&read);
        let is_blank = read.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        self.begun = match speaks_http1 {
            true if is_blank => None,
            true => Some(Version::Http1),
            false => version_of(&read),
        };
        self.read = read.into();
    }

    /// Returns what the next process has to know: the bytes of the next message, and whether
    /// HTTP/1 has been spoken.
    pub(super) fn state(&self) -> (Vec<u8>, bool) {
        (self.read.to_vec(), self.speaks_http1)
    }

    /// Reads until the protocol of the next message is known; `None` if the client has gone. After
    /// that, `io` first returns all that was read here.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Version>> {
        if let Some(version) = self.begun.take() {
            self.io.set_prefix(&std::mem::take(&mut self.read));
            return Poll::Ready(Some(version));
        }
        let mut space = [MaybeUninit::uninit(); 2048];
        loop {
            let mut buf = ReadBuf::uninit(&mut space);
            match ready!(self.io.poll_read_stream(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(None),
            }
            self.io.note_read(buf.filled());
            let before = std::mem::take(&mut self.read);
            let bytes =
                if before.is_empty() { buf.filled() } else { &[&before, buf.filled()].concat() };
            let version = if self.speaks_http1 { Some(Version::Http1) } else { version_of(bytes) };
            if version.is_some() {
                self.io.set_prefix(bytes);
                return Poll::Ready(version);
            }
            self.read = bytes.into();
        }
    }
}

/// The protocol that begins with `bytes`; `None` if that cannot be told yet.
fn version_of(bytes: &[u8]) -> Option<Version> {
    if bytes.starts_with(PREFACE) {
        Some(HTTP2)
    } else if PREFACE.starts_with(bytes) {
        None
    } else {
        Some(Version::Http1)
    }
}

/// Tells the protocol of bytes that the fuzzer makes up, as more and more of them come: an answer
/// is not taken back, and whatever is no preface is HTTP/1.
#[cfg(fuzzing)]
#[allow(unreachable_pub, reason = "for the fuzz target")]
pub fn detect(bytes: &[u8]) {
    let mut known = None;
    for end in 0..=bytes.len() {
        let version = version_of(&bytes[..end]);
        if known.is_some() {
            assert_eq!(version, known, "{bytes:?} up to {end}");
        }
        known = version;
    }
    let is_http1 = !PREFACE.starts_with(bytes) && !bytes.starts_with(PREFACE);
    assert_eq!(known == Some(Version::Http1), is_http1, "{bytes:?}");
}

#[cfg(all(test, feature = "http2", not(graceful_loom)))]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
    };

    use super::*;
    use crate::{
        context::Handle,
        http::conn::HttpConn,
        net::{Received, Stream},
        stop::Limits,
        util::Peer,
    };

    /// Returns the protocol of `pieces`, each of which is read separately, and the bytes read after
    /// that.
    async fn detect(pieces: &[&[u8]]) -> (Option<bool>, Vec<u8>) {
        let handle = Handle::for_test(Limits::NONE);
        let (mut client, server) = UnixStream::pair().unwrap();
        let io = Io::new(
            Stream::Unix(server),
            HttpConn::accepted(handle.shared(), Peer::Unix, None, None, None),
        );
        let mut parked = Parked::fresh(io, ());
        let mut found = None;
        let mut pieces = pieces.iter();
        while found.is_none() {
            let Some(piece) = pieces.next() else { break };
            client.write_all(piece).await.unwrap();
            found = poll_fn(|cx| match parked.poll(cx) {
                Poll::Ready(found) => Poll::Ready(Some(found)),
                Poll::Pending if parked.io.stream().peek() == Received::Nothing => {
                    Poll::Ready(None)
                }
                Poll::Pending => Poll::Pending,
            })
            .await;
        }
        for piece in pieces {
            client.write_all(piece).await.unwrap();
        }
        drop(client);
        let mut rest = Vec::new();
        if found.is_some() {
            parked.io.read_to_end(&mut rest).await.unwrap();
        }
        (found.flatten().map(|version| version == Version::Http2), rest)
    }

    #[tokio::test]
    async fn every_split_is_told_apart_and_loses_no_byte() {
        let streams: [(&[u8], bool); 6] = [
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0", true),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", false),
            (b"PRI * HTTP/1.1\r\n\r\n", false),
            (b"PUT / HTTP/1.1\r\nhost: x\r\n\r\n", false),
            (b"P\r\n\r\n", false),
            (b"\r\nGET / HTTP/1.1\r\n\r\n", false),
        ];
        for (stream, http2) in streams {
            for first in 1..stream.len() {
                for second in first..stream.len() {
                    let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                    let pieces: Vec<_> = pieces.into_iter().filter(|it| !it.is_empty()).collect();
                    assert_eq!(detect(&pieces).await, (Some(http2), stream.to_vec()), "{pieces:?}");
                }
            }
        }
    }
}
