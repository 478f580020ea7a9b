//! The report of a stop, from the first signal to the end.

use std::{fmt, time::Duration};

#[cfg(feature = "serde")]
use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::exit::Exit;
use crate::{
    signal::Signal,
    util::{Failure, HumanDuration},
    work::{Brief, Counts, InFlight},
};

/// Why the drain started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// A signal arrived.
    Signal(Signal),
    /// The program called [`stop`](crate::stop).
    Stop,
    /// `main` or a server failed; [`Report::failures`] says how.
    Failed,
    /// `main` panicked.
    Panicked,
    /// `main` and every server ended by themselves.
    Finished,
    /// The next version of the program, the process with this number, has taken over.
    Upgraded(u32),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "{signal} received"),
            Self::Stop => f.write_str("stop requested"),
            Self::Failed => f.write_str("failed"),
            Self::Panicked => f.write_str("main panicked"),
            Self::Finished => f.write_str("finished"),
            Self::Upgraded(process) => write!(f, "process {process} has taken over"),
        }
    }
}

/// The report of a stop: why it started, how long it took, what was drained and what was cut off.
///
/// Returned by [`Running::stop`](crate::Running::stop); printed at the end of a process under
/// [`graceful::main`](macro@crate::main). Its [`Display`](fmt::Display) form is that message.
///
/// # Examples
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
    pub(super) cause: Cause,
    pub(super) elapsed: Duration,
    pub(super) limit: Option<Duration>,
    pub(super) cleanup: Option<Duration>,
    pub(super) drained: Counts,
    pub(super) handed_over: usize,
    pub(super) last: Option<InFlight>,
    pub(super) cut: Vec<InFlight>,
    /// The limit that cut something off. If it is `None`, a task group's own limit may have, or the
    /// end of the process.
    pub(super) reached: Option<Reached>,
    pub(super) failures: Vec<Failure>,
    pub(super) panicked: bool,
    pub(super) forced: Option<Signal>,
}

/// The limit that cut something off: the drain's, if it did, else the cleanup's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    Drain,
    Cleanup,
}

/// How many pieces of work that were cut, or are in flight, are printed at most.
const LINES: usize = 20;

impl Report {
    /// Returns why the drain started.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Returns the time from the first stop signal to the end of the cleanup.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Returns how many connections ended during the drain without being cut.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.drained.connections()
    }

    /// Returns how many connections went to the next version of the program, which goes on with
    /// them.
    #[must_use]
    pub fn handed_over(&self) -> usize {
        self.handed_over
    }

    /// Returns how many requests were completely answered during the drain.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.drained.requests()
    }

    /// Returns how many tasks ended during the drain without being cut.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.drained.tasks()
    }

    /// Returns the last piece of work that ended by itself during the drain, with its age at that
    /// time: the work that the stop waited for. `None` if nothing ended, or only idle connections
    /// did.
    #[must_use]
    pub fn last(&self) -> Option<&InFlight> {
        self.last.as_ref()
    }

    /// Returns the work that the limit or a second signal cut off, oldest first.
    #[must_use]
    pub fn cut(&self) -> &[InFlight] {
        &self.cut
    }

    /// Returns the failures of `main`, servers and cleanup hooks.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Returns the second signal, if one forced the end.
    #[must_use]
    pub fn forced(&self) -> Option<Signal> {
        self.forced
    }

    /// Returns whether everything was drained: nothing was cut, failed or forced.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.code() == 0
    }

    /// Returns the matching exit code, as in the table at [`Exit`].
    pub fn exit(&self) -> Exit {
        Exit::new(self.code(), self.cleanup)
    }

    pub(super) fn code(&self) -> u8 {
        match self.forced {
            Some(signal) => 128 + signal.number(),
            None if self.panicked => 101,
            None if !self.failures.is_empty() => 1,
            None if !self.cut.is_empty() => 124,
            None => 0,
        }
    }

    /// Returns the whole report on one line.
    pub(super) fn line(&self) -> String {
        struct Line<'a>(&'a Report);
        impl fmt::Display for Line<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.write(f, "; ")
            }
        }
        Line(self).to_string()
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, between: &str) -> fmt::Result {
        let elapsed = HumanDuration(self.elapsed);
        match (self.forced, self.reached) {
            (Some(signal), _) => write!(f, "{signal} received, stopped at once after {elapsed}")?,
            (None, Some(reached)) => {
                let (what, limit) = match reached {
                    Reached::Drain => ("limit", self.limit),
                    Reached::Cleanup => ("cleanup limit", self.cleanup),
                };
                let limit = HumanDuration(limit.unwrap_or(self.elapsed));
                write!(f, "{what} of {limit} reached")?;
            }
            (None, None) if self.cut.iter().any(|work| !work.has_begun()) => {
                f.write_str("the hooks could not be run")?;
            }
            (None, None) if self.drained.is_nothing() && self.handed_over == 0 => {
                write!(f, "stopped in {elapsed}")?;
            }
            (None, None) => {
                let mut between = "";
                if self.handed_over > 0 {
                    let s = if self.handed_over == 1 { "" } else { "s" };
                    write!(f, "handed over {} connection{s}", self.handed_over)?;
                    between = ", ";
                }
                if !self.drained.is_nothing() {
                    write!(f, "{between}drained {}", self.drained)?;
                }
                write!(f, " in {elapsed}")?;
                if let Some(last) = &self.last {
                    write!(f, "; last: {}", Brief(last))?;
                }
            }
        }
        if self.cut.is_empty() {
            return Ok(());
        }
        f.write_str(", cut off:")?;
        // The first piece is on the line of the report if it is the only one, or if everything is
        // on one line.
        let first = if self.cut.len() == 1 || between == "; " { " " } else { between };
        write_list(f, &self.cut, first, between)
    }
}

/// Writes the first `LINES` of `pieces`, and how many more there are.
pub(super) fn write_list(
    out: &mut impl fmt::Write,
    pieces: &[InFlight],
    first: &str,
    between: &str,
) -> fmt::Result {
    let mut before = first;
    for work in pieces.iter().take(LINES) {
        write!(out, "{before}{work}")?;
        before = between;
    }
    match pieces.len().checked_sub(LINES) {
        None | Some(0) => Ok(()),
        Some(more) => write!(out, "{between}… and {more} more"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "\n  ")
    }
}

// The machine-readable report.

/// Serializes `cause`, `elapsed_ms`, `code` (the exit code), `requests`, `connections`, `tasks`
/// (how many were drained), `last`, `cut`, `failures`, `forced`.
#[cfg(feature = "serde")]
impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let failures: Vec<_> = self.failures.iter().map(ToString::to_string).collect();
        let mut report = serializer.serialize_struct("Report", 10)?;
        report.serialize_field("cause", &self.cause.to_string())?;
        report.serialize_field("elapsed_ms", &crate::log::millis(self.elapsed))?;
        report.serialize_field("code", &self.code())?;
        report.serialize_field("requests", &self.requests())?;
        report.serialize_field("connections", &self.connections())?;
        report.serialize_field("tasks", &self.tasks())?;
        report.serialize_field("last", &self.last)?;
        report.serialize_field("cut", &self.cut)?;
        report.serialize_field("failures", &failures)?;
        report.serialize_field("forced", &self.forced.map(|signal| signal.to_string()))?;
        report.end()
    }
}
