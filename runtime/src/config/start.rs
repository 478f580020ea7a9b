//! `Config::start`: the same, inside of another program.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::sync::{mpsc::unbounded_channel, oneshot};

use super::builder::Config;
use crate::{
    context::{Handle, InContext, adopt},
    log::Log,
    manager::Manager,
    serve::{BoxFuture, Serve, Servers, launch},
    signal::Signal,
    stop::{self, Ended, Phase, Propagation, Report},
    util::{Failure, LocalAddr},
};

impl Config {
    /// Starts `server` inside of the current tokio runtime, for tests and for programs that own
    /// their `main`: binds, serves on the runtime's threads, and returns once every listener is
    /// bound.
    ///
    /// Installs no signal handler ([`Start::signals`] does), prints nothing (events go to
    /// `tracing`) and never ends the process. The free functions ([`spawn`](crate::spawn),
    /// [`shutdown`](crate::shutdown), …) work in the server's handlers and in tasks spawned through
    /// this crate; elsewhere, use
    /// [`Running::handle`]. The settings of the runtime of this `Config` do not apply.
    ///
    /// # Errors
    ///
    /// If a server cannot be bound, a duration cannot be read from the environment, or the thread
    /// that watches the limits cannot be started.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), graceful::Failure> {
    /// # async fn app(_: hyper::Request<hyper::body::Incoming>)
    /// #     -> Result<hyper::Response<String>, std::convert::Infallible> { unimplemented!() }
    /// let app = hyper::service::service_fn(app);
    /// let running = graceful::Config::new().start(graceful::serve("127.0.0.1:0", app)).await?;
    /// let addr = running.local_addr().expect("a TCP server");
    /// // … requests to `addr` …
    /// let report = running.stop().await;
    /// assert!(report.is_clean(), "{report}");
    /// # Ok(()) }
    /// ```
    pub fn start<S: Serve>(self, server: S) -> Start {
        Start(StartState::Settings(Box::new((self, Box::new(server) as Box<dyn Serve>, false))))
    }
}

/// A start that is under way, made by [`Config::start`]: a future of [`Running`].
///
/// # Cancel safety
///
/// Dropping it stops what has been started.
#[must_use = "futures do nothing unless polled"]
pub struct Start(StartState);

enum StartState {
    Settings(Box<(Config, Box<dyn Serve>, bool)>),
    Starting(BoxFuture<Result<Running, Failure>>),
}

impl Start {
    /// Lets the [`signals`](Config::signals) of the `Config` stop the server, as under
    /// [`run`](Config::run): the first starts the drain, a second one ends it at once. The process
    /// is not ended by that: [`Running::ended`] resolves with the report. The signals have their
    /// default actions again then.
    ///
    /// # Panics
    ///
    /// If it has been polled before.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # let app = axum::Router::new();
    /// # let _ = async {
    /// let server = graceful::serve("127.0.0.1:8080", app);
    /// let running = graceful::Config::new().start(server).signals().await?;
    /// let report = running.ended().await;
    /// println!("{report}");
    /// # Ok::<(), graceful::Failure>(()) };
    /// ```
    #[track_caller]
    pub fn signals(mut self) -> Self {
        match &mut self.0 {
            StartState::Settings(settings) => settings.2 = true,
            StartState::Starting(_) => panic!("`signals` comes before the first `await`"),
        }
        self
    }
}

impl Future for Start {
    type Output = Result<Running, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let StartState::Settings(_) = &self.0 {
            let empty = StartState::Starting(Box::pin(std::future::pending()));
            if let StartState::Settings(settings) = std::mem::replace(&mut self.0, empty) {
                let (config, server, signals) = *settings;
                self.0 = StartState::Starting(Box::pin(start(config, server, signals)));
            }
        }
        match &mut self.0 {
            StartState::Starting(starting) => starting.as_mut().poll(cx),
            StartState::Settings(_) => Poll::Pending,
        }
    }
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start").finish_non_exhaustive()
    }
}

async fn start(
    config: Config,
    server: Box<dyn Serve>,
    with_signals: bool,
) -> Result<Running, Failure> {
    let limits = config.limits.resolve()?;
    if let Some(failure) = config.ambiguous_signal().filter(|_| with_signals) {
        return Err(failure);
    }
    let cannot_start = |error| Failure::from_error(error).context("cannot start the sentinel");
    let (events, inbox) = unbounded_channel();
    let log = Log::start(false, config.quiet).map_err(cannot_start)?;
    let handle = Handle::new(limits, Propagation::Futures, log, Manager::nobody(), events);
    handle.shared().set_runtime(tokio::runtime::Handle::current());
    let (report, over) = oneshot::channel();
    let kept = handle.clone();
    let end = move |ended: Ended, dumps| {
        let Ended { report: told, signals, settled, .. } = ended;
        // The receiver may have been dropped.
        let _ = report.send(told);
        {
            let _runtime = kept.shared().runtime().enter();
            kept.shared().kept.drop_all();
        }
        // A signal that still counts as one with the first must not end the program.
        let settled = settled.map(|at| at.saturating_duration_since(Instant::now()));
        std::thread::sleep(settled.unwrap_or_default());
        drop((signals, dumps));
    };
    let (signals, dumps): (&[Signal], &[Signal]) =
        if with_signals { (&config.signals, &config.dump) } else { (&[], &[]) };
    stop::spawn(handle.shared().clone(), inbox, signals, dumps, adopt, end)
        .map_err(cannot_start)?;
    // From here on a drop, early or not, stops what has been started.
    let mut running = Running { handle: handle.clone(), addrs: Vec::new(), over };
    let mut servers = Servers::default();
    server.collect(&mut servers);
    let bound = InContext::new(handle.shared(), launch::bind(&handle, servers)).await?;
    running.addrs = bound.iter().filter_map(|bound| bound.addr.clone()).collect();
    let any = !bound.is_empty();
    let tasks = launch::serve(&handle, bound);
    if any {
        let watched = handle.clone();
        handle.shared().spawn_quietly(async move { launch::ended(&watched, tasks).await });
    } else {
        // Nothing that could come to an end: only `stop` ends it.
        handle.shared().phase.advance(Phase::Serving);
    }
    Ok(running)
}

/// A server that [`Config::start`] has started.
///
/// Dropping it starts the drain, as [`Handle::stop`] does, and waits for nothing.
#[must_use = "dropping it stops the server"]
pub struct Running {
    handle: Handle,
    addrs: Vec<LocalAddr>,
    over: oneshot::Receiver<Report>,
}

impl Running {
    /// The address of the first TCP listener: what to connect to after binding port 0.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().next()
    }

    /// The addresses of all TCP listeners, in the order of the servers.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.addrs.iter().filter_map(LocalAddr::tcp)
    }

    /// The handle that the free functions act on in there.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Stops: delay, drain, cut, cleanup, as a signal would.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not undo the stop; the report is lost.
    pub async fn stop(self) -> Report {
        self.handle.stop();
        self.ended().await
    }

    /// Waits until the servers have ended by themselves, or something has called
    /// [`stop`](crate::stop).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the servers, as dropping `self` does.
    #[allow(clippy::missing_panics_doc, reason = "the sentinel always reports")]
    pub async fn ended(mut self) -> Report {
        let report = (&mut self.over).await;
        report.expect("the sentinel sends its report before it ends")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("addrs", &self.addrs)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
