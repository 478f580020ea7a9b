//! `graceful::bind(…)`: our listener for the server of another.

use std::{
    fmt,
    future::{Future, IntoFuture, pending, ready},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use super::BoxFuture;
use crate::{
    context::Handle,
    net::{
        Accepted, Connection, Endpoint, Listen, MakeConnection, Preamble, RawMaker, server_options,
    },
    stop::Shared,
    util::{Failure, LocalAddr, within},
    work::{Role, TaskName},
};

/// Binds a listener for a server that is not this crate's, such as `axum::serve`: await it.
///
/// Its connections are accepted without loss, as those of [`serve`](crate::serve) are: the accept
/// queue and handshakes that are under way at the drain are served. They are waited for, named in
/// reports, closed with care and cut by the limit. TLS, the PROXY protocol and the options of sockets
/// are set on it as on a [`Server`](crate::Server).
///
/// What only `serve` can do, because it knows the protocol: name requests, answer what an idle
/// connection is still asked within the `linger`, and bound half heads.
///
/// # Panics
///
/// Outside of a context, as [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// use axum::{Router, routing::get};
///
/// #[graceful::main]
/// async fn main() -> Result<impl graceful::Serve, graceful::Failure> {
///     let app = Router::new().route("/", get(async || "hello"));
///     Ok(axum::serve(graceful::bind("0.0.0.0:8080").await?, app))
/// }
/// ```
#[track_caller]
pub fn bind(addr: impl Listen) -> Bind {
    Bind { endpoint: Endpoint::new(addr.into_target()), handle: Handle::current() }
}

/// A listener that is about to be bound, made by [`bind`]: await it for a [`BoundListener`].
#[must_use = "it is bound when it is awaited"]
pub struct Bind {
    endpoint: Endpoint,
    handle: Handle,
}

server_options!(Bind);

impl IntoFuture for Bind {
    type Output = Result<BoundListener, Failure>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(BoundListener::bind(self))
    }
}

impl fmt::Debug for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bind").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A listener for the server of another, made by [`bind`].
///
/// With the feature `axum` it is a `Listener` of axum's: `axum::serve(listener, app)`, returned from
/// `main`, is told to stop once all that were on their way have been accepted. A service that wants to
/// know who asks takes `into_make_service_with_connect_info::<graceful::ConnectInfo>()`. Elsewhere
/// there are [`accept`](Self::accept) and [`drained`](Self::drained).
pub struct BoundListener {
    connections: mpsc::UnboundedReceiver<(Connection, Arc<Ticket>)>,
    pub(super) progress: Arc<watch::Sender<Progress>>,
    pub(super) addrs: Arc<[LocalAddr]>,
    loops: Vec<AbortHandle>,
    pub(super) linger: Duration,
}

/// What there is still to come out of the listener.
#[derive(Default)]
pub(super) struct Progress {
    accepting: usize,
    /// Connections of which nothing has been read.
    unread: usize,
}

pub(super) async fn drained(mut progress: watch::Receiver<Progress>, linger: Duration) {
    // Without a sender there is nothing left to accept.
    let _ = progress.wait_for(|progress| progress.accepting == 0).await;
    within(Some(linger), progress.wait_for(|progress| progress.unread == 0)).await;
}

impl BoundListener {
    async fn bind(Bind { endpoint, handle }: Bind) -> Result<Self, Failure> {
        let (to_here, connections) = mpsc::unbounded_channel();
        let progress = Arc::new(watch::Sender::new(Progress::default()));
        let queue = progress.clone();
        let maker = |shared, preamble| -> Arc<dyn MakeConnection> {
            let preamble = Arc::new(preamble);
            Arc::new(Queue { shared, preamble, connections: to_here, progress: queue })
        };
        let bound = endpoint.bind(handle.shared(), false, maker).await?;
        let addrs = bound.iter().map(|accept_loop| accept_loop.local_addr().clone()).collect();
        let mut loops = Vec::with_capacity(bound.len());
        for accept_loop in bound {
            let name = TaskName::Text(accept_loop.name().to_owned().into());
            let accepting = Ticket::new(&progress, |progress| &mut progress.accepting);
            let task =
                handle.spawn_tracked(Role::Server(Some(accept_loop.waiting())), name, async move {
                    let _accepting = accepting;
                    // It ends when the drain has let in all that were on their way.
                    accept_loop.run().await
                });
            loops.push(task.abort_handle());
        }
        let linger = handle.shared().limits.linger;
        Ok(Self { connections, progress, addrs, loops, linger })
    }

    /// The next connection. After [`drained`](Self::drained) there is none: it is pending for good.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept(&mut self) -> Connection {
        match self.connections.recv().await {
            Some((mut connection, ticket)) => {
                // Servers close a connection that they have not read from at once when they are told
                // to stop, whatever is in its buffer.
                connection.hold_until_read(ticket);
                connection
            }
            None => pending().await,
        }
    }

    /// A future that resolves in the drain, once all connections that were on their way have been
    /// taken by [`accept`](Self::accept) and have sent something, or had their `linger` for that: what the graceful shutdown of a server waits for, in place
    /// of [`shutdown()`](crate::shutdown()).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # let app = axum::Router::new();
    /// # let _ = async {
    /// let listener = graceful::bind("0.0.0.0:8080").await?;
    /// let drained = listener.drained();
    /// axum::serve(listener, app).with_graceful_shutdown(drained).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) };
    /// ```
    pub fn drained(&self) -> impl Future<Output = ()> + Send + use<> {
        drained(self.progress.subscribe(), self.linger)
    }

    /// The address of the first TCP socket; `None`: there are none but Unix sockets.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().next()
    }

    /// The addresses of all TCP sockets.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.addrs.iter().filter_map(LocalAddr::tcp)
    }
}

impl Drop for BoundListener {
    fn drop(&mut self) {
        // Nobody would take what they accept. Those that have ended do not mind.
        for accept_loop in &self.loops {
            accept_loop.abort();
        }
    }
}

impl fmt::Debug for BoundListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundListener").field("addrs", &self.addrs).finish_non_exhaustive()
    }
}

/// Counts something that is still to come, until it is dropped.
struct Ticket {
    progress: Arc<watch::Sender<Progress>>,
    count: fn(&mut Progress) -> &mut usize,
}

impl Ticket {
    fn new(
        progress: &Arc<watch::Sender<Progress>>,
        count: fn(&mut Progress) -> &mut usize,
    ) -> Self {
        progress.send_modify(|progress| *count(progress) += 1);
        Self { progress: progress.clone(), count }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.progress.send_modify(|progress| *(self.count)(progress) -= 1);
    }
}

/// Hands what is accepted, once its handshake is over, to whoever calls `accept`.
struct Queue {
    shared: Arc<Shared>,
    preamble: Arc<Preamble>,
    connections: mpsc::UnboundedSender<(Connection, Arc<Ticket>)>,
    progress: Arc<watch::Sender<Progress>>,
}

impl MakeConnection for Queue {
    fn make(&self, accepted: Accepted) {
        let ticket = Arc::new(Ticket::new(&self.progress, |progress| &mut progress.unread));
        let connections = self.connections.clone();
        let handler = move |connection| {
            // Where the server has gone, the connection is closed.
            let _ = connections.send((connection, ticket.clone()));
            ready(())
        };
        let (shared, preamble) = (self.shared.clone(), self.preamble.clone());
        RawMaker { shared, preamble, handler }.make(accepted);
    }
}
