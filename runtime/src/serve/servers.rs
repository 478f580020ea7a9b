//! The types that can be served, and how several servers become one list.

use std::{fmt, future::Future, pin::Pin};

use crate::{
    context::{Handle, TaskGroup},
    util::{Failure, LocalAddr},
    work::CountWaiting,
};

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A server, or several servers.
///
/// Implemented for [`Server`](crate::Server) and [`ServeFn`](crate::ServeFn), for tuples and `Vec`s
/// of servers, for `Option<S>`, for `Box<dyn Serve>`, for `()` (serves nothing), and for
/// `axum::serve(…)` under the feature `axum-0-8`. The trait is sealed: wrap any other server with
/// [`serve_fn`](crate::serve_fn).
///
/// # Examples
///
/// ```no_run
/// # async fn handler(_: hyper::Request<hyper::body::Incoming>)
/// #     -> Result<hyper::Response<String>, std::convert::Infallible> { unimplemented!() }
/// use hyper::service::service_fn;
///
/// #[graceful::main]
/// async fn main() -> impl graceful::Serve {
///     let public = graceful::serve("0.0.0.0:8080", service_fn(handler));
///     let admin = graceful::serve("127.0.0.1:9090", service_fn(handler));
///     (public, admin)
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a server",
    label = "this cannot be served",
    note = "servers are `graceful::serve(addr, service)`, `graceful::serve_fn(…)`, tuples and `Vec`s of \
            them, and `()`",
    note = "an `axum::Router` or a tower service becomes one by `graceful::serve(addr, service)`"
)]
#[cfg_attr(
    feature = "axum-0-8",
    diagnostic::on_unimplemented(
        note = "`axum::serve(…)` is handed the shutdown by itself: delete `.with_graceful_shutdown(…)`"
    )
)]
#[cfg_attr(
    not(feature = "axum-0-8"),
    diagnostic::on_unimplemented(note = "for `axum::serve(…)` of axum 0.8 enable the feature: \
                `cargo add graceful-main --features axum-0-8`")
)]
pub trait Serve: Send + 'static {
    // `self` is boxed, so that `Box<dyn Serve>` implements this, too.
    #[doc(hidden)]
    fn collect(self: Box<Self>, servers: &mut Servers);

    /// Keeps this server accepting and answering while the others drain and the hooks run, until
    /// the process ends. For metrics, probes and admin pages, which are needed most when a stop
    /// takes long.
    ///
    /// The drain waits neither for this server nor for its requests, and requests that are still
    /// running at the very end are cut. Its `shutdown` future also resolves at the end. Its
    /// [`readiness`](crate::Server::readiness) path still follows the program. If all servers are
    /// of this kind, a stop begins with the first signal.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use graceful::Serve;
    /// # let (app, metrics) = (axum::Router::new(), axum::Router::new());
    ///
    /// let servers = (
    ///     graceful::serve("0.0.0.0:8080", app),
    ///     graceful::serve("0.0.0.0:9000", metrics).readiness("/readyz").until_exit(),
    /// );
    /// # let _: Box<dyn Serve> = Box::new(servers);
    /// ```
    fn until_exit(self) -> UntilExit<Self>
    where
        Self: Sized,
    {
        UntilExit(self)
    }

    /// Lets this server drain when it is the turn of `group`, which is after all groups that were
    /// created later: it accepts and answers as usual until then. For a control port that the
    /// connections of other servers need until their end, say.
    ///
    /// In its handlers, [`shutdown`](crate::shutdown()) resolves at the group's turn; a task of
    /// `tokio::spawn` is not one of them, and has to be handed the future, as with any context.
    ///
    /// The drain waits for it, and its limit holds, and so does that of the group
    /// ([`TaskGroup::limit`]). A server without a group drains when the drain starts.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use graceful::{Serve, TaskGroup};
    ///
    /// # async fn tunnel(_: graceful::Connection) {}
    /// #[graceful::main]
    /// async fn main() -> impl graceful::Serve {
    ///     // Made first: stops last.
    ///     let control = TaskGroup::new("control");
    ///     let tunnels = TaskGroup::new("tunnels");
    ///     # let app = axum::Router::new();
    ///     (
    ///         graceful::serve("127.0.0.1:9000", app).in_group(&control),
    ///         graceful::listen("0.0.0.0:7000", tunnel).in_group(&tunnels),
    ///     )
    /// }
    /// ```
    fn in_group(self, group: &TaskGroup) -> InGroup<Self>
    where
        Self: Sized,
    {
        InGroup { server: self, group: group.clone() }
    }
}

/// Servers that have not been bound yet.
#[doc(hidden)]
#[derive(Default)]
pub struct Servers(Vec<Unbound>);

pub(crate) struct Unbound {
    pub(crate) bind: Box<dyn FnOnce(Handle) -> Binding + Send>,
}

type Binding = BoxFuture<Result<Vec<Bound>, Failure>>;

/// A server that is ready to accept.
pub(crate) struct Bound {
    /// The server's name in messages: its address, or the line that created it.
    pub(crate) name: String,
    /// Where it listens, if known.
    pub(crate) addr: Option<LocalAddr>,
    pub(crate) run: BoxFuture<Result<(), Failure>>,
    /// The context of a server that keeps running while the program stops, or for longer than
    /// others.
    pub(crate) context: Option<Handle>,
    /// Whether the program ends without waiting for it.
    pub(crate) is_out_of_band: bool,
    /// Whether to log that it has ended by itself.
    pub(crate) says_its_end: bool,
    /// Counts the clients waiting to be accepted.
    pub(crate) waiting: Option<CountWaiting>,
}

impl Bound {
    /// Creates the entry of a server of this crate.
    #[cfg(feature = "net")]
    pub(crate) fn accepting(accept_loop: crate::net::AcceptLoop) -> Self {
        Self {
            name: accept_loop.name().to_owned(),
            addr: Some(accept_loop.local_addr().clone()),
            waiting: Some(accept_loop.waiting()),
            run: Box::pin(accept_loop.run()),
            context: None,
            is_out_of_band: false,
            says_its_end: false,
        }
    }

    /// Creates the entry of a server of another framework. `addr` is `None` if it is not known.
    pub(crate) fn other(
        name: String,
        addr: Option<LocalAddr>,
        run: BoxFuture<Result<(), Failure>>,
    ) -> Self {
        Self {
            name,
            addr,
            run,
            context: None,
            is_out_of_band: false,
            says_its_end: false,
            waiting: None,
        }
    }
}

impl Servers {
    /// Adds a server, which may listen on several addresses.
    pub(crate) fn push<F>(&mut self, bind: impl FnOnce(Handle) -> F + Send + 'static)
    where
        F: Future<Output = Result<Vec<Bound>, Failure>> + Send + 'static,
    {
        let bind = Box::new(|handle| Box::pin(bind(handle)) as BoxFuture<_>);
        self.0.push(Unbound { bind });
    }

    /// Adds a server that has no separate bind step.
    pub(crate) fn push_future(
        &mut self,
        name: impl Into<String>,
        run: impl Future<Output = Result<(), Failure>> + Send + 'static,
    ) {
        let name = name.into();
        self.push(|_| async {
            let run = Box::pin(run) as BoxFuture<_>;
            Ok(vec![Bound::other(name, None, run)])
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_vec(self) -> Vec<Unbound> {
        self.0
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Servers").field(&self.0.len()).finish()
    }
}

/// A server that keeps accepting and answering while the others drain and the hooks run, and that
/// is not waited for. Returned by [`Serve::until_exit`].
#[must_use = "it serves once it is returned from `main` or handed to `Config::start`"]
pub struct UntilExit<S>(S);

impl<S: fmt::Debug> fmt::Debug for UntilExit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UntilExit").field(&self.0).finish()
    }
}

impl<S: Serve> Serve for UntilExit<S> {
    fn collect(self: Box<Self>, servers: &mut Servers) {
        let mut these = Servers::default();
        Box::new(self.0).collect(&mut these);
        for unbound in these.into_vec() {
            servers.push(|handle| async move {
                let out_of_band = handle.out_of_band();
                let mut bound = (unbound.bind)(out_of_band.clone()).await?;
                for server in &mut bound {
                    server.context = Some(out_of_band.clone());
                    server.is_out_of_band = true;
                }
                Ok(bound)
            });
        }
    }
}

/// A server that drains when it is the turn of its group. Returned by [`Serve::in_group`].
#[must_use = "it serves once it is returned from `main` or handed to `Config::start`"]
pub struct InGroup<S> {
    server: S,
    group: TaskGroup,
}

impl<S: fmt::Debug> fmt::Debug for InGroup<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InGroup").field("server", &self.server).field("group", &self.group).finish()
    }
}

impl<S: Serve> Serve for InGroup<S> {
    fn collect(self: Box<Self>, servers: &mut Servers) {
        let (mut these, group) = (Servers::default(), self.group);
        Box::new(self.server).collect(&mut these);
        for unbound in these.into_vec() {
            let group = group.clone();
            servers.push(|_| async move {
                let context = Handle::of(&group.server());
                let mut bound = (unbound.bind)(context.clone()).await?;
                for server in &mut bound {
                    // One that runs until the exit has a context of its own.
                    if server.context.is_none() {
                        server.context = Some(context.clone());
                    }
                }
                Ok(bound)
            });
        }
    }
}

impl Serve for () {
    fn collect(self: Box<Self>, _: &mut Servers) {}
}

/// An optional server, for example behind a setting.
impl<S: Serve> Serve for Option<S> {
    fn collect(self: Box<Self>, servers: &mut Servers) {
        if let Some(server) = *self {
            Box::new(server).collect(servers);
        }
    }
}

impl<S: Serve> Serve for Vec<S> {
    fn collect(self: Box<Self>, servers: &mut Servers) {
        for server in *self {
            Box::new(server).collect(servers);
        }
    }
}

impl<S: Serve + ?Sized> Serve for Box<S> {
    fn collect(self: Box<Self>, servers: &mut Servers) {
        (*self).collect(servers);
    }
}

macro_rules! tuples {
    ($($name:ident),+) => {
        impl<$($name: Serve),+> Serve for ($($name,)+) {
            fn collect(self: Box<Self>, servers: &mut Servers) {
                #[allow(non_snake_case, reason = "one name for a type and its value")]
                let ($($name,)+) = *self;
                $(Box::new($name).collect(servers);)+
            }
        }
    };
}

tuples!(A);
tuples!(A, B);
tuples!(A, B, C);
tuples!(A, B, C, D);
tuples!(A, B, C, D, E);
tuples!(A, B, C, D, E, F);
tuples!(A, B, C, D, E, F, G);
tuples!(A, B, C, D, E, F, G, H);

#[cfg(feature = "http1")]
impl Serve for crate::http::Server {
    #[cfg_attr(not(feature = "probes"), allow(unused_mut))]
    fn collect(mut self: Box<Self>, servers: &mut Servers) {
        #[cfg(feature = "probes")]
        let probes = self.take_probes();
        let server = self.served();
        servers.push(move |handle| async move {
            let bound = server.bind(handle).await?.into_iter();
            Ok(bound.map(Bound::accepting).collect())
        });
        #[cfg(feature = "probes")]
        if let Some(probes) = probes {
            Box::new(probes.until_exit()).collect(servers);
        }
    }
}
