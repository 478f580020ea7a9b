//! What holds for every connection of a server.

use std::{sync::Arc, time::Duration};

use hyper::server::conn::{http1, http2};

use super::{h2::ConnExecutor, readiness::Readiness};

/// What holds for every connection of a server.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) header_timeout: Option<Duration>,
    pub(super) readiness: Option<Arc<Readiness>>,
}

pub(super) fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The header timeout is the connection's own: one timer for a connection, not one per request.
    builder.header_read_timeout(None);
    builder
}

pub(super) fn http2_builder(exec: ConnExecutor) -> http2::Builder<ConnExecutor> {
    let mut builder = http2::Builder::new(exec);
    // WebSockets over HTTP/2 (RFC 8441).
    builder.enable_connect_protocol();
    builder
}
