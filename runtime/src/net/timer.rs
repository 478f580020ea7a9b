//! One timer for a connection, armed only when there is something to wait for.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::time::Sleep;

/// Fires at a deadline that moves. Moving it to later costs nothing: the timer that is armed fires
/// once in vain and is armed again.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Whether `deadline` has passed; if not, the task is woken when it does.
    pub(crate) fn has_passed(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        let deadline = deadline.into();
        // At the drain most deadlines of idle connections have passed already: no timer for these.
        if tokio::time::Instant::now() >= deadline {
            return true;
        }
        loop {
            let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            match sleep.as_mut().poll(cx) {
                Poll::Pending => return false,
                Poll::Ready(()) => {
                    let passed =
                        sleep.deadline() >= deadline || tokio::time::Instant::now() >= deadline;
                    self.0 = None;
                    if passed {
                        return true;
                    }
                }
            }
        }
    }
}
