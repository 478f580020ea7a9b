//! A poll whose panic is a result.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
    thread,
};

/// Polls; a panic makes it ready. Whoever panics must not be polled again.
pub(crate) fn poll_caught<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<thread::Result<T>> {
    match catch_unwind(AssertUnwindSafe(poll)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    }
}
