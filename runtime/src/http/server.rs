//! The HTTP server that users build.

use std::{fmt, sync::Arc};

use super::{http_service::HttpService, maker::Maker, options::Options, readiness::Readiness};
use crate::{
    context::{Handle, Unserved},
    net::{AcceptLoop, Endpoint, Listen, server_options},
    util::{Failure, Sealed},
};

/// Serves HTTP/1.1 and HTTP/2 (with prior knowledge) on one port.
///
/// `addr` is whatever [`Listen`] takes: `"host:port"`, `"unix:/path"`, a `SocketAddr`, a listener
/// that is already bound, or several of them. `service` is a tower service such as an
/// `axum::Router`, a hyper one, or one that makes a service for each connection ([`HttpService`]).
///
/// # What the service owns
///
/// A service is dropped when its listeners are closed and the last of its connections is over; for a
/// server that goes on [until the exit](crate::Serve::until_exit), at the end. So a worker whose channel
/// has its sender in the state of the service (`while let Some(job) = jobs.recv().await`) ends by itself
/// in the drain, after the last request, and is waited for where it was made with
/// [`spawn`](crate::spawn()).
///
/// The listeners are bound once the server is returned from `main` or handed to
/// [`Config::start`](crate::Config::start). Upgrades (WebSockets) are enabled; what else can be
/// set, with its default, is at [`Server`].
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

/// An HTTP server, made by [`serve`]: return it from `main`, or hand it to
/// [`Config::start`](crate::Config::start).
#[must_use = "it serves once it is returned from `main` or handed to `Config::start`"]
pub struct Server {
    /// On a port of their own. Before `unserved`, so that of a server that was forgotten this one is named
    /// last.
    #[cfg(feature = "probes")]
    pub(super) probes: Option<Box<Self>>,
    /// Dropped before it is bound: then it was forgotten.
    unserved: Unserved,
    endpoint: Endpoint,
    pub(super) options: Options,
    maker: Maker,
}

server_options!(Server);

impl Server {
    /// Answers `GET` and `HEAD` of `path` with 200 while the process is ready for new requests, and
    /// with 503 from the first stop signal on, and while the program says that it is not
    /// ([`Handle::not_ready`](crate::Handle::not_ready)), before any of the service's code runs.
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
}

impl Server {
    #[cfg(feature = "probes")]
    pub(crate) fn take_probes(&mut self) -> Option<Self> {
        self.probes.take().map(|probes| *probes)
    }

    /// It has got to the code that binds it.
    pub(crate) fn served(self) -> UnboundServer {
        self.unserved.served();
        UnboundServer { endpoint: self.endpoint, options: self.options, maker: self.maker }
    }
}

/// A server that is about to be bound.
pub(crate) struct UnboundServer {
    endpoint: Endpoint,
    options: Options,
    maker: Maker,
}

impl UnboundServer {
    /// # Errors
    ///
    /// If one of its addresses cannot be bound: then none is.
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
