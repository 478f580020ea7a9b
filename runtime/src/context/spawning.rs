//! The free functions that spawn what the drain waits for.

use std::{borrow::Cow, future::Future};

use tokio::task::JoinHandle;

use super::handle::Handle;
use crate::util::Outcome;

/// Spawns a task that the drain waits for: what Go needs a `sync.WaitGroup` for.
///
/// In messages it is named by the line of this call. It may spawn more tasks while the drain is
/// under way. The limit aborts it, as [`JoinHandle::abort`] does. A panic is logged, and is the
/// result of the returned handle.
///
/// A task of [`tokio::spawn`] is *not* waited for.
///
/// # Panics
///
/// Outside of a context, as [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// # async fn send_mail() {}
/// # async fn handler() -> &'static str {
/// graceful::spawn(send_mail());
/// "accepted"
/// # }
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    Handle::current().spawn(future)
}

/// [`spawn`] with a name for messages, in place of the caller's line.
///
/// # Panics
///
/// Outside of a context, as [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// # async fn rebuild() {}
/// # async fn handler() {
/// graceful::spawn_named("rebuild the index", rebuild());
/// # }
/// ```
#[track_caller]
pub fn spawn_named<F>(name: impl Into<Cow<'static, str>>, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    Handle::current().spawn_named(name, future)
}

/// Spawns a task that the program cannot do without: its end before a stop, its error and its panic
/// stop the program gracefully, with the exit code 1.
///
/// It is waited for as a task of [`spawn`] is, and should come to its end when the drain starts, of
/// which it learns from [`shutdown()`](crate::shutdown()). The future's output is `()` or `Result<(), E>`. An abort is an
/// end, too.
///
/// # Panics
///
/// Outside of a context, as [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// # async fn consume(_: graceful::Shutdown) -> std::io::Result<()> { Ok(()) }
/// #[graceful::main]
/// async fn main() -> impl graceful::Serve {
///     graceful::spawn_critical("orders", consume(graceful::shutdown()));
///     graceful::serve_fn(|shutdown| shutdown)
/// }
/// ```
#[track_caller]
pub fn spawn_critical<F, O>(name: impl Into<Cow<'static, str>>, future: F) -> JoinHandle<()>
where
    F: Future<Output: Outcome<O>> + Send + 'static,
    O: 'static,
{
    Handle::current().spawn_critical(name, future)
}

/// [`spawn`] for a future that is not `Send`, on the thread of this call.
///
/// # Panics
///
/// Outside of a context, as [`Handle::current`], and where [`tokio::task::spawn_local`] does:
/// outside of `flavor = "local"` and of a `LocalSet`.
///
/// # Examples
///
/// ```
/// #[graceful::main(flavor = "local")]
/// async fn main() {
///     let shared = std::rc::Rc::new(1);
///     graceful::spawn_local(async move { println!("{shared}") });
/// }
/// ```
#[track_caller]
pub fn spawn_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: 'static> + 'static,
{
    Handle::current().spawn_local(future)
}

/// Runs a blocking closure on a thread of its own; the drain waits for it.
///
/// Nothing can abort it: at the limit it is named in the report and left behind, and the end of the
/// process ends it.
///
/// # Panics
///
/// Outside of a context, as [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// # fn compress() {}
/// # async fn handler() {
/// graceful::spawn_blocking(|| compress());
/// # }
/// ```
#[track_caller]
pub fn spawn_blocking<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Handle::current().spawn_blocking(f)
}
