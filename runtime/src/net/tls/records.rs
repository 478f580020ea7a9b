//! Follows where TLS records begin and end (RFC 8446, section 5.1) to know whether part of one has
//! been read: rustls buffers it, and nothing above can tell.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

use super::files::CertifiedFiles;
use crate::{
    net::{
        acceptor::{AnyAcceptor, HandshakeFuture},
        stream::{Layered, PendingInput, Transport, forward_write},
        tls_info::TlsInfo,
    },
    stop::Shared,
    util::Failure,
};

/// The header: type, version and length.
const HEADER: usize = 5;

/// The socket beneath TLS; follows the records that are read.
#[derive(Debug)]
pub(super) struct Records {
    transport: Transport,
    position: Position,
}

/// The position within a record.
#[derive(Debug, Default)]
struct Position {
    header: [u8; HEADER],
    /// How much of the header has been read.
    read: usize,
    /// How much of the record after the header is missing.
    missing: usize,
}

impl Records {
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport, position: Position::default() }
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Whether part of a record has been read.
    pub(super) fn is_inside(&self) -> bool {
        self.position.is_inside()
    }
}

impl Position {
    fn is_inside(&self) -> bool {
        self.read > 0 || self.missing > 0
    }

    #[inline]
    fn feed(&mut self, bytes: &[u8]) {
        // Most reads are one record.
        if !self.is_inside()
            && let [_, _, _, high, low, payload @ ..] = bytes
            && payload.len() == usize::from(u16::from_be_bytes([*high, *low]))
        {
            return;
        }
        self.feed_on(bytes);
    }

    fn feed_on(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.missing > 0 {
                let skipped = self.missing.min(bytes.len());
                self.missing -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (HEADER - self.read).min(bytes.len());
            self.header[self.read..][..taken].copy_from_slice(&bytes[..taken]);
            self.read += taken;
            bytes = &bytes[taken..];
            if self.read == HEADER {
                self.read = 0;
                self.missing = u16::from_be_bytes([self.header[3], self.header[4]]).into();
            }
        }
    }
}

impl AsyncRead for Records {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.transport).poll_read(cx, buf);
        if let Some(bytes) = buf.filled().get(before..)
            && !bytes.is_empty()
        {
            this.position.feed(bytes);
        }
        read
    }
}

impl AsyncWrite for Records {
    forward_write!(all => transport);
}

// The rustls handshake and its stream.

/// The protocols offered through ALPN (RFC 7301), the preferred one first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The source of the certificate.
#[derive(Debug)]
pub(crate) enum TlsSource {
    /// A complete configuration from the program.
    Config(Arc<ServerConfig>),
    /// From files, which are read when the server is bound.
    Files(CertifiedFiles),
}

pub(crate) struct RustlsAcceptor(TlsAcceptor);

impl TlsSource {
    /// `alpn` is whether the protocol above TLS is HTTP.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or does not contain what it should.
    pub(crate) fn acceptor(
        self,
        shared: &Arc<Shared>,
        alpn: bool,
    ) -> Result<RustlsAcceptor, Failure> {
        let mut config = match self {
            Self::Config(config) => config,
            Self::Files(files) => Arc::new(files.config(shared)?),
        };
        if alpn && config.alpn_protocols.is_empty() {
            let offering = Arc::make_mut(&mut config);
            offering.alpn_protocols = ALPN.iter().map(|protocol| protocol.to_vec()).collect();
        }
        Ok(RustlsAcceptor(config.into()))
    }
}

impl AnyAcceptor for RustlsAcceptor {
    fn accept(self: Arc<Self>, transport: Transport) -> HandshakeFuture {
        let handshake = self.0.accept(Records::new(transport));
        Box::pin(async { handshake.await.map(|stream| Box::new(stream) as Box<dyn Layered>) })
    }
}

impl Layered for TlsStream<Records> {
    fn transport(&self) -> &Transport {
        self.get_ref().0.transport()
    }

    fn pending_input(&self) -> PendingInput {
        // rustls has already decrypted whole records, or they were meant for it alone.
        if self.get_ref().0.is_inside() {
            PendingInput::PartOfRecord
        } else {
            PendingInput::Nothing
        }
    }

    fn tls_info(&self) -> Option<TlsInfo> {
        Some(TlsInfo::of(self.get_ref().1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_every_split() {
        let records = b"\x16\x03\x01\0\x03abc\x17\x03\x03\0\0\x17\x03\x03\0\x01x";
        let ends = [8, 13, 19];
        for first in 0..=records.len() {
            for second in first..=records.len() {
                let mut position = Position::default();
                let mut at = 0;
                for end in [first, second, records.len()] {
                    position.feed(&records[at..end]);
                    at = end;
                    let between = at == 0 || ends.contains(&at);
                    assert_eq!(position.is_inside(), !between, "{first} {second} {at}");
                }
            }
        }
    }
}
