//! The builder that the attribute expands to.

use std::{sync::Arc, time::Duration};

use super::{
    conditional::{OnUnhandledPanic, StartPaused},
    flavor::{Flavor, Hidden, RuntimeSettings},
    limits::{ConfiguredLimits, IntoLimit, IntoWait, Source},
};
use crate::{
    signal::Signal,
    util::{Failure, Sealed},
};

/// Limits of a stop and settings of the runtime: what [`graceful::main`](macro@crate::main) expands
/// to, and the way to go without the attribute.
///
/// [`run`](Self::run) owns the process; [`start`](Self::start) runs inside of an existing runtime.
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
    pub(super) quiet: bool,
    pub(super) runtime: RuntimeSettings,
}

impl Config {
    /// The defaults: `timeout` 20 s, `delay` 0 s, `linger` 250 ms, `cleanup` 5 s, the signals
    /// SIGHUP, SIGINT, SIGTERM and SIGQUIT, a multi-threaded runtime.
    pub fn new() -> Self {
        Self {
            limits: ConfiguredLimits {
                timeout: Source::Fixed(Some(Duration::from_secs(20))),
                delay: Source::Fixed(Some(Duration::ZERO)),
                linger: Source::Fixed(Some(Duration::from_millis(250))),
                cleanup: Source::Fixed(Some(Duration::from_secs(5))),
            },
            signals: Signal::DEFAULT.to_vec(),
            dump: Vec::new(),
            quiet: false,
            runtime: RuntimeSettings::default(),
        }
    }

    /// The limit of the drain, counted from the moment it starts; `None` is no limit.
    ///
    /// Default: 20 s, which with `cleanup`'s 5 s fits into the 30 s of grace that Kubernetes gives
    /// (`terminationGracePeriodSeconds`).
    pub fn timeout(mut self, limit: impl IntoLimit) -> Self {
        self.limits.timeout = limit.into_source();
        self
    }

    /// Lame duck: how long, after the first signal, connections are still accepted, while the
    /// process already says that it is not ready. Default: 0 s.
    ///
    /// Skipped where nothing is being served yet.
    pub fn delay(mut self, delay: impl IntoWait) -> Self {
        self.limits.delay = delay.into_source();
        self
    }

    /// How long an idle keep-alive connection is kept for one more request. Default: 250 ms.
    ///
    /// It counts from the last activity, as the client sees it: from the moment in which the client
    /// has acknowledged the latest response. One that has been idle for longer is closed as soon as
    /// the drain starts. A connection that has not sent anything yet is given two round trips more,
    /// as many as a TLS handshake takes. How far away a client is, and what it has acknowledged, is
    /// asked of the kernel (on Linux).
    pub fn linger(mut self, linger: impl IntoWait) -> Self {
        self.limits.linger = linger.into_source();
        self
    }

    /// The limit of all cleanup hooks together, after the drain; `None` is no limit. Default: 5 s.
    pub fn cleanup(mut self, limit: impl IntoLimit) -> Self {
        self.limits.cleanup = limit.into_source();
        self
    }

    /// The signals that start the drain. Default: SIGHUP, SIGINT, SIGTERM and SIGQUIT.
    ///
    /// A signal that is left out keeps its default action. With none at all, only
    /// [`stop`](crate::stop) and the end of the servers start the drain.
    pub fn signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.signals = signals.into_iter().collect();
        self
    }

    /// The signals that print what is in flight, at any time: requests, connections that are not idle,
    /// tasks and hooks, the oldest first, 20 at the most. Default: none.
    ///
    /// Under [`run`](Self::run) such a signal does nothing more once the stop is over, whatever its
    /// default action is.
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

    /// Whether only errors are written, and what was cut off: for programs that say themselves where
    /// they listen and how they end. What a signal of [`dump`](Self::dump) asks for is written all the
    /// same. Default: `false`.
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

    /// What is wrong where a signal has two meanings.
    pub(super) fn ambiguous_signal(&self) -> Option<Failure> {
        let both = self.dump.iter().find(|dump| self.signals.contains(dump))?;
        Some(Failure::new(format!(
            "{both} is in `signals` and in `dump`: it can start the drain, or print what is in flight"
        )))
    }

    /// How long a stop takes at the most, from the first signal to the end of the process: the sum of
    /// `delay`, `timeout` and `cleanup`; `None`: there is no limit. What has to fit into
    /// `terminationGracePeriodSeconds` and its like: where a manifest repeats that number in
    /// `GRACEFUL_GRACE_PERIOD` (`30`, `30s`), [`run`](Self::run) says at the start if it does not.
    ///
    /// # Errors
    ///
    /// If a duration cannot be read from the environment.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// let config = graceful::Config::new().delay(Duration::from_secs(5));
    /// assert_eq!(config.longest_stop().unwrap(), Some(Duration::from_secs(5 + 20 + 5)));
    /// ```
    pub fn longest_stop(&self) -> Result<Option<Duration>, Failure> {
        Ok(self.limits.resolve()?.whole())
    }

    /// Which of tokio's runtimes to build. Default: multi-threaded.
    pub fn flavor(mut self, flavor: Flavor) -> Self {
        self.runtime.flavor = flavor;
        self
    }

    /// How many worker threads the multi-threaded runtime has. Default: as many as there are cores.
    ///
    /// # Panics
    ///
    /// If `count` is 0, as tokio's.
    #[track_caller]
    pub fn worker_threads(mut self, count: usize) -> Self {
        assert!(count > 0, "`worker_threads` may not be 0");
        self.runtime.worker_threads = Some(count);
        self
    }

    /// The name of the runtime, as in
    /// [`Builder::name`](tokio::runtime::Builder::name).
    ///
    /// # Panics
    ///
    /// If `name` is empty, as tokio's.
    #[track_caller]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        assert!(!name.is_empty(), "the runtime's `name` may not be empty");
        self.runtime.name = Some(name);
        self
    }

    /// Sets anything else of tokio's own [`Builder`](tokio::runtime::Builder), after the settings
    /// above: `max_blocking_threads`, `thread_stack_size`, `thread_name`, `event_interval` and so on.
    ///
    /// `on_thread_start` is this crate's, whatever is set here: see
    /// [`on_thread_start`](Self::on_thread_start).
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

    /// Calls `f` on each thread of the runtime as it starts, as in
    /// [`Builder::on_thread_start`](tokio::runtime::Builder::on_thread_start).
    pub fn on_thread_start(mut self, f: impl Fn() + Send + Sync + 'static) -> Self {
        self.runtime.on_thread_start = Some(Hidden(Arc::new(f)));
        self
    }

    /// Starts tokio's clock paused (`tokio::time::pause`); needs the flavor
    /// [`CurrentThread`](Flavor::CurrentThread) or [`Local`](Flavor::Local), and the feature
    /// `test-util`.
    ///
    /// The limits of a stop run on the real clock all the same.
    pub fn start_paused(mut self, paused: impl StartPaused) -> Self {
        self.runtime.start_paused = paused.into_bool(Sealed);
        self
    }

    /// What a panic in a spawned task does; needs the flavor
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

#[cfg(test)]
mod tests {
    use super::Config;
    use crate::{signal::Signal, util::duration};

    /// The table of the attribute; the tests of the workspace compare it with the README's.
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
        ] {
            assert_eq!(duration::parse(&default(name)), Ok(value), "{name}");
        }
        assert_eq!(default("signals"), format!("{:?}", Signal::DEFAULT));
    }
}
