//! A stop, from the first signal to the exit code: the sentinel and all that it decides.
//!
//! The way of a stop: an `Event` or a signal → `sentinel` → `sequence`, which moves the `PhaseCell`
//! on and waits for the work and the hooks → `Report` → `Exit` → `stand_down` and `watch`.
//!
//! May use: `util`, `signal`, `log`, `manager`, `work`. Must not know: which kinds of work there are, and how
//! code finds the context it belongs to.

mod carrier;
mod cleanup;
mod dump;
mod event;
mod exit;
mod extension;
mod hooks;
mod kept;
mod limits;
mod messages;
mod not_ready;
mod phase;
mod progress;
mod ready;
mod report;
#[cfg(feature = "serde")]
mod report_serde;
mod run_hooks;
mod sentinel;
mod sequence;
mod shared;
mod stand_down;
mod turns;
mod watch;
mod watchdog;

pub use exit::Exit;
pub use ready::Listening;
pub use report::{Cause, Report};

pub(crate) use carrier::{Carrier, Scope};
pub(crate) use event::Event;
pub(crate) use limits::{Limits, bounded};
pub(crate) use phase::{Phase, PhaseCell};
pub(crate) use sentinel::{Ended, spawn};
pub(crate) use shared::Shared;
pub(crate) use stand_down::{ProcessEnd, stand_down};
pub(crate) use turns::Turn;
