//! The HTTP server that users build.

use std::{fmt, sync::Arc, time::Duration};

use hyper::server::conn::http1;

#[cfg(feature = "http2")]
use super::options::Http2Builder;
use super::{
    factory::{ConnFactory, HttpService},
    options::{Options, own_http1},
    readiness::Readiness,
};
use crate::{
    context::{Handle, Unserved},
    net::{AcceptLoop, Endpoint, Listen, server_options},
    stop::bounded,
    util::{Failure, Sealed},
};

/// Serves HTTP/1.1 and HTTP/2 (with prior knowledge) on one port.
///
/// `addr` is anything that [`Listen`] accepts: `"host:port"`, `"unix:/path"`, a `SocketAddr`, a
/// listener that is already bound, or several of them. `service` is a tower service such as an
/// `axum::Router`, a hyper service, or one that makes a service for each connection
/// ([`HttpService`]).
///
/// # What the service owns
///
/// A service is dropped when its listeners are closed and the last of its connections is over; for
/// a server that runs [until the exit](crate::Serve::until_exit), that is at the end. So a worker
/// whose channel's sender is in the state of the service
/// (`while let Some(job) = jobs.recv().await`) ends by itself in the drain, after the last request,
/// and is waited for if it was started with [`spawn`](crate::spawn()).
///
/// The listeners are bound once the server is returned from `main` or passed to
/// [`Config::start`](crate::Config::start). Upgrades (WebSockets) are enabled; for other options
/// and their defaults, see [`Server`].
///
/// # Examples
///
/// ```no_run
/// use axum::{Router, routing::get};
///
/// #[graceful::main(timeout = "3s")]
/// async fn main() -> impl graceful::Serve {
///     let app = Router::new().route("/", get(|| async { "Hello world!" }));
///     graceful::serve("127.0.0.1:8080", app)
/// }
/// ```
pub fn serve<A, S, Via>(addr: A, service: S) -> Server
where
    A: Listen,
    S: HttpService<Via>,
{
    let target = addr.into_target();
    Server {
        unserved: Unserved::new(&target),
        endpoint: Endpoint::new(target),
        options: Options::new(),
        maker: service.into_maker(Sealed),
        #[cfg(feature = "probes")]
        probes: None,
    }
}

/// An HTTP server, created by [`serve`]. Return it from `main`, or pass it to
/// [`Config::start`](crate::Config::start).
#[must_use = "it serves once it is returned from `main` or handed to `Config::start`"]
pub struct Server {
    /// Served on their own port. Declared before `unserved`, so that a forgotten server is reported
    /// after its probes.
    #[cfg(feature = "probes")]
    pub(super) probes: Option<Box<Self>>,
    /// If this is dropped before the server is bound, the server was forgotten.
    unserved: Unserved,
    endpoint: Endpoint,
    pub(super) options: Options,
    maker: ConnFactory,
}

server_options!(Server);

impl Server {
    /// Answers `GET` and `HEAD` requests for `path` before any of the service's code runs: with 200
    /// while the process is ready for new requests, and with 503 from the first stop signal on, or
    /// while the program says that it is not ready ([`Handle::ready`](crate::Handle::ready)).
    ///
    /// With the `delay` of [`graceful::main`](macro@crate::main), a load balancer that checks this
    /// path has time to look elsewhere while requests are still answered.
    ///
    /// # Panics
    ///
    /// If `path` does not begin with `/`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # let app = axum::Router::new();
    /// let server = graceful::serve("0.0.0.0:8080", app).readiness("/readyz");
    /// ```
    #[track_caller]
    pub fn readiness(self, path: impl Into<String>) -> Self {
        self.probe(path.into(), false)
    }

    /// Like [`readiness`](Self::readiness), but returns 200 until the `delay` is over and the drain
    /// starts.
    ///
    /// For Kubernetes services: when every endpoint of a service is terminating, kube-proxy falls
    /// back to those that still pass their probe (KEP-1669); one that fails it immediately has
    /// opted out.
    ///
    /// # Panics
    ///
    /// If `path` does not begin with `/`.
    #[track_caller]
    pub fn readiness_until_drain(self, path: impl Into<String>) -> Self {
        self.probe(path.into(), true)
    }

    /// Answers requests that begin in the drain, on connections that are still open then, with 503
    /// and `Retry-After` instead of handing them to the service. For services whose clients and
    /// load balancers retry a 503 elsewhere, and whose requests take so long that one that begins
    /// in the drain would be cut. By default, they are answered as usual.
    ///
    /// Through the `delay` of [`graceful::main`](macro@crate::main), requests are answered as
    /// usual. `after` is rounded up to whole seconds, at least one.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # let app = axum::Router::new();
    /// let server = graceful::serve("0.0.0.0:8080", app).retry_after(Duration::from_secs(1));
    /// ```
    pub fn retry_after(mut self, after: Duration) -> Self {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        self.options.retry_after = u16::try_from(seconds.max(1)).unwrap_or(u16::MAX);
        self
    }

    /// Sets the handler for WebSockets, and other connections that have left HTTP, which the
    /// process before has handed over under this name: by [`HandOver`](crate::HandOver), which each
    /// request that asks for an upgrade has in its extensions once there is such a handler.
    ///
    /// The handler gets the connection as it is, with the bytes of a message that was not complete
    /// in front, and the state of the handler before in
    /// [`Connection::handed_over`](crate::Connection::handed_over). A library that speaks WebSocket
    /// begins with it behind the handshake.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # let app = axum::Router::new();
    /// let server = graceful::serve("127.0.0.1:8080", app).handed_over("chat", async |connection| {
    ///     let room = connection.handed_over().map(<[u8]>::to_vec);
    ///     // `tokio_tungstenite::WebSocketStream::from_raw_socket(connection, Role::Server, None)`
    /// });
    /// ```
    #[cfg(feature = "handover")]
    pub fn handed_over<H, Fut>(mut self, name: impl Into<String>, handler: H) -> Self
    where
        H: Fn(crate::Connection) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let handlers = Arc::make_mut(self.options.handed_over.get_or_insert_default());
        handlers.insert(name.into(), Arc::new(move |connection| Box::pin(handler(connection))));
        self
    }

    #[track_caller]
    fn probe(mut self, path: String, through_delay: bool) -> Self {
        self.options.readiness = Some(Arc::new(Readiness::new(path, through_delay)));
        self
    }
}

impl Server {
    #[cfg(feature = "probes")]
    pub(crate) fn take_probes(&mut self) -> Option<Self> {
        self.probes.take().map(|probes| *probes)
    }

    /// Marks the server as used.
    pub(crate) fn served(self) -> UnboundServer {
        self.unserved.served();
        UnboundServer { endpoint: self.endpoint, options: self.options, maker: self.maker }
    }
}

/// A server that is about to be bound.
pub(crate) struct UnboundServer {
    endpoint: Endpoint,
    options: Options,
    maker: ConnFactory,
}

impl UnboundServer {
    /// # Errors
    ///
    /// If one of its addresses cannot be bound, in which case none is.
    pub(crate) async fn bind(self, handle: Handle) -> Result<Vec<AcceptLoop>, Failure> {
        let Self { endpoint, options, maker } = self;
        let maker = |shared, preamble| (maker.0)(shared, Options { preamble, ..options });
        endpoint.bind(handle.shared(), true, maker).await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("endpoint", &self.endpoint)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

// The HTTP options of a server.

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
    /// feature `axum-0-8`, also an `axum::extract::ConnectInfo<SocketAddr>`, for clients connected
    /// over TCP.
    ///
    /// Off by default, because each request then has to allocate its extensions. A service that is
    /// made for each connection ([`HttpService`](crate::HttpService)) receives it without this
    /// option.
    pub fn connect_info(mut self) -> Self {
        self.options.connect_info = true;
        self
    }

    /// Limits how long a client may take to send the head of a request: on a new connection from
    /// the moment it was accepted, later from the head's first byte. `None` means no limit.
    /// Default: 30 s.
    ///
    /// A connection that exceeds the limit is closed. During the drain, a head gets one more
    /// second, or the rest of the limit, whichever is less. Idle keep-alive connections are not
    /// affected. Slow bodies are up to the service: `RequestBodyTimeoutLayer` of `tower-http`
    /// bounds them.
    pub fn header_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.options.header_timeout = limit.into().map(bounded);
        self
    }

    /// Limits how long a connection may be idle between two requests. `None` means no limit, which
    /// is the default, as in Go and hyper: a load balancer that keeps connections for longer than
    /// its server does loses requests.
    ///
    /// An HTTP/2 connection without streams is closed with GOAWAY.
    pub fn keep_alive_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.options.keep_alive_timeout = limit.into().map(bounded);
        self
    }

    /// Limits the age of a connection, give or take a tenth, so that clients do not all reconnect
    /// at once. `None` means no limit, which is the default.
    ///
    /// A connection that is old enough is closed as in the drain: HTTP/1 with `Connection: close`
    /// on the next response, or when it has been idle for the `linger`; HTTP/2 with GOAWAY, after
    /// which its streams are served to completion. This lets clients behind a connection-level
    /// balancer find new instances.
    pub fn max_connection_age(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.options.max_connection_age = limit.into().map(bounded);
        self
    }

    /// Sets hyper's options for HTTP/1, on its own builder.
    ///
    /// A timer is already set. Two options are controlled by this crate, whatever is set here:
    /// `header_read_timeout` is replaced by [`header_timeout`](Self::header_timeout), and
    /// `pipeline_flush` stays off, because a stop would lose a response that hyper holds back.
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

    /// Sets hyper's options for HTTP/2, on its own builder; `set` is called for each connection.
    ///
    /// A timer is already set, and extended CONNECT is enabled. The executor is this crate's.
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
