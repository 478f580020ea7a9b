//! The HTTP server that users build.

use std::{
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use http::{Method, Request, StatusCode};
use hyper::server::conn::{http1, http2};

use super::{
    accept,
    connection::Connection,
    exec::Exec,
    io::Io,
    service::{HttpService, Service},
};
use crate::{
    context::InContext,
    failure::Failure,
    handle::Handle,
    limits::bounded,
    net::{
        address::{Listen, Target},
        holders::Holders,
        listener::Listener,
    },
    phase::Phase,
    serve::{Bound, Serve, Servers, Unserved, sealed},
    sync::{Mutex, lock},
};

/// Serves HTTP/1.1 and HTTP/2 (with prior knowledge) on one port.
///
/// `addr` is whatever [`Listen`] takes: `"host:port"`, `("host", port)`, a `SocketAddr`, or a listener
/// that is already bound. `service` is a tower service such as an `axum::Router`, or a hyper one.
///
/// The listener is bound once the server is returned from `main` or handed to
/// [`Config::start`](crate::Config::start). `TCP_NODELAY` is set, the backlog is as large as the system
/// allows, upgrades (WebSockets) are enabled.
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
    let service = service.into_service();
    let target = addr.into_target();
    Server {
        unserved: Unserved::new(&target),
        target,
        holders: None,
        options: Options { header_timeout: Some(Duration::from_secs(30)), readiness: None },
        make: Box::new(|handle, options| {
            let service = Mutex::new(service);
            Arc::new(Maker { handle, service, options, http1: http1_builder() })
        }),
    }
}

/// An HTTP server, made by [`serve`]: return it from `main`, or hand it to
/// [`Config::start`](crate::Config::start).
#[must_use = "it serves once it is returned from `main` or handed to `Config::start`"]
pub struct Server {
    /// Dropped before it is bound: then it was forgotten.
    unserved: Unserved,
    target: Target,
    holders: Option<Holders>,
    options: Options,
    make: Box<dyn FnOnce(Handle, Options) -> Arc<dyn MakeConnection> + Send>,
}

/// What holds for every connection of a server.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) header_timeout: Option<Duration>,
    pub(crate) readiness: Option<Arc<Readiness>>,
}

/// A path that says whether new requests should be sent here.
#[derive(Debug)]
pub(crate) struct Readiness {
    path: String,
    /// Whether it goes on saying "ready" until the drain starts.
    through_delay: bool,
}

impl Readiness {
    /// The answer, where `request` asks for this.
    #[inline]
    pub(crate) fn answer<B>(&self, request: &Request<B>, phase: Phase) -> Option<StatusCode> {
        let asked = request.uri().path() == self.path
            && matches!(*request.method(), Method::GET | Method::HEAD);
        let last = if self.through_delay { Phase::Stopping } else { Phase::Serving };
        let status = if phase <= last { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        asked.then_some(status)
    }
}

impl Server {
    /// How long a client may take to send the head of a request: on a new connection from the moment
    /// it was accepted, later from the head's first byte. `None` is no limit. Default: 30 s.
    ///
    /// A connection that exceeds it is closed. During the drain a head gets a second more, or the
    /// rest of this, whichever is less. A quiet keep-alive connection is not closed by this.
    pub fn header_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.options.header_timeout = limit.into().map(bounded);
        self
    }

    /// Answers `GET` and `HEAD` of `path` with 200 while the process is ready for new requests, and
    /// with 503 from the first stop signal on, before any of the service's code runs.
    ///
    /// With the `delay` of [`graceful::main`](macro@crate::main), a load balancer that asks this path
    /// has time to look elsewhere while requests are still answered.
    ///
    /// ```no_run
    /// # let app = axum::Router::new();
    /// let server = graceful::serve("0.0.0.0:8080", app).readiness("/readyz");
    /// ```
    ///
    /// # Panics
    ///
    /// If `path` does not begin with `/`.
    #[track_caller]
    pub fn readiness(self, path: impl Into<String>) -> Self {
        self.probe(path.into(), false)
    }

    /// As [`readiness`](Self::readiness), but says 200 until the `delay` is over and the drain starts.
    ///
    /// For Kubernetes services: when every endpoint of a service is terminating, kube-proxy falls back
    /// to those that still pass their probe (KEP-1669); one that fails it at once has opted out.
    ///
    /// # Panics
    ///
    /// If `path` does not begin with `/`.
    #[track_caller]
    pub fn readiness_until_drain(self, path: impl Into<String>) -> Self {
        self.probe(path.into(), true)
    }

    #[track_caller]
    fn probe(mut self, path: String, through_delay: bool) -> Self {
        assert!(path.starts_with('/'), "a readiness path begins with `/`, such as \"/readyz\"");
        self.options.readiness = Some(Arc::new(Readiness { path, through_delay }));
        self
    }

    /// Says that another process holds the listening socket, too: inherited by socket activation, or
    /// to be handed to a successor. The drain then only stops accepting on it; what is in its queue is
    /// left to the other process. Default: `false`.
    ///
    /// Sockets that systemd has passed (`LISTEN_FDS`, `sd_listen_fds(3)`) are recognised without this.
    pub fn shared_socket(mut self, shared: bool) -> Self {
        self.holders = shared.then_some(Holders::Others);
        self
    }

    /// Says that nobody else holds the listening socket that was handed in: no other process, and no
    /// `try_clone` of it in this one.
    ///
    /// The drain then turns new clients away without losing those on the way, as it does with a socket that
    /// was bound from an address. What it does to that end is done to the socket, not to this descriptor
    /// of it, and for good: whoever else holds it would never hear of a client again. So without this a
    /// listener that was handed in is emptied and let go; a client whose handshake is under way in
    /// that moment is reset, as with any other server.
    ///
    /// ```no_run
    /// # let app = axum::Router::new();
    /// let listener = std::net::TcpListener::bind("127.0.0.1:8080")?;
    /// let server = graceful::serve(listener, app).exclusive();
    /// # std::io::Result::Ok(())
    /// ```
    pub fn exclusive(mut self) -> Self {
        self.holders = Some(Holders::Nobody);
        self
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("target", &self.target)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl sealed::Sealed for Server {}

impl Serve for Server {
    fn collect(self: Box<Self>, servers: &mut Servers) {
        let Self { unserved, target, holders, options, make } = *self;
        unserved.served();
        servers.push(move |handle| async move {
            let listener = Listener::bind(target, holders).await?;
            let addr = listener.local_addr().map_err(|error| Failure::from_error(&error))?;
            let name = addr.to_string();
            let maker = make(handle.clone(), options);
            let run = accept::run(handle, listener, name.clone(), maker);
            Ok(Bound { name, addr: Some(addr), run: Box::pin(run) })
        });
    }
}

/// Turns accepted streams into tasks; the service's type is known only behind this.
pub(crate) trait MakeConnection: Send + Sync {
    fn spawn(&self, io: Io);
}

struct Maker<S> {
    handle: Handle,
    /// Locked for each connection, to be cloned: a service need not be `Sync`.
    service: Mutex<S>,
    options: Options,
    http1: http1::Builder,
}

impl<S: Service> MakeConnection for Maker<S> {
    fn spawn(&self, io: Io) {
        let clone = AssertUnwindSafe(|| lock(&self.service).clone());
        let Ok(service) = catch_unwind(clone) else {
            // The panic is told by the panic hook. It costs this connection; the next is another try.
            return;
        };
        let mut connection = Connection::new(io, service, self.http1.clone(), &self.options);
        let task = poll_fn(move |cx| connection.poll(cx));
        self.handle.runtime().spawn(InContext::new(&self.handle, task));
    }
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The header timeout is the connection's own: one timer for a connection, not one per request.
    builder.header_read_timeout(None);
    builder
}

pub(crate) fn http2_builder(exec: Exec) -> http2::Builder<Exec> {
    let mut builder = http2::Builder::new(exec);
    // WebSockets over HTTP/2 (RFC 8441).
    builder.enable_connect_protocol();
    builder
}
