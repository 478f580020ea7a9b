//! What a request is given in its extensions.

use http::Request;

use crate::net::ConnectInfo;

/// Both ends of the connection, also in the form that axum's extractor looks for.
#[cold]
pub(super) fn give_connect_info<B>(request: &mut Request<B>, info: &ConnectInfo) {
    let extensions = request.extensions_mut();
    #[cfg(feature = "axum")]
    if let Some(peer) = info.peer_addr() {
        extensions.insert(axum::extract::ConnectInfo(peer));
    }
    extensions.insert(info.clone());
}

/// For `Router::into_make_service_with_connect_info::<SocketAddr>()`.
///
/// A client of a Unix socket has no such address: it gets the unspecified one, `0.0.0.0:0`.
#[cfg(feature = "axum")]
impl axum::extract::connect_info::Connected<ConnectInfo> for std::net::SocketAddr {
    fn connect_info(info: ConnectInfo) -> Self {
        info.peer_addr().unwrap_or_else(|| (std::net::Ipv4Addr::UNSPECIFIED, 0).into())
    }
}

/// For `into_make_service_with_connect_info::<graceful::ConnectInfo>()`.
#[cfg(feature = "axum")]
impl axum::extract::connect_info::Connected<Self> for ConnectInfo {
    fn connect_info(info: Self) -> Self {
        info
    }
}
