//! Tasks that the program cannot do without.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
};

use crate::{
    stop::{Event, Phase, Shared},
    util::{Failure, Outcome, Sealed, panic_message, poll_catching_panics},
};

/// Runs `future`, and has its end, unless the drain has begun, or its failure stop the program.
pub(super) fn run<O>(
    shared: Arc<Shared>,
    name: String,
    future: impl Future<Output: Outcome<O>>,
) -> impl Future<Output = ()> {
    // Made here: what is aborted before its first poll has ended, too.
    guarded(Alarm { shared, name, armed: true }, future)
}

async fn guarded<O>(mut alarm: Alarm, future: impl Future<Output: Outcome<O>>) {
    let mut future = std::pin::pin!(future);
    let failure = match poll_fn(|cx| poll_catching_panics(|| future.as_mut().poll(cx))).await {
        Ok(outcome) => match outcome.outcome(Sealed) {
            // The alarm says it, if there is anything to say.
            Ok(()) => return,
            Err(failure) => failure,
        },
        Err(panic) => Failure::new(format!("panicked: {}", panic_message(&*panic))),
    };
    alarm.fail(failure);
}

/// Goes off when the task has ended, in whichever way: also by an abort.
struct Alarm {
    shared: Arc<Shared>,
    name: String,
    armed: bool,
}

impl Alarm {
    fn fail(&mut self, failure: Failure) {
        self.armed = false;
        let failure = failure.context(&format!("task {}", self.name));
        self.shared.tell(Event::Failed(failure));
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.armed && self.shared.phase.now() < Phase::Draining {
            self.fail(Failure::new("has ended, and the program cannot do without it"));
        }
    }
}
