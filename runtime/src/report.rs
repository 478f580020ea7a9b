//! What happened between the first stop signal and the end.

use std::{fmt, time::Duration};

use crate::{
    exit::Exit,
    failure::Failure,
    in_flight::{Age, InFlight},
    signal::Signal,
    work::Counts,
};

/// Why the drain started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// A signal came.
    Signal(Signal),
    /// The program called [`stop`](crate::stop).
    Stop,
    /// `main` or a server failed; [`Report::failures`] says how.
    Failed,
    /// `main` panicked.
    Panicked,
    /// `main` and every server came to an end by themselves.
    Finished,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "{signal} received"),
            Self::Stop => f.write_str("stop requested"),
            Self::Failed => f.write_str("failed"),
            Self::Panicked => f.write_str("main panicked"),
            Self::Finished => f.write_str("finished"),
        }
    }
}

/// What happened during a stop: why, how long it took, what was drained and what was cut off.
///
/// Returned by [`Running::stop`](crate::Running::stop); printed at the end of a process under
/// [`graceful::main`](macro@crate::main). Its [`Display`](fmt::Display) form is that message.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let running = graceful::Config::new().start(()).await.unwrap();
/// let report = running.stop().await;
/// assert!(report.is_clean());
/// assert_eq!(report.exit().code(), 0);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Report {
    pub(crate) cause: Cause,
    pub(crate) elapsed: Duration,
    pub(crate) limit: Option<Duration>,
    pub(crate) cleanup: Option<Duration>,
    pub(crate) connections: usize,
    pub(crate) requests: usize,
    pub(crate) tasks: usize,
    pub(crate) cut: Vec<InFlight>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) panicked: bool,
    pub(crate) forced: Option<Signal>,
}

/// How many lines of what was cut are printed.
const LINES: usize = 20;

impl Report {
    /// Why the drain started.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// From the first stop signal to the end of the cleanup.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// How many connections ended during the drain, without being cut.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// How many requests were completely answered during the drain.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests
    }

    /// How many tasks ended during the drain, without being cut.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// What the limit, or a second signal, cut off; the oldest first.
    #[must_use]
    pub fn cut(&self) -> &[InFlight] {
        &self.cut
    }

    /// What failed: `main`, servers.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// The second signal, where one forced the end.
    #[must_use]
    pub fn forced(&self) -> Option<Signal> {
        self.forced
    }

    /// Whether everything was drained: nothing cut, nothing failed, nothing forced.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.exit() == Exit::new(0)
    }

    fn drained(&self) -> Counts {
        Counts { connections: self.connections, requests: self.requests, tasks: self.tasks }
    }

    /// The exit code that says this, as in the table at [`Exit`].
    pub fn exit(&self) -> Exit {
        match self.forced {
            Some(signal) => Exit::new(128 + signal.number()),
            None if self.panicked => Exit::new(101),
            None if !self.failures.is_empty() => Exit::FAILED,
            None if !self.cut.is_empty() => Exit::new(124),
            None => Exit::new(0),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elapsed = Age(self.elapsed);
        match self.forced {
            Some(signal) => write!(f, "{signal} received, stopped at once after {elapsed}")?,
            None if !self.cut.is_empty() => {
                let hooks = self.cut.iter().all(|work| matches!(work, InFlight::Hook { .. }));
                let (what, limit) =
                    if hooks { ("cleanup limit", self.cleanup) } else { ("limit", self.limit) };
                write!(f, "{what} of {} reached", Age(limit.unwrap_or(self.elapsed)))?;
            }
            None if self.drained() == Counts::default() => write!(f, "stopped in {elapsed}")?,
            None => write!(f, "drained {} in {elapsed}", self.drained())?,
        }
        if let [work] = &*self.cut {
            write!(f, ", cut off: {work}")?;
        } else if !self.cut.is_empty() {
            f.write_str(", cut off:")?;
            for work in self.cut.iter().take(LINES) {
                write!(f, "\n  {work}")?;
            }
            if self.cut.len() > LINES {
                write!(f, "\n  and {} more", self.cut.len() - LINES)?;
            }
        }
        Ok(())
    }
}
