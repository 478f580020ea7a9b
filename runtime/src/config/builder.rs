//! The builder that the attribute expands to.

use std::{fmt, future::Future, io, num::NonZero, sync::Arc, thread, time::Duration};

use tokio::runtime::{Builder, Handle as RuntimeHandle, LocalOptions, LocalRuntime, Runtime};

#[cfg(feature = "handover")]
use super::handover::ConfiguredHandover;
use super::limits::{ConfiguredLimits, IntoLimit, IntoWait, Source, TIMEOUT};
use crate::{
    context::adopt,
    signal::Signal,
    stop::{Scope, Shared},
    util::{Failure, Sealed, threads},
};

/// The limits of a stop and the settings of the runtime. [`graceful::main`](macro@crate::main)
/// expands to this builder, and programs without the attribute use it directly.
///
/// [`run`](Self::run) owns the process; [`start`](Self::start) runs inside an existing runtime.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// fn main() -> graceful::Exit {
///     graceful::Config::new()
///         .timeout(Duration::from_secs(3))
///         .signals([graceful::Signal::SIGTERM])
///         .run(async || graceful::serve_fn(|shutdown| shutdown))
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a configuration does nothing until it is run"]
pub struct Config {
    pub(super) limits: ConfiguredLimits,
    pub(super) signals: Vec<Signal>,
    pub(super) dump: Vec<Signal>,
    pub(super) lame_duck: Vec<Signal>,
    pub(super) quiet: bool,
    #[cfg(feature = "handover")]
    pub(super) handover: ConfiguredHandover,
    pub(super) runtime: RuntimeSettings,
}

impl Config {
    /// Creates a configuration with the defaults: `timeout` 20 s, `delay` 0 s, `linger` 250 ms,
    /// `cleanup` 5 s, the signals SIGHUP, SIGINT, SIGTERM and SIGQUIT, and a multi-threaded
    /// runtime.
    pub fn new() -> Self {
        Self {
            limits: ConfiguredLimits {
                timeout: Source::Fixed(Some(TIMEOUT)),
                delay: Source::Fixed(Some(Duration::ZERO)),
                linger: Source::Fixed(Some(Duration::from_millis(250))),
                cleanup: Source::Fixed(Some(Duration::from_secs(5))),
                spread: Source::Fixed(Some(Duration::ZERO)),
                scrape: Source::Fixed(Some(Duration::ZERO)),
            },
            signals: Signal::DEFAULT.to_vec(),
            dump: Vec::new(),
            lame_duck: Vec::new(),
            quiet: false,
            #[cfg(feature = "handover")]
            handover: ConfiguredHandover::default(),
            runtime: RuntimeSettings::default(),
        }
    }

    /// Sets the limit of the drain, counted from the moment it starts. `None` means no limit.
    ///
    /// Default: 20 s. Together with the 5 s of `cleanup`, this fits into the 30 s of grace that
    /// Kubernetes gives by default (`terminationGracePeriodSeconds`).
    pub fn timeout(mut self, limit: impl IntoLimit) -> Self {
        self.limits.timeout = limit.into_source();
        self
    }

    /// Sets the limit of the drain to what fits where the process runs: the time that the platform
    /// gives it, less `delay`, `cleanup` and a second. `timeout = "auto"` in the attribute.
    ///
    /// The time is what the environment variable `GRACEFUL_GRACE_PERIOD` says, or else the default
    /// of the platform: Kubernetes 30 s, Cloud Run 10 s, Nomad and Fly 5 s, Heroku 30 s, ECS 30 s,
    /// systemd 90 s, any other container 10 s. Elsewhere the limit is 20 s, and where nothing is
    /// left, one second. `docs/platforms.md` has the sources.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// #[graceful::main(timeout = "auto")]
    /// async fn main() -> impl graceful::Serve {
    ///     graceful::serve_fn(|shutdown| shutdown)
    /// }
    /// ```
    pub fn auto_timeout(mut self) -> Self {
        self.limits.timeout = Source::Auto;
        self
    }

    /// Sets the lame-duck period: how long connections are still accepted after the first signal,
    /// while the process already reports that it is not ready. Default: 0 s.
    ///
    /// Skipped if nothing is being served yet.
    pub fn delay(mut self, delay: impl IntoWait) -> Self {
        self.limits.delay = delay.into_source();
        self
    }

    /// Sets how long an idle keep-alive connection is kept open for one more request. Default:
    /// 250 ms.
    ///
    /// The time counts from the last activity as the client sees it: from the moment when the
    /// client has acknowledged the latest response. A connection that has been idle for longer is
    /// closed as soon as the drain starts. A connection that has not sent anything yet gets two
    /// more round trips, as many as a TLS handshake takes. On Linux, the round-trip time and the
    /// acknowledgements come from the kernel.
    pub fn linger(mut self, linger: impl IntoWait) -> Self {
        self.limits.linger = linger.into_source();
        self
    }

    /// Sets over how long the goodbyes to long-lived connections are spread, from the start of the
    /// drain, so that their clients do not come back to the other instances all at once. Default:
    /// 0 s, which means all at once. Has to be shorter than `timeout`.
    ///
    /// A goodbye is the GOAWAY to an HTTP/2 client, and [`shutdown`](crate::shutdown) as a
    /// WebSocket, a stream or a handler of [`listen`](crate::listen) sees it: each connection has a
    /// moment of its own, and is served as usual until then. To others, such as tasks, `shutdown`
    /// resolves when the drain starts. The future belongs to a connection if it is awaited by the
    /// task that waits for the connection's stream, by the handler or by the body of a response, or
    /// comes from [`Connection::shutdown`](crate::Connection::shutdown) or
    /// [`idle_shutdown`](crate::Connection::idle_shutdown). A WebSocket over HTTP/2 is told when the
    /// drain starts. Idle HTTP/1 connections are closed as always: their clients come back with
    /// their next request only.
    ///
    /// Nothing is spread when a next process takes the connections over.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// #[graceful::main(spread = "10s", timeout = "25s")]
    /// async fn main() -> impl graceful::Serve {
    ///     graceful::serve_fn(|shutdown| shutdown)
    /// }
    /// ```
    pub fn spread(mut self, spread: impl IntoWait) -> Self {
        self.limits.spread = spread.into_source();
        self
    }

    /// Sets the limit of all cleanup hooks together, which run after the drain. `None` means no
    /// limit. Default: 5 s.
    pub fn cleanup(mut self, limit: impl IntoLimit) -> Self {
        self.limits.cleanup = limit.into_source();
        self
    }

    /// Sets how long the process stays at its end, after the hooks, until its figures have been
    /// read once since the drain was over: so that a scraper sees how the last requests ended.
    /// Default: 0 s, which means that it does not wait.
    ///
    /// A scrape of `/metrics` on the port of `Server::probes` counts, and so does
    /// [`Handle::scraped`](crate::Handle::scraped), for a page of your own. Without either, the
    /// process stays for all of this time. Skipped if there was no service, if a next process has
    /// taken over, and by a second signal.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// #[graceful::main(scrape = "15s", timeout = "10s")]
    /// async fn main() -> impl graceful::Serve {
    ///     graceful::serve_fn(|shutdown| shutdown)
    /// }
    /// ```
    pub fn scrape(mut self, scrape: impl IntoWait) -> Self {
        self.limits.scrape = scrape.into_source();
        self
    }

    /// Sets the signals that start the drain. Default: SIGHUP, SIGINT, SIGTERM and SIGQUIT.
    ///
    /// A signal that is left out keeps its default action. Without any signals, only
    /// [`stop`](crate::stop) and the end of the servers start the drain.
    pub fn signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.signals = signals.into_iter().collect();
        self
    }

    /// Sets the signals that print what is in flight, at any time: requests, connections that are
    /// not idle, tasks and hooks, oldest first, at most 20. Default: none.
    ///
    /// Under [`run`](Self::run), such a signal does nothing once the stop is over, whatever its
    /// default action.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = graceful::Config::new().dump([graceful::Signal::SIGUSR1]);
    /// ```
    pub fn dump(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.dump = signals.into_iter().collect();
        self
    }

    /// Sets the signals that make the program a lame duck, and the next time end that, as
    /// [`Handle::lame_duck`](crate::Handle::lame_duck) does. A log line says which of the two.
    /// Default: none.
    ///
    /// Under [`run`](Self::run), such a signal does nothing once the stop is over, whatever its
    /// default action.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = graceful::Config::new().lame_duck([graceful::Signal::SIGUSR1]);
    /// ```
    pub fn lame_duck(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.lame_duck = signals.into_iter().collect();
        self
    }

    /// Sets whether to write only errors and what was cut off, for programs that report themselves
    /// where they listen and how they end. The output of a [`dump`](Self::dump) signal is still
    /// written. Default: `false`.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = graceful::Config::new().quiet(true);
    /// ```
    pub fn quiet(mut self, quiet: bool) -> Self {
        self.quiet = quiet;
        self
    }

    /// Returns an error if a signal has two meanings.
    pub(super) fn ambiguous_signal(&self) -> Option<Failure> {
        let lists = [
            ("signals", &self.signals),
            ("dump", &self.dump),
            ("lame_duck", &self.lame_duck),
            #[cfg(feature = "handover")]
            ("upgrade", &self.handover.signals),
        ];
        let pairs = lists
            .iter()
            .enumerate()
            .flat_map(|(at, list)| lists[at + 1..].iter().map(move |other| (list, other)));
        for ((name, signals), (other_name, others)) in pairs {
            if let Some(both) = signals.iter().find(|it| others.contains(it)) {
                return Some(Failure::new(format!(
                    "{both} is in `{name}` and in `{other_name}`: it can have one meaning"
                )));
            }
        }
        None
    }

    /// Returns how long a stop takes at most, from the first signal to the end of the process: the
    /// sum of `delay`, `timeout`, `cleanup` and `scrape`, or `None` if there is no limit. This has
    /// to fit into `terminationGracePeriodSeconds` or its equivalent: [`run`](Self::run) warns at
    /// start-up if it does not. A manifest that sets another time than the platform's default
    /// repeats it in `GRACEFUL_GRACE_PERIOD` (`30`, `30s`); see
    /// [`auto_timeout`](Self::auto_timeout).
    ///
    /// # Errors
    ///
    /// Returns an error if a duration cannot be read from the environment.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// let config = graceful::Config::new().delay(Duration::from_secs(5));
    /// assert_eq!(config.longest_stop().unwrap(), Some(Duration::from_secs(5 + 20 + 5)));
    /// ```
    pub fn longest_stop(&self) -> Result<Option<Duration>, Failure> {
        Ok(self.limits.resolve()?.total())
    }

    /// Sets which of tokio's runtimes to build. Default: multi-threaded.
    pub fn flavor(mut self, flavor: Flavor) -> Self {
        self.runtime.flavor = flavor;
        self
    }

    /// Sets the number of worker threads of the multi-threaded runtime. Default: one per core.
    ///
    /// # Panics
    ///
    /// Panics if `count` is 0, as tokio's builder does.
    #[track_caller]
    pub fn worker_threads(mut self, count: usize) -> Self {
        assert!(count > 0, "`worker_threads` may not be 0");
        self.runtime.worker_threads = Some(count);
        self
    }

    /// Sets the name of the runtime, as [`Builder::name`](tokio::runtime::Builder::name) does.
    ///
    /// # Panics
    ///
    /// Panics if `name` is empty, as tokio's builder does.
    #[track_caller]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        assert!(!name.is_empty(), "the runtime's `name` may not be empty");
        self.runtime.name = Some(name);
        self
    }

    /// Sets any other options of tokio's own [`Builder`](tokio::runtime::Builder), after the
    /// settings above: `max_blocking_threads`, `thread_stack_size`, `thread_name`, `event_interval`
    /// and so on.
    ///
    /// This crate overrides `on_thread_start`; use [`on_thread_start`](Self::on_thread_start)
    /// instead.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = graceful::Config::new().runtime(|builder| {
    ///     builder.max_blocking_threads(32).thread_stack_size(4 << 20).thread_name("web");
    /// });
    /// let exit = config.run(async || {
    ///     tokio::task::spawn_blocking(|| {
    ///         assert_eq!(std::thread::current().name(), Some("web"));
    ///     })
    ///     .await
    /// });
    /// assert_eq!(exit.code(), 0);
    /// ```
    pub fn runtime(
        mut self,
        set: impl Fn(&mut tokio::runtime::Builder) + Send + Sync + 'static,
    ) -> Self {
        self.runtime.set = Some(Hidden(Arc::new(set)));
        self
    }

    /// Calls `f` on each thread of the runtime as it starts, like
    /// [`Builder::on_thread_start`](tokio::runtime::Builder::on_thread_start).
    pub fn on_thread_start(mut self, f: impl Fn() + Send + Sync + 'static) -> Self {
        self.runtime.on_thread_start = Some(Hidden(Arc::new(f)));
        self
    }

    /// Starts tokio's clock paused (`tokio::time::pause`); needs the flavor
    /// [`CurrentThread`](Flavor::CurrentThread) or [`Local`](Flavor::Local), and the feature
    /// `test-util`.
    ///
    /// The limits of a stop still run on the real clock.
    pub fn start_paused(mut self, paused: impl StartPaused) -> Self {
        self.runtime.start_paused = paused.into_bool(Sealed);
        self
    }

    /// Sets the effect of a panic in a spawned task; needs the flavor
    /// [`CurrentThread`](Flavor::CurrentThread) or [`Local`](Flavor::Local), and
    /// `RUSTFLAGS="--cfg tokio_unstable"`.
    #[cfg_attr(
        not(tokio_unstable),
        allow(unused_mut, unused_variables, clippy::needless_pass_by_value)
    )]
    pub fn unhandled_panic(mut self, behavior: impl OnUnhandledPanic) -> Self {
        #[cfg(tokio_unstable)]
        {
            self.runtime.unhandled_panic = Some(behavior.into_behavior(Sealed));
        }
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

// Settings that need a feature or a compiler flag.

/// `bool`, if the feature `test-util` is enabled.
#[diagnostic::on_unimplemented(
    message = "`start_paused` needs the feature `test-util` of `graceful-main`",
    label = "the feature `test-util` is not enabled",
    note = "enable it: `cargo add graceful-main --features test-util`"
)]
pub trait StartPaused {
    #[doc(hidden)]
    fn into_bool(self, _: Sealed) -> bool;
}

#[cfg(feature = "test-util")]
impl StartPaused for bool {
    fn into_bool(self, _: Sealed) -> bool {
        self
    }
}

/// [`UnhandledPanic`], if `tokio_unstable` is set.
#[diagnostic::on_unimplemented(
    message = "`unhandled_panic` needs tokio's unstable features",
    label = "`tokio_unstable` is not set",
    note = "build with `RUSTFLAGS=\"--cfg tokio_unstable\"`"
)]
pub trait OnUnhandledPanic {
    #[doc(hidden)]
    fn into_behavior(self, _: Sealed) -> UnhandledPanic;
}

#[cfg(tokio_unstable)]
impl OnUnhandledPanic for UnhandledPanic {
    fn into_behavior(self, _: Sealed) -> UnhandledPanic {
        self
    }
}

// tokio's runtime and its flavors.

/// Which of tokio's runtimes to build, like `flavor` of `tokio::main`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flavor {
    /// A pool of worker threads.
    #[default]
    MultiThread,
    /// Everything on the thread that calls [`Config::run`](crate::Config::run).
    CurrentThread,
    /// Like `CurrentThread`, but on a [`LocalRuntime`](tokio::runtime::LocalRuntime), so that
    /// `tokio::task::spawn_local` works in `main`.
    Local,
}

/// The effect of a panic in a spawned task, like `unhandled_panic` of `tokio::main`. Needs
/// `--cfg tokio_unstable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnhandledPanic {
    /// No effect: the panic is only returned by the task's handle.
    Ignore,
    /// Shuts the runtime down, as if `main` had panicked.
    ShutdownRuntime,
}

#[derive(Clone, Debug, Default)]
pub(super) struct RuntimeSettings {
    pub(super) flavor: Flavor,
    pub(super) worker_threads: Option<usize>,
    pub(super) name: Option<String>,
    #[cfg_attr(not(feature = "test-util"), allow(dead_code, reason = "only with the feature"))]
    pub(super) start_paused: bool,
    #[cfg(tokio_unstable)]
    pub(super) unhandled_panic: Option<UnhandledPanic>,
    /// Sets options of tokio's builder that `Config` does not have.
    pub(super) set: Option<Hidden<SetBuilder>>,
    pub(super) on_thread_start: Option<Hidden<dyn Fn() + Send + Sync>>,
}

type SetBuilder = dyn Fn(&mut Builder) + Send + Sync;

/// A closure, with a placeholder as its `Debug` form.
pub(super) struct Hidden<F: ?Sized>(pub(super) Arc<F>);

impl<F: ?Sized> Clone for Hidden<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F: ?Sized> fmt::Debug for Hidden<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fn")
    }
}

/// A built runtime of any flavor.
pub(super) enum AnyRuntime {
    Threads(Runtime),
    Local(LocalRuntime),
}

impl RuntimeSettings {
    /// Builds the runtime; its threads carry `shared` as their context.
    pub(super) fn build(&self, shared: &Arc<Shared>) -> io::Result<AnyRuntime> {
        let mut builder = match self.flavor {
            Flavor::MultiThread => Builder::new_multi_thread(),
            Flavor::CurrentThread | Flavor::Local => Builder::new_current_thread(),
        };
        builder.enable_all();
        if let Some(count) = self.worker_threads {
            builder.worker_threads(count);
        }
        if let Some(name) = &self.name {
            builder.name(name);
        }
        #[cfg(feature = "test-util")]
        if self.start_paused {
            builder.start_paused(true);
            shared.cleanup.is_paused.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        #[cfg(tokio_unstable)]
        if let Some(behavior) = self.unhandled_panic {
            use tokio::runtime::UnhandledPanic as Tokio;
            builder.unhandled_panic(match behavior {
                UnhandledPanic::Ignore => Tokio::Ignore,
                UnhandledPanic::ShutdownRuntime => Tokio::ShutdownRuntime,
            });
        }
        if let Some(Hidden(set)) = &self.set {
            set(&mut builder);
        }
        // Weak, to avoid a cycle: the runtime keeps this closure, and the context keeps the
        // runtime's handle.
        let shared = Arc::downgrade(shared);
        let on_thread_start = self.on_thread_start.clone();
        // Set after the program's own options, which could otherwise override it.
        builder.on_thread_start(move || {
            if let Some(shared) = shared.upgrade() {
                adopt(shared, Scope::Program);
            }
            if let Some(Hidden(f)) = &on_thread_start {
                f();
            }
        });
        descriptors_can_be_had()?;
        match self.flavor {
            Flavor::Local => builder.build_local(LocalOptions::default()).map(AnyRuntime::Local),
            Flavor::CurrentThread => builder.build().map(AnyRuntime::Threads),
            Flavor::MultiThread => {
                threads::can_be_had(self.worker_threads.unwrap_or_else(default_workers))?;
                builder.build().map(AnyRuntime::Threads)
            }
        }
    }
}

/// Checks that enough descriptors are available for a runtime: tokio panics if it cannot create the
/// socket pair through which signal handlers wake it.
///
/// # Errors
///
/// If they are not.
#[cfg(unix)]
fn descriptors_can_be_had() -> io::Result<()> {
    use std::os::unix::net::UnixStream;
    // The pair, a duplicate of one end, epoll, and an eventfd: five, rounded up to pairs.
    let _all = (UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?);
    Ok(())
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "as on Unix")]
fn descriptors_can_be_had() -> io::Result<()> {
    Ok(())
}

/// Returns the number of worker threads that tokio uses by default.
fn default_workers() -> usize {
    let set = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|count| count.parse().ok());
    set.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get))
}

impl AnyRuntime {
    pub(super) fn handle(&self) -> &RuntimeHandle {
        match self {
            Self::Threads(runtime) => runtime.handle(),
            Self::Local(runtime) => runtime.handle(),
        }
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::Threads(runtime) => runtime.block_on(future),
            Self::Local(runtime) => runtime.block_on(future),
        }
    }

    /// Shuts the runtime down without waiting for blocking threads.
    ///
    /// If work was `left_behind`, leaks the runtime instead: such work may still be in the middle
    /// of a poll, and using its timers or sockets after the shutdown is a panic, which ends the
    /// process where panics abort.
    pub(super) fn end(self, left_behind: bool) {
        match self {
            runtime if left_behind => std::mem::forget(runtime),
            Self::Threads(runtime) => runtime.shutdown_background(),
            Self::Local(runtime) => runtime.shutdown_background(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Config;
    use crate::{signal::Signal, util::duration};

    /// Checks the table of the attribute; the workspace tests compare that with the README's.
    #[test]
    fn the_defaults_are_those_in_the_documentation() {
        let limits = Config::new().limits.resolve().unwrap();
        let attribute = include_str!("../main_attr.md");
        let default = |name: &str| -> String {
            let row = attribute.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
            let cell = row.unwrap().split(" | ").nth(2).unwrap();
            cell.trim_matches(['`', '"', ' ']).to_owned()
        };
        for (name, value) in [
            ("timeout", limits.timeout.unwrap()),
            ("delay", limits.delay),
            ("linger", limits.linger),
            ("cleanup", limits.cleanup.unwrap()),
            ("spread", limits.spread),
            ("scrape", limits.scrape),
        ] {
            assert_eq!(duration::parse(&default(name)), Ok(value), "{name}");
        }
        assert_eq!(default("signals"), format!("{:?}", Signal::DEFAULT));
    }
}
