//! Which protocol a connection speaks, by its first bytes.

use std::{
    mem::MaybeUninit,
    task::{Context, Poll, ready},
};

use tokio::io::ReadBuf;

use super::io::Io;

/// How an HTTP/2 connection begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    #[cfg(feature = "http1")]
    Http1,
    #[cfg(feature = "http2")]
    Http2,
}

/// What is spoken with a client that begins as one of HTTP/1 does, and with one that begins as one of
/// HTTP/2. Where only one of them is enabled, hyper tells the others that they are wrong here.
#[cfg(feature = "http1")]
const HTTP1: Version = Version::Http1;
#[cfg(not(feature = "http1"))]
const HTTP1: Version = Version::Http2;
#[cfg(feature = "http2")]
const HTTP2: Version = Version::Http2;
#[cfg(not(feature = "http2"))]
const HTTP2: Version = Version::Http1;

/// Before the protocol is known.
pub(crate) struct Detect<S> {
    pub(crate) io: Io,
    /// How much of the preface of HTTP/2 has been read.
    pub(crate) matched: usize,
    pub(crate) service: S,
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
                return Poll::Ready(Some(HTTP2));
            }
            if !PREFACE.starts_with(bytes) {
                self.io.set_prefix(bytes);
                return Poll::Ready(Some(HTTP1));
            }
            self.matched = bytes.len();
        }
    }
}

#[cfg(all(test, feature = "http1", feature = "http2", not(graceful_loom)))]
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

    /// What is found out about `pieces`, each of which is read by itself, and what is read after
    /// that.
    async fn detect(pieces: &[&[u8]]) -> (Option<bool>, Vec<u8>) {
        let handle = Handle::for_test(Limits::NONE);
        let (mut client, server) = UnixStream::pair().unwrap();
        let io = Io::new(
            Stream::unix(server),
            HttpConn::accepted(handle.shared(), Peer::Unix, None, None),
        );
        let mut detect = Detect { io, matched: 0, service: () };
        let mut found = None;
        let mut pieces = pieces.iter();
        while found.is_none() {
            let Some(piece) = pieces.next() else { break };
            client.write_all(piece).await.unwrap();
            found = poll_fn(|cx| match detect.poll(cx) {
                Poll::Ready(found) => Poll::Ready(Some(found)),
                Poll::Pending if detect.io.stream().peek() == Received::Nothing => {
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
            detect.io.read_to_end(&mut rest).await.unwrap();
        }
        (found.flatten().map(|version| matches!(version, Version::Http2)), rest)
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
