//! The service of the program in the one form that the rest works on.

use std::{
    error::Error,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::service::TowerToHyperService;

use super::{conn::HttpConn, io::Io, server::Options, state::Event, task::ConnTask};
use crate::{
    context::InContext,
    net::{Accepted, ConnGuard, ConnectInfo, GuardedConn, MakeConnection, Stream, before_protocol},
    stop::Shared,
    util::{
        Sealed,
        sync::{Mutex, lock},
        via,
    },
};

type BoxError = Box<dyn Error + Send + Sync>;

/// A service that answers requests.
#[doc(hidden)]
pub trait SingleService<Via>: Send + 'static {
    type Service: Service;

    fn into_service(self, _: Sealed) -> Self::Service;
}

/// The one form that the rest of this module works on: its bounds, written once.
#[doc(hidden)]
pub trait Service: Clone + Send + 'static {
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
    type Error: Into<BoxError>;
    type Future: Future<Output = Result<Response<Self::Body>, Self::Error>> + Send + 'static;

    fn call(&self, request: Request<Incoming>) -> Self::Future;
}

/// A hyper service as it is.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Hyper<S>(S);

impl<S, B> Service for Hyper<S>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn call(&self, request: Request<Incoming>) -> S::Future {
        self.0.call(request)
    }
}

impl<S> SingleService<via::Hyper> for S
where
    S: hyper::service::Service<Request<Incoming>> + Send + 'static,
    Hyper<S>: Service,
{
    type Service = Hyper<S>;

    fn into_service(self, _: Sealed) -> Hyper<S> {
        Hyper(self)
    }
}

impl<S> SingleService<via::Tower> for S
where
    S: tower_service::Service<Request<Incoming>> + Send + 'static,
    Hyper<TowerToHyperService<S>>: Service,
{
    type Service = Hyper<TowerToHyperService<S>>;

    fn into_service(self, _: Sealed) -> Self::Service {
        Hyper(TowerToHyperService::new(self))
    }
}

// Which types are a service that can be served.

/// A service that [`serve`](crate::serve) takes:
///
/// - a tower service (an `axum::Router`, tonic's `Routes`), from `Request<Incoming>` to
///   `Response<B>`;
/// - a hyper one (`hyper::service::service_fn(…)`);
/// - one that makes a service for each connection: a tower service from [`ConnectInfo`] to one of
///   the above, such as `tower::service_fn(…)`, `tower::make::Shared`, and with the feature `axum`
///   what `into_make_service_with_connect_info::<SocketAddr>()` returns.
///
/// `Via` says which of them it is; the compiler finds it. It is cloned for each connection, and a
/// tower service for each request, as `axum::serve` does: `Clone` and `Send` are all it needs. A
/// panic in `clone`, `poll_ready` or `call` costs the connection it happens on.
///
/// # Examples
///
/// A service for each connection:
///
/// ```no_run
/// use std::convert::Infallible;
///
/// use axum::{Router, routing::get};
/// use graceful::ConnectInfo;
///
/// #[graceful::main]
/// async fn main() -> impl graceful::Serve {
///     let make = tower::service_fn(async |info: ConnectInfo| {
///         let hello = format!("hello, {:?}", info.peer_addr());
///         Ok::<_, Infallible>(Router::new().route("/", get(async || hello)))
///     });
///     graceful::serve("127.0.0.1:8080", make)
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an HTTP service",
    label = "not a service from `http::Request<hyper::body::Incoming>` to `http::Response<_>`",
    note = "hand in an `axum::Router`, a tower service that is `Clone + Send + 'static`, or \
            `hyper::service::service_fn(handler)`",
    note = "an `axum::Router<S>` is one once its state is there: `.with_state(state)`",
    note = "for the client's address call `.connect_info()` on the server"
)]
pub trait HttpService<Via>: Send + 'static {
    #[doc(hidden)]
    fn into_maker(self, _: Sealed) -> Maker;
}

impl<S: SingleService<via::Hyper>> HttpService<via::Hyper> for S {
    fn into_maker(self, _: Sealed) -> Maker {
        Maker::cloning(self.into_service(Sealed))
    }
}

impl<S: SingleService<via::Tower>> HttpService<via::Tower> for S {
    fn into_maker(self, _: Sealed) -> Maker {
        Maker::cloning(self.into_service(Sealed))
    }
}

impl<M, Via> HttpService<via::Make<Via>> for M
where
    M: tower_service::Service<ConnectInfo, Response: SingleService<Via>, Future: Send>,
    M: Clone + Send + 'static,
    Via: 'static,
{
    fn into_maker(self, _: Sealed) -> Maker {
        Maker::making(self)
    }
}

// From an accepted stream to the task of its connection.

/// What makes connections, once the context and the options are known.
#[doc(hidden)]
pub struct Maker(
    pub(super) Box<dyn FnOnce(Arc<Shared>, Options) -> Arc<dyn MakeConnection> + Send>,
);

impl fmt::Debug for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maker").finish_non_exhaustive()
    }
}

impl Maker {
    /// Each connection has a clone of `service`.
    pub(super) fn cloning<S: Service>(service: S) -> Self {
        Self(Box::new(|shared, options| {
            Arc::new(Cloning { shared, options: Arc::new(options), service: Mutex::new(service) })
        }))
    }

    /// Each connection has a service of its own, which `make` makes.
    pub(super) fn making<M, Via>(make: M) -> Self
    where
        M: tower_service::Service<ConnectInfo, Response: SingleService<Via>, Future: Send>,
        M: Clone + Send + 'static,
        Via: 'static,
    {
        Self(Box::new(|shared, options| {
            let make = Mutex::new(make);
            let via = std::marker::PhantomData::<fn() -> Via>;
            Arc::new(Making { shared, options: Arc::new(options), make, via })
        }))
    }
}

/// Locked for each connection, to be cloned: so what is cloned need not be `Sync`. A panic is told
/// by the panic hook, and costs this connection; the next is another try.
fn clone_of<T: Clone>(value: &Mutex<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(|| lock(value).clone())).ok()
}

struct Cloning<S> {
    shared: Arc<Shared>,
    options: Arc<Options>,
    service: Mutex<S>,
}

impl<S: Service> MakeConnection for Cloning<S> {
    fn make(&self, accepted: Accepted) {
        let (stream, guard) = begin(&self.shared, accepted);
        let Some(service) = clone_of(&self.service) else {
            return;
        };
        if self.options.preamble.is_empty() {
            let info = self.options.info(&stream, &guard);
            let mut task = ConnTask::new(Io::new(stream, guard), service, &self.options, info);
            return spawn(&self.shared, poll_fn(move |cx| task.poll(cx)));
        }
        let options = self.options.clone();
        spawn(&self.shared, async move {
            let Some(stream) = options.shake(stream, &guard).await else {
                return;
            };
            let info = options.info(&stream, &guard);
            let mut task = ConnTask::new(Io::new(stream, guard), service, &options, info);
            poll_fn(|cx| task.poll(cx)).await;
        });
    }
}

struct Making<M, Via> {
    shared: Arc<Shared>,
    options: Arc<Options>,
    make: Mutex<M>,
    via: std::marker::PhantomData<fn() -> Via>,
}

impl<M, Via> MakeConnection for Making<M, Via>
where
    M: tower_service::Service<ConnectInfo, Response: SingleService<Via>, Future: Send>,
    M: Clone + Send + 'static,
    Via: 'static,
{
    fn make(&self, accepted: Accepted) {
        let (stream, guard) = begin(&self.shared, accepted);
        let Some(mut make) = clone_of(&self.make) else {
            return;
        };
        let options = self.options.clone();
        spawn(&self.shared, async move {
            let Some(stream) = options.shake(stream, &guard).await else {
                return;
            };
            let info = ConnectInfo::of(&stream, guard.conn().core());
            // An error of either costs the connection: there is no service to answer with. It may take as
            // long as a handshake.
            let making = async {
                poll_fn(|cx| make.poll_ready(cx)).await.ok()?;
                make.call(info.clone()).await.ok()
            };
            let core = guard.conn().core();
            let limit = options.header_timeout;
            let Some(service) = before_protocol(core, limit, making).await else {
                return;
            };
            drop(make);
            guard.conn().on(Event::Shaken);
            let info = options.connect_info.then_some(info);
            let service = service.into_service(Sealed);
            let mut task = ConnTask::new(Io::new(stream, guard), service, &options, info);
            poll_fn(|cx| task.poll(cx)).await;
        });
    }
}

/// A connection that is counted and listed from here on.
fn begin(shared: &Arc<Shared>, accepted: Accepted) -> (Stream, ConnGuard<HttpConn>) {
    let Accepted { stream, peer, kernel, slot } = accepted;
    (stream, HttpConn::accepted(shared, peer, kernel, slot))
}

impl Options {
    /// What comes before HTTP. `None`: the connection has come to nothing.
    async fn shake(&self, stream: Stream, guard: &ConnGuard<HttpConn>) -> Option<Stream> {
        let conn = guard.conn();
        let stream = self.preamble.shake(conn.core(), stream, self.header_timeout).await?;
        // From here on as a connection that has just been accepted.
        conn.on(Event::Shaken);
        Some(stream)
    }

    fn info(&self, stream: &Stream, guard: &ConnGuard<HttpConn>) -> Option<ConnectInfo> {
        self.connect_info.then(|| ConnectInfo::of(stream, guard.conn().core()))
    }
}

fn spawn(shared: &Arc<Shared>, task: impl Future<Output = ()> + Send + 'static) {
    shared.runtime().spawn(InContext::new(shared, task));
}

// What a request is given in its extensions.

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
