//! Options that apply to every connection of a server.

use std::{fmt, sync::Arc, time::Duration};
#[cfg(feature = "handover")]
use std::{future::Future, pin::Pin};

use hyper::server::conn::http1;
#[cfg(feature = "http2")]
use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;

#[cfg(feature = "http2")]
use super::h2::ConnExecutor;
use super::readiness::Readiness;
use crate::net::Preamble;

#[derive(Clone)]
pub(crate) struct Options {
    pub(super) header_timeout: Option<Duration>,
    pub(super) keep_alive_timeout: Option<Duration>,
    pub(super) max_connection_age: Option<Duration>,
    pub(super) readiness: Option<Arc<Readiness>>,
    /// In seconds: what a request that comes in the drain is told instead of being handed to the
    /// service; 0 if it is handed to it.
    pub(super) retry_after: u16,
    /// Whether requests get a `ConnectInfo`.
    pub(super) connect_info: bool,
    /// What goes on with connections that have left HTTP in the process before.
    #[cfg(feature = "handover")]
    pub(super) handed_over: Option<Arc<HandedOver>>,
    /// TLS and other steps before HTTP.
    pub(crate) preamble: Preamble,
    pub(super) http1: http1::Builder,
    #[cfg(feature = "http2")]
    pub(super) http2: Option<Arc<Http2Settings>>,
}

/// hyper's builder for HTTP/2, with this crate's executor, so that streams are waited for and cut.
#[cfg(feature = "http2")]
pub type Http2Builder = http2::Builder<ConnExecutor>;

#[cfg(feature = "http2")]
type Http2Settings = dyn Fn(&mut Http2Builder) + Send + Sync;

/// Handlers by their names.
#[cfg(feature = "handover")]
pub(super) type HandedOver = std::collections::HashMap<String, HandedOverHandler>;

#[cfg(feature = "handover")]
pub(super) type HandedOverHandler =
    Arc<dyn Fn(crate::Connection) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Options {
    /// Whether requests that ask for an upgrade get a `HandOver`.
    #[cfg_attr(not(feature = "handover"), allow(clippy::unused_self, reason = "as with it"))]
    pub(super) fn hands_over(&self) -> bool {
        #[cfg(feature = "handover")]
        return self.handed_over.is_some();
        #[cfg(not(feature = "handover"))]
        false
    }

    pub(super) fn new() -> Self {
        Self {
            header_timeout: Some(Duration::from_secs(30)),
            keep_alive_timeout: None,
            max_connection_age: None,
            readiness: None,
            retry_after: 0,
            connect_info: false,
            #[cfg(feature = "handover")]
            handed_over: None,
            preamble: Preamble::default(),
            http1: own_http1(http1::Builder::new()),
            #[cfg(feature = "http2")]
            http2: None,
        }
    }

    /// The builder for one connection.
    #[cfg(feature = "http2")]
    pub(super) fn http2_builder(&self, executor: ConnExecutor) -> Http2Builder {
        let mut builder = http2::Builder::new(executor);
        builder.timer(TokioTimer::new());
        // WebSockets over HTTP/2 (RFC 8441).
        builder.enable_connect_protocol();
        if let Some(set) = &self.http2 {
            set(&mut builder);
        }
        builder
    }

    /// Whether a connection has deadlines while serving other than those of its heads and its end.
    pub(super) fn is_timed(&self) -> bool {
        let limits = [self.keep_alive_timeout, self.max_connection_age];
        limits.iter().any(Option::is_some)
    }
}

/// Sets the options that this crate controls, whatever the program has set. With `pipeline_flush`,
/// hyper holds back a response as long as another request is behind it, so the end of the process
/// would find it in hyper's buffer.
pub(super) fn own_http1(mut http1: http1::Builder) -> http1::Builder {
    // The connection enforces the header timeout itself, with one timer per connection instead of
    // one per request.
    http1.timer(TokioTimer::new()).header_read_timeout(None).pipeline_flush(false);
    http1
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("header_timeout", &self.header_timeout)
            .field("keep_alive_timeout", &self.keep_alive_timeout)
            .field("max_connection_age", &self.max_connection_age)
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}
