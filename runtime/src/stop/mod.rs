//! A stop, from the first signal to the exit code: the sentinel and everything that it decides.
//!
//! The course of a stop: an `Event` or a signal → `sentinel` → `sequence`, which advances the
//! `PhaseCell` and waits for the work and the hooks → `Report` → `Exit` (`teardown`).
//!
//! May use: `util`, `signal`, `log`, `manager`, `work`. Must not know: which kinds of work there
//! are, and how code finds its context.

mod exit;
#[cfg(any(feature = "metrics", feature = "probes"))]
mod figures;
mod final_figures;
mod goodbyes;
mod hooks;
mod limits;
mod messages;
mod order;
mod phase;
mod ready;
mod report;
mod run_hooks;
mod sentinel;
mod sequence;
mod shared;

pub use exit::Exit;
pub use ready::Listening;
pub use report::{Cause, Report};

#[cfg(feature = "probes")]
pub(crate) use figures::{Figure, FigureKind};
#[cfg(feature = "http1")]
pub(crate) use goodbyes::polling;
pub(crate) use goodbyes::{Fraction, OwnsStream};
pub(crate) use limits::{Limits, bounded};
pub(crate) use order::{Members, OrderedStop};
pub(crate) use phase::Phase;
#[cfg(feature = "handover")]
pub(crate) use sentinel::Companion;
pub(crate) use sentinel::{Ended, Meanings, spawn, teardown};
pub(crate) use shared::{Event, Propagation, Scope, Shared};
