//! Servers of other frameworks, by the `Shutdown` future that these expect.

use std::{fmt, future::Future, net::SocketAddr, panic::Location};

use super::{Bound, Serve, Servers, servers::BoxFuture};
use crate::{
    context::{Shutdown, Unserved},
    util::{Failure, LocalAddr, Outcome, Sealed},
};

/// Serves with any framework: `f` receives the [`Shutdown`] future, which resolves when the drain
/// starts, and returns the server's future. The drain waits for that future; the limit cuts it.
///
/// The future's output is `()` or `Result<(), E>`. An `Err` stops the other servers gracefully, and
/// the exit code is 1.
///
/// # Examples
///
/// ```no_run
/// #[graceful::main]
/// async fn main() -> impl graceful::Serve {
///     graceful::serve_fn(|shutdown| async move {
///         let listener = tokio::net::TcpListener::bind("127.0.0.1:7000").await?;
///         tokio::select! {
///             result = accept_forever(listener) => result,
///             () = shutdown => Ok(()),
///         }
///     })
/// }
/// # async fn accept_forever(_: tokio::net::TcpListener) -> std::io::Result<()> { Ok(()) }
/// ```
#[track_caller]
pub fn serve_fn<F, Fut, O>(f: F) -> ServeFn
where
    F: FnOnce(Shutdown) -> Fut + Send + 'static,
    Fut: Future<Output: Outcome<O>> + Send + 'static,
{
    let name = Location::caller().to_string();
    ServeFn {
        unserved: Unserved::new(&name),
        name,
        addr: None,
        start: Box::new(|shutdown| {
            // Calls `f` inside the server's task, so that its panic is caught.
            Box::pin(async { f(shutdown).await.outcome(Sealed) })
        }),
    }
}

/// A server made from a function, returned by [`serve_fn`].
#[must_use = "it serves once it is returned from `main` or handed to `Config::start`"]
pub struct ServeFn {
    unserved: Unserved,
    name: String,
    addr: Option<SocketAddr>,
    start: Box<dyn FnOnce(Shutdown) -> BoxFuture<Result<(), Failure>> + Send>,
}

impl ServeFn {
    /// Sets the name in messages and reports. Default: the line of the call of [`serve_fn`].
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the address where it listens, which is logged once all servers serve and is part of
    /// [`Listening`](crate::Listening).
    ///
    /// # Examples
    ///
    /// A server of another framework, with a listener that is already bound:
    ///
    /// ```no_run
    /// # mod other { pub async fn serve(_: tokio::net::TcpListener, _: graceful::Shutdown) {} }
    /// #[graceful::main]
    /// async fn main() -> std::io::Result<impl graceful::Serve> {
    ///     let listener = tokio::net::TcpListener::bind("127.0.0.1:7000").await?;
    ///     let addr = listener.local_addr()?;
    ///     let server = graceful::serve_fn(|shutdown| other::serve(listener, shutdown));
    ///     Ok(server.name("other").addr(addr))
    /// }
    /// ```
    pub fn addr(mut self, addr: SocketAddr) -> Self {
        self.addr = Some(addr);
        self
    }
}

impl fmt::Debug for ServeFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeFn").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Serve for ServeFn {
    fn collect(self: Box<Self>, servers: &mut Servers) {
        let Self { unserved, name, addr, start } = *self;
        unserved.served();
        servers.push(move |handle| async move {
            let run = start(handle.shutdown());
            let name = addr.map_or_else(|| name.clone(), |addr| format!("{name} on {addr}"));
            let bound = Bound::other(name, addr.map(LocalAddr::Tcp), run);
            Ok(vec![Bound { says_its_end: true, ..bound }])
        });
    }
}
