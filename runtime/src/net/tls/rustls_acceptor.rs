//! The handshake by rustls, and its stream.

use std::sync::Arc;

use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

use super::{files::CertifiedFiles, info::TlsInfo, records::Records};
use crate::{
    net::{
        acceptor::{AnyAcceptor, HandshakeFuture, Layered, PendingInput},
        transport::Transport,
    },
    stop::Shared,
    util::Failure,
};

/// The protocols that are offered by ALPN (RFC 7301), the better one first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the certificate comes from.
#[derive(Debug)]
pub(crate) enum TlsSource {
    /// All is the program's.
    Config(Arc<ServerConfig>),
    /// From files, which are read when the server is bound.
    Files(CertifiedFiles),
}

pub(crate) struct RustlsAcceptor(TlsAcceptor);

impl TlsSource {
    /// `alpn`: whether the protocol behind it is HTTP.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or does not have what it should.
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
        // Of whole records rustls has made plaintext, or they were for it alone.
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
