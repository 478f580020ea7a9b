//! The free functions: what [`Handle`] does, on the context of the code that calls them.

use std::{borrow::Cow, future::Future};

use tokio::task::JoinHandle;

use super::{handle::Handle, shutdown::Shutdown};

/// A future that resolves when the drain starts, after the `delay`.
///
/// For loops and long-lived connections: what awaits it learns that it is time to come to an end.
/// Once the body of `main` has asked for one, a stop waits for `main`, whatever it returns (see
/// [`Main`](crate::Main)).
///
/// # Panics
///
/// Outside of a context, as [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// #[graceful::main]
/// async fn main() {
///     let mut jobs = tokio::time::interval(std::time::Duration::from_secs(60));
///     let mut shutdown = graceful::shutdown();
///     loop {
///         tokio::select! {
///             _ = jobs.tick() => println!("one more job"),
///             () = &mut shutdown => break,
///         }
///     }
/// }
/// ```
#[track_caller]
pub fn shutdown() -> Shutdown {
    Handle::current().shutdown()
}

/// Starts the drain from code, as a signal would. Returns at once; a second call changes nothing.
///
/// # Panics
///
/// Outside of a context, as [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// # async fn lost_lease() {}
/// #[graceful::main]
/// async fn main() -> impl graceful::Serve {
///     graceful::spawn(async {
///         lost_lease().await;
///         graceful::stop();
///     });
///     graceful::serve_fn(|shutdown| shutdown)
/// }
/// ```
#[track_caller]
pub fn stop() {
    Handle::current().stop();
}

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

/// Registers a cleanup hook: a future that runs after the drain, whether or not the drain was cut.
///
/// Hooks run one after the other, the last registered first, within the `cleanup` limit. A hook
/// that panics is reported, and the next one runs. A second signal skips them. One registered after
/// the last hook has run is not run.
///
/// They run on a thread and a runtime of their own, and so does what they
/// [`spawn`](crate::spawn()), which is waited for within the same limit: so they can sleep, connect
/// and spawn even where the drain was cut because every worker is blocked. What belongs to the
/// program's own runtime, such as the sockets of a connection pool, cannot be used while that is
/// so; a hook that is cut then is reported with a line that says it. At the limit a hook is dropped
/// on its thread; one that blocks is left behind.
///
/// # Panics
///
/// Outside of a context, as [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// # struct Pool; impl Pool { async fn close(&self) {} }
/// # async fn connect() -> Pool { Pool }
/// #[graceful::main]
/// async fn main() -> impl graceful::Serve {
///     let pool = connect().await;
///     graceful::on_stop(async move { pool.close().await });
///     graceful::serve_fn(|shutdown| shutdown)
/// }
/// ```
#[track_caller]
pub fn on_stop(future: impl Future<Output = ()> + Send + 'static) {
    Handle::current().on_stop(future);
}
