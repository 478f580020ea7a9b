//! What the rest of the crate tells the sentinel.

use crate::util::Failure;

#[derive(Debug)]
pub(crate) enum Event {
    /// The program calls for the drain.
    Stop,
    /// `main` or a server failed.
    Failed(Failure),
    /// `main` panicked.
    Panicked,
    /// `main` and every server have come to an end.
    Finished,
}
