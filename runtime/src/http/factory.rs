//! From an accepted stream to the task of its connection: which services can be served, and how
//! each connection gets its own.

use std::{
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    conn::HttpConn,
    io::Io,
    options::Options,
    service::{Service, SingleService},
    state::ConnEvent,
    task::ConnTask,
};
#[cfg(feature = "handover")]
use crate::log::say;
use crate::{
    context::InContext,
    net::{
        Accepted, ConnGuard, ConnectInfo, GuardedConn, MakeConnection, Stream, before_protocol,
        moving::Details,
    },
    stop::Shared,
    util::{
        Sealed,
        sync::{Mutex, lock},
        via,
    },
};

/// A service that [`serve`](crate::serve) takes:
///
/// - a tower service (an `axum::Router`, tonic's `Routes`), from `Request<Incoming>` to
///   `Response<B>`;
/// - a hyper one (`hyper::service::service_fn(…)`);
/// - one that makes a service for each connection: a tower service from [`ConnectInfo`] to one of
///   the above, such as `tower::service_fn(…)`, `tower::make::Shared` or, with the feature
///   `axum-0-8`, the result of `into_make_service_with_connect_info::<SocketAddr>()`.
///
/// `Via` tells them apart; the compiler infers it. The service is cloned for each connection, and a
/// tower service for each request, as in `axum::serve`, so `Clone` and `Send` are all it needs. A
/// panic in `clone`, `poll_ready` or `call` affects only the connection it happens on.
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
    fn into_maker(self, _: Sealed) -> ConnFactory;
}

impl<S: SingleService<via::Hyper>> HttpService<via::Hyper> for S {
    fn into_maker(self, _: Sealed) -> ConnFactory {
        ConnFactory::cloning(self.into_service(Sealed))
    }
}

impl<S: SingleService<via::Tower>> HttpService<via::Tower> for S {
    fn into_maker(self, _: Sealed) -> ConnFactory {
        ConnFactory::cloning(self.into_service(Sealed))
    }
}

impl<M, Via> HttpService<via::Make<Via>> for M
where
    M: tower_service::Service<ConnectInfo, Response: SingleService<Via>, Future: Send>,
    M: Clone + Send + 'static,
    Via: 'static,
{
    fn into_maker(self, _: Sealed) -> ConnFactory {
        ConnFactory::making(self)
    }
}

/// Makes connections, once the context and the options are known.
#[doc(hidden)]
pub struct ConnFactory(
    pub(super) Box<dyn FnOnce(Arc<Shared>, Options) -> Arc<dyn MakeConnection> + Send>,
);

impl fmt::Debug for ConnFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnFactory").finish_non_exhaustive()
    }
}

impl ConnFactory {
    /// Gives each connection a clone of `service`.
    pub(super) fn cloning<S: Service>(service: S) -> Self {
        Self(Box::new(|shared, options| {
            Arc::new(CloneService {
                shared,
                options: Arc::new(options),
                service: Mutex::new(service),
            })
        }))
    }

    /// Gives each connection its own service, made by `make`.
    pub(super) fn making<M, Via>(make: M) -> Self
    where
        M: tower_service::Service<ConnectInfo, Response: SingleService<Via>, Future: Send>,
        M: Clone + Send + 'static,
        Via: 'static,
    {
        Self(Box::new(|shared, options| {
            let make = Mutex::new(make);
            let via = std::marker::PhantomData::<fn() -> Via>;
            Arc::new(MakeService { shared, options: Arc::new(options), make, via })
        }))
    }
}

/// Clones the value under a lock, so that it need not be `Sync`. If `clone` panics, only this
/// connection is dropped.
fn clone_of<T: Clone>(value: &Mutex<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(|| lock(value).clone())).ok()
}

struct CloneService<S> {
    shared: Arc<Shared>,
    options: Arc<Options>,
    service: Mutex<S>,
}

impl<S: Service> MakeConnection for CloneService<S> {
    fn make(&self, accepted: Accepted) {
        let Some(accepted) = self.options.continued(&self.shared, accepted) else { return };
        let (stream, guard, moved) = begin(&self.shared, accepted);
        let Some(service) = clone_of(&self.service) else {
            return;
        };
        let options = self.options.clone();
        if options.preamble.is_empty() {
            let info = options.info(&stream, &guard);
            return serve(&options, stream, guard, service, info, moved);
        }
        // A task of its own: what the connection's task needs from here on is a fraction of that,
        // and this one is compiled once.
        let ready = Box::new(move |options: &Arc<Options>, stream, guard, moved| {
            let info = options.info(&stream, &guard);
            serve(options, stream, guard, service, info, moved);
        });
        before_http(options, stream, guard, moved, ready);
    }
}

type Ready =
    Box<dyn FnOnce(&Arc<Options>, Stream, ConnGuard<HttpConn>, Option<Box<Details>>) + Send>;

/// Spawns the steps before HTTP, and then `ready`.
fn before_http(
    options: Arc<Options>,
    stream: Stream,
    guard: ConnGuard<HttpConn>,
    moved: Option<Box<Details>>,
    ready: Ready,
) {
    let shared = guard.conn().core().shared().clone();
    spawn(&shared, async move {
        if let Some(stream) = options.handshake(stream, &guard, moved.is_some()).await {
            ready(&options, stream, guard, moved);
        }
    });
}

/// Spawns the task of a connection that is about to speak HTTP.
fn serve<S: Service>(
    options: &Arc<Options>,
    stream: Stream,
    guard: ConnGuard<HttpConn>,
    service: S,
    info: Option<ConnectInfo>,
    moved: Option<Box<Details>>,
) {
    let shared = guard.conn().core().shared().clone();
    let mut task = ConnTask::new(Io::new(stream, guard), service, options, info, moved);
    spawn(&shared, poll_fn(move |cx| task.poll(cx)));
}

struct MakeService<M, Via> {
    shared: Arc<Shared>,
    options: Arc<Options>,
    make: Mutex<M>,
    via: std::marker::PhantomData<fn() -> Via>,
}

impl<M, Via> MakeConnection for MakeService<M, Via>
where
    M: tower_service::Service<ConnectInfo, Response: SingleService<Via>, Future: Send>,
    M: Clone + Send + 'static,
    Via: 'static,
{
    fn make(&self, accepted: Accepted) {
        let Some(accepted) = self.options.continued(&self.shared, accepted) else { return };
        let (stream, guard, moved) = begin(&self.shared, accepted);
        let Some(mut make) = clone_of(&self.make) else {
            return;
        };
        let options = self.options.clone();
        spawn(&self.shared, async move {
            let Some(stream) = options.handshake(stream, &guard, moved.is_some()).await else {
                return;
            };
            let info = ConnectInfo::of(&stream, guard.conn().core());
            // An error drops the connection: there is no service to answer with. Making the service
            // may take as long as a handshake.
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
            guard.conn().on(ConnEvent::HandshakeDone);
            let info = options.connect_info.then_some(info);
            serve(&options, stream, guard, service.into_service(Sealed), info, moved);
        });
    }
}

/// Registers a connection, which is counted and listed from here on.
fn begin(
    shared: &Arc<Shared>,
    accepted: Accepted,
) -> (Stream, ConnGuard<HttpConn>, Option<Box<Details>>) {
    let Accepted { stream, peer, origin, slot, moved } = accepted;
    let guard = HttpConn::accepted(shared, peer, origin, slot, moved.as_deref());
    (stream, guard, moved)
}

impl Options {
    /// Has a connection that left HTTP in the process before go on with its handler; returns any
    /// other.
    #[cfg(feature = "handover")]
    fn continued(&self, shared: &Arc<Shared>, accepted: Accepted) -> Option<Accepted> {
        let name = accepted.moved.as_ref().and_then(|moved| moved.handler.clone());
        let Some(name) = name else { return Some(accepted) };
        match self.handed_over.as_ref().and_then(|handlers| handlers.get(&name)) {
            Some(handler) if self.preamble.acceptor.is_none() => {
                crate::net::continued(shared, accepted, |connection| handler(connection));
            }
            Some(_) | None => say!(
                shared.log,
                warn,
                { handler = name.clone() },
                "closed a connection that was handed over for `{name}`: no handler of this name is \
                 here"
            ),
        }
        None
    }

    #[cfg(not(feature = "handover"))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "as with the feature")]
    fn continued(&self, _: &Arc<Shared>, accepted: Accepted) -> Option<Accepted> {
        Some(accepted)
    }

    /// Runs the steps before HTTP. Returns `None` if the connection is to be dropped.
    async fn handshake(
        &self,
        stream: Stream,
        guard: &ConnGuard<HttpConn>,
        is_moved: bool,
    ) -> Option<Stream> {
        let conn = guard.conn();
        if is_moved {
            // It was plain in the process before. Where this one wants TLS, it does not go on.
            return self.preamble.acceptor.is_none().then_some(stream);
        }
        let stream = self.preamble.handshake(conn.core(), stream, self.header_timeout).await?;
        // From here on, it counts as just accepted.
        conn.on(ConnEvent::HandshakeDone);
        Some(stream)
    }

    fn info(&self, stream: &Stream, guard: &ConnGuard<HttpConn>) -> Option<ConnectInfo> {
        self.connect_info.then(|| ConnectInfo::of(stream, guard.conn().core()))
    }
}

fn spawn(shared: &Arc<Shared>, task: impl Future<Output = ()> + Send + 'static) {
    shared.runtime().spawn(InContext::new(shared, task));
}
