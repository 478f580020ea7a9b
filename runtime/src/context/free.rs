//! The free functions: the methods of [`Handle`], on the caller's context. Those that spawn are in
//! `handle`.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::{handle::Handle, shutdown::Shutdown};
use crate::{stop::Listening, util::Outcome};

/// Returns a future that resolves when the drain starts, after the `delay`.
///
/// Loops and long-lived connections await it to learn that it is time to finish. Once the body of
/// `main` has asked for one, a stop waits for `main`, whatever it returns (see
/// [`Main`](crate::Main)).
///
/// # Panics
///
/// Panics if called outside of a context, like [`Handle::current`].
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

/// Returns a future that resolves at the first stop signal, before the `delay`: the time to
/// announce that this process should get no new work, as a readiness probe does. [`shutdown`]
/// resolves after the `delay`, when it is time to finish.
///
/// # Panics
///
/// Panics if called outside of a context, like [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// # struct Health; impl Health { async fn set_not_serving(&self) {} }
/// # fn health() -> Health { Health }
/// #[graceful::main(delay = "5s")]
/// async fn main() -> impl graceful::Serve {
///     let health = health();
///     let stopping = graceful::stopping();
///     graceful::spawn(async move {
///         stopping.await;
///         health.set_not_serving().await;
///     });
///     graceful::serve_fn(|shutdown| shutdown)
/// }
/// ```
#[track_caller]
pub fn stopping() -> Shutdown {
    Handle::current().stopping()
}

/// Returns a `CancellationToken` of tokio-util that is cancelled when the drain starts, for
/// libraries that expect one. Cancelling it stops nothing else.
///
/// # Panics
///
/// Panics if called outside of a context, like [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// #[graceful::main]
/// async fn main() {
///     let token = graceful::cancellation_token();
///     token.cancelled().await;
/// }
/// ```
#[cfg(feature = "tokio-util")]
#[must_use]
#[track_caller]
pub fn cancellation_token() -> tokio_util::sync::CancellationToken {
    Handle::current().cancellation_token()
}

/// Starts the drain from code, as a signal would. Returns immediately; a second call has no effect.
///
/// # Panics
///
/// Panics if called outside of a context, like [`Handle::current`].
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

/// Registers a cleanup hook: a future that runs after the drain, whether or not the drain was cut.
///
/// Hooks run one after another, last registered first, within the `cleanup` limit. The future's
/// output is `()` or `Result<(), E>`. If a hook fails or panics, this is reported, the next hook
/// runs, and the exit code is 1. A second signal skips the hooks. A hook registered after the last
/// one has run never runs.
///
/// Hooks run on a separate thread with its own runtime, and so do the tasks they
/// [`spawn`](crate::spawn()), which are waited for within the same limit. They can therefore sleep,
/// connect and spawn even if the drain was cut because every worker is blocked. Resources of the
/// program's own runtime, such as the sockets of a connection pool, cannot be used in that case; if
/// a hook is cut because of this, a log line says so. At the limit, a hook is dropped on its
/// thread; one that blocks is left behind.
///
/// # Panics
///
/// Panics if called outside of a context, like [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// # struct Pool; impl Pool { async fn close(&self) -> std::io::Result<()> { Ok(()) } }
/// # async fn connect() -> Pool { Pool }
/// #[graceful::main]
/// async fn main() -> impl graceful::Serve {
///     let pool = connect().await;
///     graceful::on_stop(async move { pool.close().await });
///     graceful::serve_fn(|shutdown| shutdown)
/// }
/// ```
#[track_caller]
pub fn on_stop<O>(future: impl Future<Output: Outcome<O>> + Send + 'static) {
    Handle::current().on_stop(future);
}

/// Runs `f` once every listener is bound. It receives the addresses ([`Listening`]), and its future
/// is a task like those of [`spawn`](crate::spawn()). If the listeners are bound already, it runs
/// immediately; in a program that serves nothing, it never runs.
///
/// # Panics
///
/// Panics if called outside of a context, like [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// # async fn register(_: Option<std::net::SocketAddr>) {}
/// #[graceful::main]
/// async fn main() -> impl graceful::Serve {
///     graceful::on_ready(async |listening| register(listening.local_addr()).await);
///     # let app = axum::Router::new();
///     graceful::serve("0.0.0.0:0", app)
/// }
/// ```
#[track_caller]
pub fn on_ready<F, Fut>(f: F)
where
    F: FnOnce(Listening) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Handle::current().on_ready(f);
}

/// Keeps a value until the process ends, for guards that `main` creates and that must outlive it,
/// such as those of a log writer, a telemetry exporter, or a temporary folder.
///
/// Kept values are dropped at the very end, last kept first: after the drain and the hooks, and
/// after the report is out, so that a guard which flushes the log flushes the report, too. They are
/// dropped on a separate thread, while the runtime is still running, within the rest of the
/// `cleanup` limit, or within 15 ms after a second signal. Values that are left behind are named by
/// their types.
///
/// # Panics
///
/// Panics if called outside of a context, like [`Handle::current`].
///
/// # Examples
///
/// ```no_run
/// # mod tracing_appender { pub mod non_blocking {
/// #     pub struct WorkerGuard;
/// #     pub fn init() -> WorkerGuard { WorkerGuard } } }
/// #[graceful::main]
/// async fn main() -> impl graceful::Serve {
///     graceful::keep(tracing_appender::non_blocking::init());
///     # let app = axum::Router::new();
///     graceful::serve("127.0.0.1:8080", app)
/// }
/// ```
#[track_caller]
pub fn keep(value: impl Send + 'static) {
    Handle::current().keep(value);
}

// Streams and futures that end when the drain starts.

/// Ends a stream or a future when the drain starts.
///
/// - A **stream** ends, which is for responses that would never end by themselves, such as
///   server-sent events. Items that are ready at that moment are not sent any more.
/// - A **future** is dropped, and the output is `None`. If it is ready at that moment, the output
///   is still `Some`. Giving up on whatever it awaits should be safe: see the "cancel safety" of
///   that.
///
/// Call this within a context, such as in a handler; the result may be polled anywhere.
///
/// # Panics
///
/// Panics if called outside of a context, like [`Handle::current`](crate::Handle::current).
///
/// # Examples
///
/// ```no_run
/// use axum::response::sse::{Event, Sse};
/// # use futures_core::Stream;
/// # use std::convert::Infallible;
/// # fn ticks() -> impl Stream<Item = Result<Event, Infallible>> {
/// #     futures_util::stream::repeat_with(|| Ok(Event::default())) }
///
/// async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
///     Sse::new(graceful::until_shutdown(ticks()))
/// }
/// ```
///
/// ```no_run
/// # async fn next_job() -> u32 { 0 }
/// # async fn work(_: u32) {}
/// #[graceful::main]
/// async fn main() {
///     while let Some(job) = graceful::until_shutdown(next_job()).await {
///         work(job).await;
///     }
/// }
/// ```
#[track_caller]
pub fn until_shutdown<S>(inner: S) -> UntilShutdown<S> {
    UntilShutdown { inner: Some(inner), shutdown: shutdown() }
}

pin_project! {
    /// A stream or a future that ends when the drain starts, returned by [`until_shutdown`].
    #[must_use = "streams and futures do nothing unless polled"]
    pub struct UntilShutdown<S> {
        // `None` once it has ended, so that everything it owns is dropped.
        #[pin]
        inner: Option<S>,
        shutdown: Shutdown,
    }
}

impl<F: Future> Future for UntilShutdown<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let mut this = self.project();
        let Some(future) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let output = match future.poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => {
                std::task::ready!(Pin::new(this.shutdown).poll(cx));
                None
            }
        };
        this.inner.set(None);
        Poll::Ready(output)
    }
}

impl<S: Stream> Stream for UntilShutdown<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut this = self.project();
        let Some(stream) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let item = match Pin::new(this.shutdown).poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => stream.poll_next(cx),
        };
        if let Poll::Ready(None) = item {
            this.inner.set(None);
        }
        item
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // It may end at any time.
        let most = self.inner.as_ref().map_or(Some(0), |stream| stream.size_hint().1);
        (0, most)
    }
}

impl<S: fmt::Debug> fmt::Debug for UntilShutdown<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntilShutdown").field("inner", &self.inner).finish_non_exhaustive()
    }
}
