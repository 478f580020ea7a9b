//! The result of a TLS handshake.

use std::{fmt, sync::Arc};

use tokio_rustls::rustls::{self, ServerConnection, pki_types::CertificateDer};

/// The result of a connection's TLS handshake, returned by
/// [`ConnectInfo::tls`](crate::ConnectInfo::tls).
#[derive(Clone)]
pub struct TlsInfo(Arc<Inner>);

struct Inner {
    protocol: Option<rustls::ProtocolVersion>,
    server_name: Option<String>,
    alpn: Option<Vec<u8>>,
    certificates: Vec<CertificateDer<'static>>,
}

impl TlsInfo {
    pub(super) fn of(connection: &ServerConnection) -> Self {
        let certificates = connection.peer_certificates().unwrap_or_default();
        Self(Arc::new(Inner {
            protocol: connection.protocol_version(),
            server_name: connection.server_name().map(str::to_owned),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            certificates: certificates.iter().map(|it| it.clone().into_owned()).collect(),
        }))
    }

    /// Returns the protocol version, such as `TLSv1_3`.
    #[must_use]
    pub fn protocol(&self) -> Option<rustls::ProtocolVersion> {
        self.0.protocol
    }

    /// Returns the name that the client asked for (SNI, RFC 6066, section 3).
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.0.server_name.as_deref()
    }

    /// Returns the negotiated protocol, such as `h2` (ALPN, RFC 7301).
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.0.alpn.as_deref()
    }

    /// Returns the client's certificate chain, leaf first; empty if none was requested.
    #[must_use]
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.0.certificates
    }
}

impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsInfo")
            .field("protocol", &self.protocol())
            .field("server_name", &self.server_name())
            .field("alpn", &self.alpn().map(String::from_utf8_lossy))
            .field("peer_certificates", &self.peer_certificates().len())
            .finish()
    }
}
