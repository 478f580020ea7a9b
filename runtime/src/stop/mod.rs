//! A stop, from the first signal to the exit code: the sentinel and all that it decides.
//!
//! The way of a stop: an `Event` or a signal → `sentinel` → `sequence`, which moves the `PhaseCell`
//! on and waits for the work and the hooks → `Report` → `Exit` (`teardown`).
//!
//! May use: `util`, `signal`, `log`, `manager`, `work`. Must not know: which kinds of work there
//! are, and how code finds the context it belongs to.

mod exit;
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

pub(crate) use limits::{Limits, bounded};
pub(crate) use order::OrderedStop;
pub(crate) use phase::{Phase, PhaseCell};
pub(crate) use sentinel::{Ended, spawn};
pub(crate) use sentinel::{ProcessEnd, teardown};
pub(crate) use shared::{Event, Propagation, Scope, Shared};
