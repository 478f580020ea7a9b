//! Any other server, by the `Shutdown` future that its framework wants.

use std::{fmt, future::Future, panic::Location};

use super::{
    Bound, Outcome, Serve, Servers,
    servers::{BoxFuture, sealed},
};
use crate::{
    context::{Shutdown, Unserved},
    util::{Failure, Sealed},
};

/// Serves with any framework: `f` is handed the [`Shutdown`] future that resolves when the drain
/// starts, and returns the server's future. The drain waits for that future; the limit cuts it.
///
/// The future's output is `()` or `Result<(), E>`; an `Err` stops the other servers gracefully and
/// makes the exit code 1.
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
        start: Box::new(|shutdown| {
            // `f` itself runs inside of the server's task, where its panic is caught.
            Box::pin(async { f(shutdown).await.outcome(Sealed) })
        }),
    }
}

/// A server made of a function, by [`serve_fn`].
#[must_use = "it serves once it is returned from `main` or handed to `Config::start`"]
pub struct ServeFn {
    unserved: Unserved,
    name: String,
    start: Box<dyn FnOnce(Shutdown) -> BoxFuture<Result<(), Failure>> + Send>,
}

impl fmt::Debug for ServeFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeFn").field("name", &self.name).finish_non_exhaustive()
    }
}

impl sealed::Sealed for ServeFn {}

impl Serve for ServeFn {
    fn collect(self: Box<Self>, servers: &mut Servers) {
        let Self { unserved, name, start } = *self;
        unserved.served();
        servers.push(|handle| async move {
            let run = start(handle.shutdown());
            Ok(vec![Bound::unaddressed(name, run)])
        });
    }
}
