//! What can be set of the HTTP of a server.

use std::{sync::Arc, time::Duration};

use hyper::server::conn::http1;

#[cfg(feature = "http2")]
use super::options::Http2Builder;
use super::options::own_http1;
use super::server::Server;
use crate::stop::bounded;

/// # HTTP
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// # let app = axum::Router::new();
/// let server = graceful::serve("127.0.0.1:0", app)
///     .connect_info()
///     .header_timeout(Duration::from_secs(10))
///     .keep_alive_timeout(Duration::from_secs(75))
///     .max_connection_age(Duration::from_secs(600));
/// # graceful::Config::new().start(server).await?.stop().await;
/// # Ok(())
/// # }
/// ```
impl Server {
    /// Puts a [`ConnectInfo`](crate::ConnectInfo) into the extensions of each request; with the
    /// feature `axum` also an `axum::extract::ConnectInfo<SocketAddr>`, for clients that came over
    /// TCP.
    ///
    /// Off by default, because it costs each request the allocation of its extensions. A service
    /// that is made for each connection ([`HttpService`](crate::HttpService)) is handed it without
    /// that.
    pub fn connect_info(mut self) -> Self {
        self.options.connect_info = true;
        self
    }

    /// How long a client may take to send the head of a request: on a new connection from the
    /// moment it was accepted, later from the head's first byte. `None` is no limit. Default: 30 s.
    ///
    /// A connection that exceeds it is closed. During the drain a head gets a second more, or the
    /// rest of this, whichever is less. An idle keep-alive connection is not closed by this. How slowly
    /// a body may come is up to the service: `RequestBodyTimeoutLayer` of `tower-http` bounds that.
    pub fn header_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.options.header_timeout = limit.into().map(bounded);
        self
    }

    /// How long a connection may be idle between two requests. `None` is no limit. Default: none,
    /// as of Go and hyper: a load balancer that keeps connections for longer than its server loses
    /// requests.
    ///
    /// An HTTP/2 connection without streams is told by GOAWAY.
    pub fn keep_alive_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.options.keep_alive_timeout = limit.into().map(bounded);
        self
    }

    /// How old a connection may become, give or take a tenth, so that clients do not all come back
    /// at once. `None` is no limit. Default: none.
    ///
    /// It is then closed as in the drain: HTTP/1 by `Connection: close` on the next response, or
    /// when it has been idle for the `linger`; HTTP/2 by GOAWAY, after which its streams are served
    /// to their end. So clients behind a balancer that balances connections find new instances.
    pub fn max_connection_age(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.options.max_connection_age = limit.into().map(bounded);
        self
    }

    /// Sets hyper's options for HTTP/1, on its own builder.
    ///
    /// A timer is set. Two options are this crate's, whatever is set here: `header_read_timeout` is
    /// that of [`header_timeout`](Self::header_timeout), and `pipeline_flush` stays off, because a
    /// response that hyper keeps back is one that a stop would lose.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # let app = axum::Router::new();
    /// let server = graceful::serve("127.0.0.1:8080", app).http1(|http1| {
    ///     http1.max_headers(50).title_case_headers(true);
    /// });
    /// ```
    pub fn http1(mut self, set: impl FnOnce(&mut http1::Builder)) -> Self {
        let mut http1 = self.options.http1;
        set(&mut http1);
        self.options.http1 = own_http1(http1);
        self
    }

    /// Sets hyper's options for HTTP/2, on its own builder; called for each connection.
    ///
    /// A timer is set, and extended CONNECT is enabled. The executor is this crate's.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # let app = axum::Router::new();
    /// use std::time::Duration;
    ///
    /// let server = graceful::serve("127.0.0.1:8080", app).http2(|http2| {
    ///     http2.max_concurrent_streams(100).keep_alive_interval(Duration::from_secs(30));
    /// });
    /// ```
    #[cfg(feature = "http2")]
    pub fn http2(mut self, set: impl Fn(&mut Http2Builder) + Send + Sync + 'static) -> Self {
        self.options.http2 = Some(Arc::new(set));
        self
    }
}
