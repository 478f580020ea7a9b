//! The HTTP server that users build.

use std::{
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use hyper::server::conn::http1;

use super::{
    conn::HttpConn,
    driver::Driver,
    io::Io,
    options::{Options, http1_builder},
    readiness::Readiness,
    service::{HttpService, Service},
};
use crate::{
    context::{Handle, InContext, Unserved},
    net::{AcceptLoop, Accepted, Holders, Listen, Listener, MakeConnection, Target},
    stop::{Shared, bounded},
    util::{
        Failure, Sealed,
        sync::{Mutex, lock},
    },
};

/// Serves HTTP/1.1 and HTTP/2 (with prior knowledge) on one port.
///
/// `addr` is whatever [`Listen`] takes: `"host:port"`, `("host", port)`, a `SocketAddr`, or a
/// listener that is already bound. `service` is a tower service such as an `axum::Router`, or a
/// hyper one.
///
/// The listener is bound once the server is returned from `main` or handed to
/// [`Config::start`](crate::Config::start). `TCP_NODELAY` is set, the backlog is as large as the
/// system allows, upgrades (WebSockets) are enabled.
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
    let service = service.into_service(Sealed);
    let target = addr.into_target();
    Server {
        unserved: Unserved::new(&target),
        target,
        holders: None,
        options: Options { header_timeout: Some(Duration::from_secs(30)), readiness: None },
        make: Box::new(|shared, options| {
            let service = Mutex::new(service);
            Arc::new(HttpMaker { shared, service, options, http1: http1_builder() })
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
    make: Make,
}

type Make = Box<dyn FnOnce(Arc<Shared>, Options) -> Arc<dyn MakeConnection> + Send>;

impl Server {
    /// How long a client may take to send the head of a request: on a new connection from the
    /// moment it was accepted, later from the head's first byte. `None` is no limit. Default: 30 s.
    ///
    /// A connection that exceeds it is closed. During the drain a head gets a second more, or the
    /// rest of this, whichever is less. An idle keep-alive connection is not closed by this.
    pub fn header_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.options.header_timeout = limit.into().map(bounded);
        self
    }

    /// Answers `GET` and `HEAD` of `path` with 200 while the process is ready for new requests, and
    /// with 503 from the first stop signal on, before any of the service's code runs.
    ///
    /// With the `delay` of [`graceful::main`](macro@crate::main), a load balancer that asks this
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

    /// As [`readiness`](Self::readiness), but says 200 until the `delay` is over and the drain
    /// starts.
    ///
    /// For Kubernetes services: when every endpoint of a service is terminating, kube-proxy falls
    /// back to those that still pass their probe (KEP-1669); one that fails it at once has opted
    /// out.
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
        self.options.readiness = Some(Arc::new(Readiness::new(path, through_delay)));
        self
    }

    /// Says that another process holds the listening socket, too: inherited by socket activation,
    /// or to be handed to a successor. The drain then only stops accepting on it; what is in its
    /// queue is left to the other process. Default: `false`.
    ///
    /// Sockets that systemd has passed (`LISTEN_FDS`, `sd_listen_fds(3)`) are recognised without
    /// this.
    pub fn shared_socket(mut self, shared: bool) -> Self {
        self.holders = shared.then_some(Holders::Others);
        self
    }

    /// Says that this server alone holds the listening socket that was handed in: no other process
    /// does, and no `try_clone` of it in this one.
    ///
    /// The drain then turns new clients away without losing those on the way, as it does with a
    /// socket that was bound from an address. What it does to that end is done to the socket, not
    /// to this descriptor of it, and for good: other holders would never hear of a client again. So
    /// without this a listener that was handed in is emptied and let go; a client whose handshake
    /// is under way in that moment is reset, as with any other server.
    ///
    /// # Examples
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

impl Server {
    /// It has got to the code that binds it.
    pub(crate) fn served(self) -> UnboundServer {
        let Self { unserved, target, holders, options, make } = self;
        unserved.served();
        UnboundServer { target, holders, options, make }
    }
}

/// A server that is about to be bound.
pub(crate) struct UnboundServer {
    target: Target,
    holders: Option<Holders>,
    options: Options,
    make: Make,
}

impl UnboundServer {
    /// # Errors
    ///
    /// If its address cannot be bound.
    pub(crate) async fn bind(self, handle: Handle) -> Result<AcceptLoop, Failure> {
        let listener = Listener::bind(self.target, self.holders).await?;
        let shared = handle.shared().clone();
        let maker = (self.make)(shared.clone(), self.options);
        AcceptLoop::new(shared, listener, maker)
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

struct HttpMaker<S> {
    shared: Arc<Shared>,
    /// Locked for each connection, to be cloned: a service need not be `Sync`.
    service: Mutex<S>,
    options: Options,
    http1: http1::Builder,
}

impl<S: Service> MakeConnection for HttpMaker<S> {
    fn make(&self, accepted: Accepted) {
        let Accepted { stream, peer, kernel } = accepted;
        let io = Io::new(stream, HttpConn::accepted(&self.shared, peer, kernel));
        let clone = AssertUnwindSafe(|| lock(&self.service).clone());
        let Ok(service) = catch_unwind(clone) else {
            // The panic is told by the panic hook. It costs this connection; the next is another
            // try.
            return;
        };
        let mut driver = Driver::new(io, service, self.http1.clone(), &self.options);
        let task = poll_fn(move |cx| driver.poll(cx));
        self.shared.runtime().spawn(InContext::new(&self.shared, task));
    }
}
