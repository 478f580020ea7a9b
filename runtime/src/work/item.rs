//! What the table of work asks of each piece.

#[cfg(feature = "http1")]
use std::time::Duration;
use std::time::Instant;

use super::{counts::WorkKind, in_flight::InFlight};

/// A piece of work: a connection, a task, a server, `main`.
pub(crate) trait WorkItem: Send + Sync {
    /// Says what runs in it at `now`; an idle connection says nothing but that it is there.
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>);

    /// Since when the oldest of what runs in it has been running; `None`: it is idle. Makes no text.
    fn oldest(&self) -> Option<Instant>;

    /// What it counts as in messages and in the report.
    fn kind(&self) -> WorkKind;

    /// How many requests run in it.
    fn requests(&self) -> usize {
        0
    }

    /// Lets go of what is not needed while idle, if it has been idle for so long. Returns whether
    /// there is still something to let go of.
    #[cfg(feature = "http1")]
    fn sweep(&self, _idle: Duration) -> bool {
        false
    }

    /// The drain has started: wakes the task that has to act on it.
    fn drain(&self) {}

    /// The limit has cut the drain: ends the work as far as that can be done from outside.
    fn cut(&self) {}

    /// Whether it has come to its end by itself, whatever the cut did meanwhile.
    fn has_ended(&self) -> bool;

    /// Whether it counts as drained, now that it is over and nothing has been cut by the limit.
    fn is_drained(&self) -> bool {
        true
    }

    /// Takes out of `described`, which is what `describe` said at `then`, just before the cut,
    /// whatever came to its end by itself all the same.
    fn forget_ended(&self, _then: Instant, described: &mut Vec<InFlight>) {
        if self.has_ended() {
            described.clear();
        }
    }
}
