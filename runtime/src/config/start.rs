//! `Config::start`: the same, inside of another program.

use std::{fmt, net::SocketAddr};

use tokio::sync::{mpsc::unbounded_channel, oneshot};

use super::builder::Config;
use crate::{
    context::{Handle, InContext},
    log::Log,
    serve::{Serve, Servers, launch},
    stop::{self, Ended, Event, Owns, Report},
    util::{Failure, LocalAddr},
};

impl Config {
    /// Starts `server` inside of the current tokio runtime, for tests and for programs that own
    /// their `main`: binds, serves on the runtime's threads, and returns once every listener is
    /// bound.
    ///
    /// Installs no signal handler, prints nothing (events go to `tracing`) and never ends the
    /// process. The free functions ([`spawn`](crate::spawn), [`shutdown`](crate::shutdown), …) work
    /// in the server's handlers and in tasks spawned through this crate; elsewhere, use
    /// [`Running::handle`]. The settings of the runtime and the signals of this `Config` do not
    /// apply.
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
    pub async fn start<S: Serve>(self, server: S) -> Result<Running, Failure> {
        let limits = self.limits.resolve()?;
        let cannot_start = |error| Failure::from_error(error).context("cannot start the sentinel");
        let (events, inbox) = unbounded_channel();
        let log = Log::start(false).map_err(cannot_start)?;
        let handle = Handle::new(limits, Owns::Nothing, log, events);
        handle.shared().set_runtime(tokio::runtime::Handle::current());
        let (report, over) = oneshot::channel();
        // The receiver may have been dropped.
        let end = move |ended: Ended| drop(report.send(ended.report));
        stop::spawn(handle.shared().clone(), inbox, &[], end).map_err(cannot_start)?;
        // From here on a drop, early or not, stops what has been started.
        let mut running = Running { handle: handle.clone(), addrs: Vec::new(), over };
        let mut servers = Servers::default();
        Box::new(server).collect(&mut servers);
        let bound = InContext::new(handle.shared(), launch::bind(&handle, servers)).await?;
        running.addrs = bound.iter().filter_map(|bound| bound.addr.clone()).collect();
        let any = !bound.is_empty();
        let tasks = launch::serve(&handle, bound);
        if any {
            let watched = handle.clone();
            handle.shared().runtime().spawn(async move { launch::ended(&watched, tasks).await });
        } else {
            // Nothing that could come to an end: only `stop` ends it.
            handle.shared().tell(Event::Serving);
        }
        Ok(running)
    }
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
