//! `Config::start`: runs servers inside another program.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::sync::oneshot;

use super::{builder::Config, launch::Surroundings};
use crate::{
    context::{Handle, InContext},
    log::Log,
    manager::Manager,
    serve::{BoxFuture, Serve, Servers, launch},
    stop::{Ended, Propagation, Report},
    util::{Failure, LocalAddr},
};

impl Config {
    /// Starts `server` inside the current tokio runtime, for tests and for programs that own their
    /// `main`. Binds the listeners, serves on the runtime's threads, and returns once every
    /// listener is bound.
    ///
    /// Installs no signal handler ([`Start::signals`] does), prints nothing (events go to
    /// `tracing`) and never ends the process. The free functions ([`spawn`](crate::spawn),
    /// [`shutdown`](crate::shutdown), …) work in the server's handlers and in tasks spawned through
    /// this crate; elsewhere, use [`Running::handle`]. The runtime settings of this `Config` do not
    /// apply.
    ///
    /// # Errors
    ///
    /// Returns an error if a server cannot be bound, a duration cannot be read from the
    /// environment, or the thread that watches the limits cannot be started.
    ///
    /// # Panics
    ///
    /// Panics if called outside of a tokio runtime.
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

/// A future that starts a server and resolves to [`Running`], returned by [`Config::start`].
///
/// # Cancel safety
///
/// Dropping it stops everything that has been started.
#[must_use = "futures do nothing unless polled"]
pub struct Start(StartState);

enum StartState {
    Settings(Box<(Config, Box<dyn Serve>, bool)>),
    Starting(BoxFuture<Result<Running, Failure>>),
}

impl Start {
    /// Lets the [`signals`](Config::signals) of the `Config` stop the server, as under
    /// [`run`](Config::run): the first signal starts the drain, a second one ends it at once. The
    /// process keeps running: [`Running::ended`] resolves with the report, and the signals have
    /// their default actions again.
    ///
    /// # Panics
    ///
    /// Panics if the future has been polled before.
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
    let cannot_start = |error| Failure::from_error(error).context("cannot start the log");
    let surroundings = Surroundings {
        log: Log::start(false, config.quiet).map_err(cannot_start)?,
        manager: Manager::nobody(),
        propagation: Propagation::Futures,
        has_signals: with_signals,
        #[cfg(feature = "handover")]
        handover: None,
    };
    let (report, over) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let kept_in = runtime.clone();
    let end = move |ended: Ended| {
        let Ended { report: told, signals, asides, settled, kept, .. } = ended;
        // The receiver may have been dropped.
        let _ = report.send(told);
        {
            let _runtime = kept_in.enter();
            kept.drop_all();
        }
        // A repeat of the first signal within the debounce time must not end the program.
        let settled = settled.map(|at| at.saturating_duration_since(Instant::now()));
        std::thread::sleep(settled.unwrap_or_default());
        drop((signals, asides));
    };
    let (handle, _) = config.launch(surroundings, |_| Ok(runtime), end)?;
    // From here on, dropping `running` stops everything that has been started.
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
        // There is no server that could end: only `stop` ends the run.
        handle.shared().begin_to_serve();
    }
    Ok(running)
}

/// A running server, started by [`Config::start`].
///
/// Dropping it starts the drain, as [`Handle::stop`] does, without waiting for it.
#[must_use = "dropping it stops the server"]
pub struct Running {
    handle: Handle,
    addrs: Vec<LocalAddr>,
    over: oneshot::Receiver<Report>,
}

impl Running {
    /// Returns the address of the first TCP listener, to connect to after binding port 0.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().next()
    }

    /// Returns the addresses of all TCP listeners, in the order of the servers.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.addrs.iter().filter_map(LocalAddr::tcp)
    }

    /// Returns the handle that the free functions act on inside the server.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Stops the server as a signal would: delay, drain, cut, cleanup.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not undo the stop, but loses the report.
    pub async fn stop(self) -> Report {
        self.handle.stop();
        self.ended().await
    }

    /// Waits until the servers have ended by themselves or a stop, such as by
    /// [`stop`](crate::stop), is over. Returns the report.
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
