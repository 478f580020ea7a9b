//! What a connection may be, what each state becomes on which event, and what bounds it: decisions
//! alone, which do nothing. `table` has the states, `bounds` their deadlines.

mod bounds;
mod table;
#[cfg(all(test, not(graceful_loom)))]
mod walk;

pub(super) use bounds::{Action, ServingLimits, Timestamps};
pub(super) use table::{Behind, ConnEvent, ConnState};
