//! Work that the drain waits for: every piece is counted, and listed so that it can be named.
//!
//! May use: `util`, `log`. Must not know: when a stop begins, and what it does.

mod counts;
mod in_flight;
mod pending;
mod table;
mod task;

pub use in_flight::{ConnectionState, InFlight, Progress};

pub(crate) use counts::{Counts, WorkKind};
pub(crate) use in_flight::{Brief, Name};
pub(crate) use table::Oldest;
pub(crate) use table::{InFlightSnapshot, Key, Work, WorkItem};
pub(crate) use task::{CountWaiting, Role, TaskGuard, TaskName, spawn, spawn_blocking};
